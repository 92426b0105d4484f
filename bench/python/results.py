"""Writes the tables of a comparison into bench/RESULTS.md, between the marks that are there.

    python results.py RECORDS.jsonl RESULTS.md

Beside the records lie what bench.py's `table` and the scripts of this folder have printed
(RECORDS.jsonl.table.txt, .large_array.txt, ...): they are taken as they are.
"""

import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from importlib import metadata
from pathlib import Path

BEGIN, END = "<!-- compare:begin -->", "<!-- compare:end -->"
OURS, FLOOR = "manyhands", "inline"
PEERS = ["mp", "futures", "joblib", "dask", "ray"]
PRINTED = ["large_array", "held_futures", "killed_executor"]
# What DESIGN says must be reached, in the unit of the metric.
GOALS = {
    ("noop_throughput", "tasks/s"): 300_000,
    ("latency", "p50_us"): 70,
    ("chain", "graph_us/task"): 10,
    ("tree_reduce", "graph_us/task"): 8,
    ("small_args", "tasks/s"): 150_000,
    ("cpu_bound", "1ms_efficiency_%"): 97,
    ("memory", "bytes/future"): 400,
    ("memory", "idle_total_MiB"): 40,
    ("startup", "first_result_s"): 0.06,
    ("put_get", "put_MB/s"): 12_000,
    ("transfer", "64MiB_worker_worker_MB/s"): 4_000,
    ("broadcast", "MB/s"): 30_000,
    ("shuffle", "MB/s"): 1_400,
    ("dask_array", "total_s"): 0.5,
    ("dask_groupby", "total_s"): 0.4,
    ("fault", "extra_s"): 0.05,
}
# Figures that say how a case went rather than how good a system is.
LEFT_OUT = {"held_fill_s", "calm_s", "us/task", "stop_s"}


def medians(path):
    """The median of each (case, metric) and system."""
    values = {}
    for record in map(json.loads, Path(path).read_text().splitlines()):
        for metric, value in record.get("metrics", {}).items():
            where = values.setdefault((record["case"], metric), {})
            where.setdefault(record["system"], []).append(value)
    return {
        where: {system: statistics.median(found) for system, found in by.items()}
        for where, by in values.items()
    }


def times_as_good(metric, ours, theirs):
    """How many times as good our figure is: more is better of rates, less of all other units."""
    more_is_better = metric.endswith(("/s", "%", "finished"))
    ratio = (ours, theirs) if more_is_better else (theirs, ours)
    return ratio[0] / ratio[1] if ratio[0] > 0 and ratio[1] > 0 else None


def best_peer(metric, by):
    """The peer that is best at this, and its figure; None if no peer can do it."""
    able = [(system, by[system]) for system in PEERS if system in by]
    more_is_better = metric.endswith(("/s", "%", "finished"))
    return (max if more_is_better else min)(able, key=lambda found: found[1], default=None)


def number(value):
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def ratios(records):
    """The rows of the table that compares us to the best peer, to the floor and to the goal."""
    yield "| case | metric | manyhands | best peer | times as good | inline | times | goal |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for (case, metric), by in records.items():
        if OURS not in by or metric in LEFT_OUT:
            continue
        best, floor = best_peer(metric, by), by.get(FLOOR)
        against_best = best and times_as_good(metric, by[OURS], best[1])
        against_floor = floor and times_as_good(metric, by[OURS], floor)
        cells = [
            case,
            metric,
            number(by[OURS]),
            f"{best[0]} {number(best[1])}" if best else "",
            number(against_best),
            number(floor),
            number(against_floor),
            number(GOALS.get((case, metric))),
        ]
        yield f"| {' | '.join(cells)} |"


def machine():
    """The machine, the date and the versions: what a figure means nothing without."""
    with open("/proc/cpuinfo") as lines:
        models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    with open("/proc/meminfo") as lines:
        gib = int(next(lines).split()[1]) >> 20
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
    ).stdout.strip()
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("joblib", "dask", "ray"))
    return (
        f"{datetime.date.today()}, {len(models)} cores of {models[0] if models else 'unknown'}, "
        f"{gib} GiB, Linux {platform.release()}, load at the end {os.getloadavg()[0]:.2f}; "
        f"CPython {platform.python_version()}, {versions}; commit {commit}."
    )


def section(records):
    """All of what lies between the marks."""
    yield machine()
    yield ""
    yield from ratios(medians(records))
    for name in PRINTED:
        printed = Path(f"{records}.{name}.txt")
        if printed.exists():
            yield f"\n`bench/python/{name}.py`:\n\n```text\n{printed.read_text().rstrip()}\n```"
    table = Path(f"{records}.table.txt")
    if table.exists():
        yield f"\nAll systems, median [lowest-highest]:\n\n{table.read_text().strip()}"


def main():
    records, results = sys.argv[1:]
    text = Path(results).read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    between = "\n".join(section(records))
    Path(results).write_text(f"{before}{BEGIN}\n{between}\n{END}{after}")


if __name__ == "__main__":
    main()
