"""The 336,776 departures from New York in 2013 with pandas: who was late, and in what weather.

    python flights_pandas.py [folder]      # the folder that `make data` wrote; data/flights if none

A graph over the 48 parts of the table. A parsed part is a frame in shared memory, and the five
tasks that group it read it where it lies:

    part 00 - parse --+- by carrier --+
                      +- by hour      | merge, as a tree --+
                      +- by route     |                    |
    planes -----------+- by age       |                    +- report
    weather ----------+- by weather --+                    |
    part 01 - ...                     airlines, airports --+

All figures are counts and sums of whole minutes, so that the cluster and one process agree to the
last digit, whatever the order in which the parts meet.
"""

import sys
import time
from pathlib import Path

import manyhands as mh
import numpy as np
import pandas as pd

FOLDER = Path(__file__).resolve().parents[2] / "data" / "flights"
COLUMNS = [
    *("carrier", "tailnum", "origin", "dest", "hour", "time_hour"),
    *("dep_delay", "arr_delay", "distance"),
]
# Minutes from which a departure counts as late, as airlines count.
LATE = 15
# How many results one task of a tree merges.
FAN_IN = 8
# Routes with fewer flights than this in the year are left out of the worst ones.
ROUTE_MINIMUM = 100


@mh.task
def parse(path):
    """One part of the table of departures."""
    return pd.read_csv(path, usecols=COLUMNS)


@mh.task
def names(path):
    """The names of a table (airlines, airports) whose first two columns are a code and a name."""
    return pd.read_csv(path, usecols=[0, 1], index_col=0).name


def delays(flights, by):
    """The figures of each group, in whole numbers."""
    departed, arrived = flights.dep_delay.notna(), flights.arr_delay.notna()
    figures = pd.DataFrame(
        {
            "scheduled": np.ones(len(flights)),
            "cancelled": ~departed,
            "late": flights.dep_delay >= LATE,
            "dep_minutes": flights.dep_delay.fillna(0),
            "arrived": arrived,
            "arr_minutes": flights.arr_delay.fillna(0),
            "miles": flights.distance.where(arrived, 0),
            "worst": flights.dep_delay.fillna(0).clip(lower=0),
        }
    )
    return added(figures.astype("int64").set_index(pd.Index(by, name="group")))


def added(figures):
    """Rows of the same group become one: sums, but for the worst delay."""
    groups = figures.groupby(level=0)
    return groups.sum().assign(worst=groups.worst.max())


@mh.task
def by_carrier(flights):
    """Groups by the carrier's code."""
    return delays(flights, flights.carrier)


@mh.task
def by_hour(flights):
    """Groups by the scheduled hour of departure."""
    return delays(flights, flights.hour.map("{:02}".format))


@mh.task
def by_route(flights):
    """Groups by airports, like `EWR-ORD`."""
    return delays(flights, flights.origin + "-" + flights.dest)


@mh.task
def ages(path):
    """How old each plane was in 2013, by its tail number."""
    planes = pd.read_csv(path, usecols=["tailnum", "year"], index_col="tailnum")
    names = ["under 5 years", "5 to 9 years", "10 to 14 years", "15 to 19 years", "20 years up"]
    return pd.cut(2013 - planes.year, [-np.inf, 4, 9, 14, 19, np.inf], labels=names).astype("str")


@mh.task
def by_age(flights, ages):
    """Groups by the age of the plane."""
    return delays(flights, flights.tailnum.map(ages).fillna("age not known"))


@mh.task
def weather(path):
    """The kind of weather, by airport and hour."""
    hours = pd.read_csv(path).drop_duplicates(["origin", "time_hour"])
    kinds = {
        "heavy rain or snow": hours.precip >= 0.1,
        "fog": hours.visib < 3,
        "rain or snow": hours.precip > 0,
        "strong wind": hours.wind_speed >= 20,
    }
    kind = np.select(list(kinds.values()), list(kinds), default="fair")
    return pd.Series(kind, index=hours.origin + hours.time_hour, dtype="str")


