"""A plugin of pytest: what Dask's tests compute runs on the scheduler `DASK_TESTS_SCHEDULER`.

So does what they compare with `assert_eq`, which computes on Dask's synchronous scheduler unless it
is told otherwise. Tests that name a scheduler themselves keep theirs.
"""

import importlib
import os

import dask
import pytest

NAME = os.environ.get("DASK_TESTS_SCHEDULER", "manyhands")

if NAME == "manyhands":
    import manyhands.dask

for collection in ("array", "bag", "dataframe"):
    compare = importlib.import_module(f"dask.{collection}.utils").assert_eq
    assert "sync" in compare.__defaults__
    compare.__defaults__ = tuple(NAME if d == "sync" else d for d in compare.__defaults__)


def pytest_addoption(parser):
    # Dask's own conftest has it, which is not installed.
    parser.addoption("--runslow", action="store_true")


def pytest_runtest_setup(item):
    if "slow" in item.keywords and not item.config.getoption("--runslow"):
        pytest.skip("slow")
    if "network" in item.keywords:
        pytest.skip("needs a network")


@pytest.fixture(scope="session", autouse=NAME == "manyhands")
def cluster():
    """One cluster for all tests, of two executors."""
    with manyhands.Client("local", workers=2) as client:
        yield client


@pytest.fixture(autouse=True)
def scheduled():
    """The scheduler of a test."""
    with dask.config.set(scheduler=NAME):
        yield
