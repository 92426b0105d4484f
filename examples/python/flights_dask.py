"""The same departures with Dask's data frames, which run on manyhands: one line says so.

    python flights_dask.py [folder]        # the folder that `make data` wrote; data/flights if none

What a user of Dask has stays as it is. A scheduler of `manyhands.dask` takes the place of
Dask's own; `scheduler="manyhands"` is the one of the default client.
"""

import sys
import time
from pathlib import Path

import dask
import dask.dataframe as dd
import manyhands as mh
import manyhands.dask
import pandas as pd

FOLDER = Path(__file__).resolve().parents[2] / "data" / "flights"
COLUMNS = ["carrier", "origin", "dest", "month", "dep_delay", "arr_delay", "distance"]
# Minutes from which a departure counts as late, as airlines count.
LATE = 15


def report(flights, airlines):
    """The figures by airline, airport and month. `flights` is a frame of pandas or of Dask."""
    flights = flights.assign(
        departed=flights.dep_delay.notnull().astype("int64"),
        late=(flights.dep_delay >= LATE).astype("int64"),
    )
    figures = {
        "flights": ("carrier", "count"),
        "departed": ("departed", "sum"),
        "late": ("late", "sum"),
        "minutes": ("dep_delay", "sum"),
        "worst": ("dep_delay", "max"),
        "miles": ("distance", "sum"),
    }
    named = flights.merge(airlines, on="carrier")
    return {
        "airline": named.groupby("name").agg(**figures),
        "origin": flights.groupby("origin").agg(**figures),
        "month": flights.groupby("month").agg(**figures),
    }


def analyse(client, folder=FOLDER):
    """The report, by Dask on the cluster of `client`."""
    flights = dd.read_csv(
        str(folder / "parts" / "*.csv"),
        usecols=COLUMNS,
        dtype={"dep_delay": "float64", "arr_delay": "float64"},
    )
    airlines = pd.read_csv(folder / "airlines.csv")
    with dask.config.set(scheduler=manyhands.dask.Scheduler(client)):
        (found,) = dask.compute(report(flights, airlines))
    return {by: groups.sort_index() for by, groups in found.items()}


def alone(folder=FOLDER):
    """The same with pandas, in this process."""
    parts = sorted((folder / "parts").glob("*.csv"))
    if not parts:
        raise FileNotFoundError(f"no parts in {folder / 'parts'}: run `make data` first")
    flights = pd.concat((pd.read_csv(path, usecols=COLUMNS) for path in parts), ignore_index=True)
    found = report(flights, pd.read_csv(folder / "airlines.csv"))
    return {by: groups.sort_index() for by, groups in found.items()}


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    with mh.Client(preload=["dask.dataframe"]) as client:
        start = time.perf_counter()
        found = analyse(client, folder)
        together = time.perf_counter() - start
    for by, groups in found.items():
        shown = pd.DataFrame(
            {
                "flights": groups.flights,
                "late, min": (groups.minutes / groups.departed).round(1),
                "late, %": (100 * groups.late / groups.departed).round(1),
            }
        )
        print(shown.rename_axis(by).to_string(), end="\n\n")
    start = time.perf_counter()
    expected = alone(folder)
    print(f"Dask on manyhands {together:5.2f} s, pandas {time.perf_counter() - start:5.2f} s")
    for by, groups in expected.items():
        pd.testing.assert_frame_equal(found[by], groups, check_dtype=False, check_index_type=False)
    print("both agree in every figure")


if __name__ == "__main__":
    main()