@mh.task
def by_weather(flights, weather):
    """Groups by the weather at departure."""
    kind = (flights.origin + flights.time_hour).map(weather)
    return delays(flights, kind.fillna("weather not known"))


@mh.task
def merge(parts):
    """The groups of several parts as those of one."""
    return added(pd.concat(parts))


@mh.task
def report(carriers, hours, routes, ages, weather, airlines, airports):
    """All groups by what they are grouped by, under the names of airlines and airports."""

    def route(codes):
        origin, dest = codes.split("-")
        return f"{origin} to {airports.get(dest, dest)} ({dest})"

    return {
        "carriers": carriers.rename(index=airlines.to_dict()).sort_index(),
        "hours": hours,
        "routes": routes.rename(index=route).sort_index(),
        "ages": ages,
        "weather": weather,
    }


def tree(level):
    """Merges groups as a tree, so that no task waits for all of them."""
    while len(level) > FAN_IN:
        level = [merge.lazy(level[i : i + FAN_IN]) for i in range(0, len(level), FAN_IN)]
    return merge.lazy(level)


def parts_of(folder):
    """The files of the table of departures, in order."""
    found = sorted((folder / "parts").glob("*.csv"))
    if not found:
        raise FileNotFoundError(f"no parts in {folder / 'parts'}: run `make data` first")
    return found


def graph(folder):
    """The node of the report: nothing runs before its result is asked for."""
    age, kind = ages.lazy(folder / "planes.csv"), weather.lazy(folder / "weather.csv")
    parts = [parse.lazy(path) for path in parts_of(folder)]
    return report.lazy(
        tree([by_carrier.lazy(part) for part in parts]),
        tree([by_hour.lazy(part) for part in parts]),
        tree([by_route.lazy(part) for part in parts]),
        tree([by_age.lazy(part, age) for part in parts]),
        tree([by_weather.lazy(part, kind) for part in parts]),
        names.lazy(folder / "airlines.csv"),
        names.lazy(folder / "airports.csv"),
    )


def analyse(client, folder=FOLDER, progress=False):
    """The report, by the cluster of `client`. With `progress`, a bar shows how far it is."""
    return mh.compute(graph(folder), client=client, progress=progress)


def alone(folder=FOLDER):
    """The same by one pass over the whole table, in this process: `f(x)` is still a plain call."""
    flights = pd.concat(map(parse, parts_of(folder)), ignore_index=True)
    return report(
        by_carrier(flights),
        by_hour(flights),
        by_route(flights),
        by_age(flights, ages(folder / "planes.csv")),
        by_weather(flights, weather(folder / "weather.csv")),
        names(folder / "airlines.csv"),
        names(folder / "airports.csv"),
    )


def show(title, groups, rows=None):
    """Prints groups, latest on average first."""
    departed = groups.scheduled - groups.cancelled
    shown = pd.DataFrame(
        {
            "flights": groups.scheduled,
            "late, min": (groups.dep_minutes / departed).round(1),
            "late, %": (100 * groups.late / departed).round(1),
            "worst, h": (groups.worst / 60).round(1),
        }
    )
    order = shown.sort_values("late, min", ascending=False).head(rows)
    print(f"\n{order.rename_axis(title).to_string()}")


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    start = time.perf_counter()
    with mh.Client(preload=["pandas"]) as client:
        found = analyse(client, folder, progress=True)
    together = time.perf_counter() - start

    routes = found["routes"]
    show("worst routes", routes[routes.scheduled >= ROUTE_MINIMUM], 10)
    show("worst hours", found["hours"], 5)
    show("carriers", found["carriers"])
    show("weather at departure", found["weather"])
    show("age of the plane", found["ages"])

    start = time.perf_counter()
    expected = alone(folder)
    one_process = time.perf_counter() - start
    print(f"\nmanyhands   {together:5.2f} s, with the start of the cluster")
    print(f"one process {one_process:5.2f} s")
    for by, groups in expected.items():
        pd.testing.assert_frame_equal(found[by], groups)
    print("both agree in every figure")


if __name__ == "__main__":
    main()
