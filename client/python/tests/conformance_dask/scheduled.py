"""A plugin of pytest: what Dask's tests compute runs on the scheduler `DASK_TESTS_SCHEDULER`.

Tests that name a scheduler themselves keep theirs.
"""

import os

import dask
import pytest

NAME = os.environ.get("DASK_TESTS_SCHEDULER", "manyhands")

if NAME == "manyhands":
    import manyhands.dask


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
