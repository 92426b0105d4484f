//! The same figures without a cluster: one part after the other, in this thread.

use crate::delays::{by_age, by_carrier, by_hour, by_route, by_weather, merged};
use crate::flight::read_part;
use crate::report::{Report, Summary};
use crate::tables::{read_names, read_planes, read_weather};
use crate::{Data, DataError};

/// Reads the whole data set and sums it up, with the functions that the tasks run.
pub fn alone(data: &Data) -> Result<Report, DataError> {
    let planes = read_planes(&data.table("planes"))?;
    let weather = read_weather(&data.table("weather"))?;
    let mut all = Summary::default();
    for path in &data.parts {
        let flights = read_part(path)?;
        all.carriers = merged([all.carriers, by_carrier(&flights)]);
        all.hours = merged([all.hours, by_hour(&flights)]);
        all.routes = merged([all.routes, by_route(&flights)]);
        all.ages = merged([all.ages, by_age(&flights, &planes)]);
        all.weather = merged([all.weather, by_weather(&flights, &weather)]);
    }
    let airlines = read_names(&data.table("airlines"))?;
    let airports = read_names(&data.table("airports"))?;
    Ok(Report::new(all, &airlines, &airports))
}
