//! The figures with names, and how they are printed.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::delays::{Delays, Groups};
use crate::tables::Names;

/// Routes with fewer flights than this in the year are left out of the worst ones.
pub const ROUTE_MINIMUM: u64 = 100;

/// Everything that was found out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// All flights.
    pub total: Delays,
    /// By the carrier's name.
    pub carriers: Groups,
    /// By the scheduled hour of departure.
    pub hours: Groups,
    /// By the airports' names and codes.
    pub routes: Groups,
    /// By the plane's age.
    pub ages: Groups,
    /// By the weather at departure.
    pub weather: Groups,
}

/// The groups of all flights, before they are joined with names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// By the carrier's code.
    pub carriers: Groups,
    /// By the scheduled hour of departure.
    pub hours: Groups,
    /// By the airports' codes.
    pub routes: Groups,
    /// By the plane's age.
    pub ages: Groups,
    /// By the weather at departure.
    pub weather: Groups,
}

impl Report {
    /// Joins a summary with the names of airlines and airports.
    pub fn new(summary: Summary, airlines: &Names, airports: &Names) -> Report {
        let mut total = Delays::default();
        summary.carriers.values().for_each(|delays| total.add(delays));
        Report {
            total,
            carriers: renamed(summary.carriers, |code| name_of(code, airlines)),
            routes: renamed(summary.routes, |route| route_name(route, airports)),
            hours: summary.hours,
            ages: summary.ages,
            weather: summary.weather,
        }
    }

    /// The routes on which flights were latest on average, worst first.
    pub fn worst_routes(&self) -> Vec<(&String, &Delays)> {
        let enough = |(_, delays): &(_, &Delays)| delays.scheduled >= ROUTE_MINIMUM;
        worst_first(self.routes.iter().filter(enough))
    }

    /// The hours at which flights were latest on average, worst first.
    pub fn worst_hours(&self) -> Vec<(&String, &Delays)> {
        worst_first(self.hours.iter())
    }
}

fn renamed(groups: Groups, name: impl Fn(&str) -> String) -> Groups {
    groups.into_iter().map(|(key, delays)| (name(&key), delays)).collect()
}

fn name_of(code: &str, names: &Names) -> String {
    names.get(code).map_or_else(|| code.to_owned(), |name| format!("{name} ({code})"))
}

fn route_name(route: &str, airports: &Names) -> String {
    match route.split_once('-') {
        Some((from, to)) => format!("{from} to {}", name_of(to, airports)),
        None => route.to_owned(),
    }
}

/// By minutes late on average; equal ones by name, so that there is one order only.
fn worst_first<'a>(
    groups: impl Iterator<Item = (&'a String, &'a Delays)>,
) -> Vec<(&'a String, &'a Delays)> {
    let mut groups: Vec<_> = groups.collect();
    groups.sort_by(|(_, a), (_, b)| b.average().total_cmp(&a.average()));
    groups
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Delays { scheduled, cancelled, arrived, miles, .. } = self.total;
        writeln!(
            f,
            "{scheduled} departures on the schedule, {cancelled} cancelled, {arrived} arrived \
             after {:.0} million miles",
            miles as f64 / 1e6
        )?;
        section(f, "worst routes", self.worst_routes().into_iter().take(10))?;
        section(f, "worst hours", self.worst_hours().into_iter().take(5))?;
        section(f, "carriers", worst_first(self.carriers.iter()))?;
        section(f, "weather at departure", worst_first(self.weather.iter()))?;
        section(f, "age of the plane", worst_first(self.ages.iter()))
    }
}

fn section<'a>(
    f: &mut fmt::Formatter<'_>,
    title: &str,
    groups: impl IntoIterator<Item = (&'a String, &'a Delays)>,
) -> fmt::Result {
    writeln!(
        f,
        "\n{title:<44}{:>8} {:>10} {:>8} {:>10}",
        "flights", "late, min", "late, %", "worst, h"
    )?;
    for (name, delays) in groups {
        let hours = delays.worst as f64 / 60.0;
        writeln!(
            f,
            "  {name:<42}{:>8} {:>10.1} {:>8.1} {hours:>10.1}",
            delays.scheduled,
            delays.average(),
            delays.late_percent()
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_without_a_name_stay_and_the_others_are_named() {
        let names = Names::from([("ORD".to_owned(), "Chicago".to_owned())]);
        assert_eq!(route_name("EWR-ORD", &names), "EWR to Chicago (ORD)");
        assert_eq!(route_name("EWR-BQN", &names), "EWR to BQN");
    }
}
