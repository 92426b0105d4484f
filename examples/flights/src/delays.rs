//! What is summed up, and by what.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use serde::{Deserialize, Serialize};

use crate::flight::Flight;
use crate::tables::{Plane, Weather, plane_of, weather_of};

/// Minutes from which a departure counts as late, as airlines count.
pub const LATE: i16 = 15;

/// The flights of a group, in whole numbers: sums are the same in whatever order they are added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delays {
    /// Flights on the schedule.
    pub scheduled: u64,
    /// Of these, how many never departed.
    pub cancelled: u64,
    /// How many departed [`LATE`] minutes late or more.
    pub late: u64,
    /// Minutes late at departure, all together; early ones count against.
    pub dep_minutes: i64,
    /// How many arrived where they should.
    pub arrived: u64,
    /// Minutes late at arrival, all together; early ones count against.
    pub arr_minutes: i64,
    /// The longest delay at departure in minutes.
    pub worst: i64,
    /// Miles flown by those that arrived.
    pub miles: u64,
}

/// Groups by their name.
pub type Groups = BTreeMap<String, Delays>;

impl Delays {
    /// Counts one flight.
    pub fn count(&mut self, flight: &Flight) {
        self.scheduled += 1;
        if flight.dep_delay == Flight::NEVER {
            self.cancelled += 1;
        } else {
            self.late += u64::from(flight.dep_delay >= LATE);
            self.dep_minutes += i64::from(flight.dep_delay);
            self.worst = self.worst.max(i64::from(flight.dep_delay));
        }
        if flight.arr_delay != Flight::NEVER {
            self.arrived += 1;
            self.arr_minutes += i64::from(flight.arr_delay);
            self.miles += u64::from(flight.distance);
        }
    }

    /// Adds another group.
    pub fn add(&mut self, other: &Delays) {
        self.scheduled += other.scheduled;
        self.cancelled += other.cancelled;
        self.late += other.late;
        self.dep_minutes += other.dep_minutes;
        self.arrived += other.arrived;
        self.arr_minutes += other.arr_minutes;
        self.worst = self.worst.max(other.worst);
        self.miles += other.miles;
    }

    /// Minutes late at departure on average.
    pub fn average(&self) -> f64 {
        self.dep_minutes as f64 / (self.scheduled - self.cancelled).max(1) as f64
    }

    /// Departures that were late, of a hundred.
    pub fn late_percent(&self) -> f64 {
        100.0 * self.late as f64 / (self.scheduled - self.cancelled).max(1) as f64
    }
}

/// Adds all groups together, name by name.
pub fn merged(parts: impl IntoIterator<Item = Groups>) -> Groups {
    let mut parts = parts.into_iter();
    let mut all = parts.next().unwrap_or_default();
    for (name, delays) in parts.flatten() {
        all.entry(name).or_default().add(&delays);
    }
    all
}

/// By the carrier's code.
pub fn by_carrier(flights: &[Flight]) -> Groups {
    grouped(flights, |flight| flight.carrier, |carrier| carrier.as_str().to_owned())
}

/// By the scheduled hour of departure, as two digits.
pub fn by_hour(flights: &[Flight]) -> Groups {
    grouped(flights, |flight| flight.hour, |hour| format!("{hour:02}"))
}

/// By airports, like `EWR-ORD`.
pub fn by_route(flights: &[Flight]) -> Groups {
    let name = |(from, to): &(_, _)| route_name(from, to);
    grouped(flights, |flight| (flight.origin, flight.dest), name)
}

fn route_name(from: &crate::flight::Code<3>, to: &crate::flight::Code<3>) -> String {
    format!("{}-{}", from.as_str(), to.as_str())
}

/// By the age of the plane. `planes` are sorted by registration.
pub fn by_age(flights: &[Flight], planes: &[Plane]) -> Groups {
    let age = |flight: &Flight| match plane_of(flight, planes) {
        Some(plane) if plane.year > 0 => match 2013_u16.saturating_sub(plane.year) {
            0..5 => "under 5 years",
            5..10 => "5 to 9 years",
            10..15 => "10 to 14 years",
            15..20 => "15 to 19 years",
            _ => "20 years and more",
        },
        _ => "age not known",
    };
    grouped(flights, age, |age| (*age).to_owned())
}

/// By the weather at departure. `hours` are sorted by airport and hour.
pub fn by_weather(flights: &[Flight], hours: &[Weather]) -> Groups {
    let weather = |flight: &Flight| match weather_of(flight, hours) {
        None => "weather not known",
        Some(hour) if hour.precipitation >= 0.1 => "heavy rain or snow",
        Some(hour) if hour.visibility < 3.0 => "fog",
        Some(hour) if hour.precipitation > 0.0 => "rain or snow",
        Some(hour) if hour.wind >= 20.0 => "strong wind",
        Some(_) => "fair",
    };
    grouped(flights, weather, |weather| (*weather).to_owned())
}

/// Counts flights by key, and names the keys afterwards: once for a group, not once for a flight.
fn grouped<K: Eq + Hash>(
    flights: &[Flight],
    key: impl Fn(&Flight) -> K,
    name: impl Fn(&K) -> String,
) -> Groups {
    let mut groups = HashMap::<K, Delays>::new();
    for flight in flights {
        groups.entry(key(flight)).or_default().count(flight);
    }
    groups.iter().map(|(key, delays)| (name(key), *delays)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flight(dep_delay: i16, arr_delay: i16) -> Flight {
        let mut flight: Flight = bytemuck::Zeroable::zeroed();
        (flight.dep_delay, flight.arr_delay, flight.distance) = (dep_delay, arr_delay, 100);
        flight
    }

    #[test]
    fn cancelled_and_diverted_flights_count_where_they_should() {
        let flights =
            [flight(20, 5), flight(-3, Flight::NEVER), flight(Flight::NEVER, Flight::NEVER)];
        let all = by_hour(&flights)["00"];
        assert_eq!((all.scheduled, all.cancelled, all.late, all.arrived), (3, 1, 1, 1));
        assert_eq!((all.dep_minutes, all.arr_minutes, all.worst, all.miles), (17, 5, 20, 100));
        assert_eq!(all.average(), 8.5);
    }

    #[test]
    fn groups_of_parts_add_up_to_the_groups_of_the_whole() {
        let flights: Vec<_> = (0..90).map(|n| flight(n - 10, n - 20)).collect();
        let parts = flights.chunks(7).map(by_hour);
        assert_eq!(merged(parts), by_hour(&flights));
    }
}
