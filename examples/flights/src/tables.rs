//! Airlines, airports, planes and weather, which are joined to the departures.

use std::collections::BTreeMap;
use std::path::Path;

use bytemuck::{Pod, Zeroable};

use crate::DataError;
use crate::flight::{Code, Flight, Table};

/// Names by code.
pub type Names = BTreeMap<String, String>;

/// Reads a table (airlines, airports) of which the first two columns are a code and a name.
pub fn read_names(path: &Path) -> Result<Names, DataError> {
    let mut table = Table::open(path)?;
    let mut names = Names::new();
    while let Some(row) = table.next_row()? {
        names.insert(row.text("code", 0)?, row.text("name", 1)?);
    }
    Ok(names)
}

/// A plane.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Plane {
    /// Its registration.
    pub tail: Code<6>,
    /// When it was made; 0 when not known.
    pub year: u16,
}

/// Reads the table of planes, sorted by registration.
pub fn read_planes(path: &Path) -> Result<Vec<Plane>, DataError> {
    let mut table = Table::open(path)?;
    let mut planes = Vec::new();
    while let Some(row) = table.next_row()? {
        let tail = row.field("tailnum", 0, Code::new)?;
        planes.push(Plane { tail, year: row.known_number("year", 1)?.unwrap_or(0) });
    }
    planes.sort_by_key(|plane| plane.tail);
    Ok(planes)
}

/// The weather at an airport during an hour.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct Weather {
    /// Hours since the Unix epoch.
    pub hour_unix: u32,
    /// Wind in miles per hour.
    pub wind: f32,
    /// Rain or snow in inches.
    pub precipitation: f32,
    /// Miles that one can see.
    pub visibility: f32,
    /// The airport.
    pub origin: Code<3>,
    /// Always 0: plain data has no gaps.
    pub filled_up: u8,
}

/// Reads the table of weather, sorted by airport and hour.
pub fn read_weather(path: &Path) -> Result<Vec<Weather>, DataError> {
    let mut table = Table::open(path)?;
    let mut hours = Vec::new();
    while let Some(row) = table.next_row()? {
        hours.push(Weather {
            hour_unix: row.hour_unix("time_hour", 14)?,
            wind: row.known_number("wind_speed", 9)?.unwrap_or(0.0),
            precipitation: row.known_number("precip", 11)?.unwrap_or(0.0),
            visibility: row.known_number("visib", 13)?.unwrap_or(10.0),
            origin: row.field("origin", 0, Code::new)?,
            filled_up: 0,
        });
    }
    hours.sort_by_key(|hour| (hour.origin, hour.hour_unix));
    Ok(hours)
}

/// The plane of a flight, if the table has it. `planes` are sorted.
pub fn plane_of<'a>(flight: &Flight, planes: &'a [Plane]) -> Option<&'a Plane> {
    let found = planes.binary_search_by_key(&flight.tail, |plane| plane.tail).ok()?;
    Some(&planes[found])
}

/// The weather in which a flight departed, if the table has it. `hours` are sorted.
pub fn weather_of<'a>(flight: &Flight, hours: &'a [Weather]) -> Option<&'a Weather> {
    let key = (flight.origin, flight.hour_unix);
    let found = hours.binary_search_by_key(&key, |hour| (hour.origin, hour.hour_unix)).ok()?;
    Some(&hours[found])
}
