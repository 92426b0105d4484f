"""CSV chunks through a pipeline: a file that need not fit into memory, cleaned and summed up.

    python csv_pipeline.py [table] [out]   # data/flights/weather.csv, cleaned.csv if not said

Each chunk is a range of bytes that its first task reads by itself, so that this process never has
the table. Only so many chunks are under way at a time; cleaned ones are written in their order.

    range of bytes - parse - clean --+- written to the cleaned file, in order
                                     +- monthly sums - added up
"""

import csv
import io
import sys
import time
from collections import deque
from pathlib import Path

import manyhands as mh

TABLE = Path(__file__).resolve().parents[2] / "data" / "flights" / "weather.csv"
CHUNK_BYTES = 100_000
# Chunks that are under way at a time.
UNDER_WAY = 8
COLUMNS = ["airport", "hour", "celsius", "wind_kmh", "rain_mm"]


def cuts(path, chunk_bytes=CHUNK_BYTES):
    """The ranges of bytes of about this size that begin and end with a line, without the header."""
    with open(path, "rb") as table:
        table.readline()
        first, size = table.tell(), path.stat().st_size
        while first < size:
            table.seek(min(first + chunk_bytes, size))
            table.readline()
            yield first, table.tell()
            first = table.tell()


@mh.task
def parse(path, first, end):
    """The rows of a range of bytes, as dictionaries of text."""
    with open(path, "rb") as table:
        header = table.readline().decode().strip().split(",")
        table.seek(first)
        text = table.read(end - first).decode()
    return list(csv.DictReader(io.StringIO(text), header))


@mh.task
def clean(rows):
    """Metric units; rows without a temperature are left out, winds that cannot be are unknown."""
    known = [row for row in rows if row["temp"] != "NA"]
    return [
        {
            "airport": row["origin"],
            "hour": row["time_hour"],
            "celsius": round((float(row["temp"]) - 32) / 1.8, 1),
            "wind_kmh": number(row["wind_speed"], 1.609344, at_most=300),
            "rain_mm": number(row["precip"], 25.4, at_most=500),
        }
        for row in known
    ]


def number(text, factor, at_most):
    """A number in other units; None if it is not known or cannot be."""
    if text == "NA":
        return None
    value = round(float(text) * factor, 1)
    return value if value <= at_most else None


@mh.task
def monthly(rows):
    """Hours, sum of tenths of a degree, and of tenths of a millimetre of rain, by month."""
    sums = {}
    for row in rows:
        hours, celsius, rain = sums.get((row["airport"], row["hour"][:7]), (0, 0, 0))
        sums[row["airport"], row["hour"][:7]] = (
            hours + 1,
            celsius + round(10 * row["celsius"]),
            rain + round(10 * (row["rain_mm"] or 0)),
        )
    return sums


def added(all_sums):
    """The sums of several chunks as those of one."""
    total = {}
    for sums in all_sums:
        for key, figures in sums.items():
            total[key] = tuple(map(sum, zip(total.get(key, (0, 0, 0)), figures, strict=True)))
    return dict(sorted(total.items()))


def run(client, table, out, chunk_bytes=CHUNK_BYTES):
    """Writes the cleaned table to `out`, and returns its monthly sums."""
    sums, under_way = [], deque()
    with open(out, "w", newline="") as cleaned:
        writer = csv.DictWriter(cleaned, COLUMNS)
        writer.writeheader()
        for first, end in cuts(table, chunk_bytes):
            if len(under_way) == UNDER_WAY:
                writer.writerows(under_way.popleft().result())
            rows = client.submit(clean, client.submit(parse, table, first, end))
            sums.append(client.submit(monthly, rows))
            under_way.append(rows)
        for rows in under_way:
            writer.writerows(rows.result())
    return added(client.gather(sums))


def alone(table):
    """The cleaned rows and their monthly sums, in this process and in one piece."""
    rows = clean(parse(table, *next(cuts(table, chunk_bytes=1 << 40))))
    return rows, added([monthly(rows)])


def main():
    table = Path(sys.argv[1]) if len(sys.argv) > 1 else TABLE
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else Path("cleaned.csv")
    with mh.Client() as client:
        start = time.perf_counter()
        sums = run(client, table, out)
        together = time.perf_counter() - start
    for (airport, month), (hours, celsius, rain) in sums.items():
        print(f"{airport} {month}: {celsius / 10 / hours:5.1f} degrees, {rain / 10:6.1f} mm")
    start = time.perf_counter()
    rows, expected = alone(table)
    print(f"{len(rows):,} hours: {together:.2f} s, one process {time.perf_counter() - start:.2f} s")
    assert sums == expected
    print(f"both agree in every figure; the cleaned table is in {out}")


if __name__ == "__main__":
    main()
