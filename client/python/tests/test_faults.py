"""Executors that die: no result is lost, and the next call finds an executor again. A scheduler
that dies: clients say so."""

import os
import signal
import subprocess
import sys

import killed_executor
import manyhands as mh
import pytest
from conftest import LIMIT_S, daemons


@pytest.fixture
def client():
    """A cluster of its own for each test: its executors are killed."""
    with mh.Client(workers=2) as client:
        yield client


def die_once(mark):
    """Kills its own executor, unless it did so before: then it returns its process."""
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return os.getpid()
    return os.kill(os.getpid(), signal.SIGKILL)


def die(_):
    os.kill(os.getpid(), signal.SIGKILL)


def same(value):
    return value


def test_an_executor_killed_halfway_costs_no_result(client):
    calm_s, killed_s, new = killed_executor.measure(client, tasks=400, ms=5)
    assert calm_s > 0 and killed_s > 0
    assert new >= 1, "an executor was started in place of the killed one"


def test_a_task_whose_executor_dies_runs_again(client, tmp_path):
    first = client.submit(os.getpid).result()
    again = client.submit(die_once, str(tmp_path / "mark")).result(timeout=60)
    assert again and isinstance(again, int)
    assert client.submit(same, first).result(timeout=60) == first


def test_a_task_that_always_dies_fails_and_says_how_often(client):
    with pytest.raises(mh.ExecutorDied, match="SIGKILL") as failed:
        client.submit(die, 0).result(timeout=60)
    assert "3" in str(failed.value), "the first attempt, and two more after crashes"


def test_crash_retries_says_how_often(client):
    with pytest.raises(mh.ExecutorDied, match="SIGKILL"):
        client.options(crash_retries=0).submit(die, 0).result(timeout=60)


def test_others_are_not_disturbed_by_one_that_dies(client):
    dying = [client.submit(die, number) for number in range(2)]
    well = [client.submit(same, number) for number in range(200)]
    assert client.gather(well) == list(range(200))
    for future in dying:
        assert isinstance(future.exception(timeout=60), mh.ExecutorDied)


def test_what_a_killed_executor_has_made_is_still_there(client):
    numpy = pytest.importorskip("numpy")
    made = [client.submit(large, number) for number in range(4)]
    pids = [pid for pid, _ in client.gather([client.submit(head, future) for future in made])]
    for pid in set(pids):
        os.kill(pid, signal.SIGKILL)
    for number, future in enumerate(made):
        assert numpy.all(future.result(timeout=60)[1] == number)


def large(number):
    """Its executor, and an array that lies in the object store."""
    import numpy

    return os.getpid(), numpy.full(100_000, number)


def head(made):
    """Who made it, and its first number."""
    pid, array = made
    return pid, int(array[0])


LOST = """
import sys, threading
import manyhands as mh

client = mh.Client(sys.argv[1])
future = client.submit(lambda: threading.Event().wait())
print(client.submit(abs, -1).result(), flush=True)
if sys.argv[2] == "waits":
    try:
        future.result()
    except mh.SessionClosed as error:
        print(error)
"""


@pytest.mark.parametrize("place", ["waits", "ends"])
def test_a_scheduler_that_is_killed_is_told_of(place, tmp_path):
    """Whoever waits for a result learns of it, and whoever ends and waits for that."""
    options = ("--client-grace", "3s", "--idle-timeout", "1s")
    with daemons(tmp_path, *options) as (scheduler, address):
        process = subprocess.Popen(
            [sys.executable, "-c", LOST, address, place],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout.readline() == "1\n"
        scheduler.kill()
        output, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0
    lost, unrun = errors.splitlines()
    assert "is lost: it is tried again for" in lost
    assert "not all that was submitted has run" in unrun and "no way back for 3 s" in unrun
    assert ("no way back for 3 s" in output) == (place == "waits")
