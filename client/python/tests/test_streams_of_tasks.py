"""Generators as tasks, as their processes run them."""

from __future__ import annotations

import os

import manyhands as mh
import pytest
from conftest import LIMIT_S, until

numpy = pytest.importorskip("numpy")


@pytest.fixture(scope="module")
def one():
    """A cluster of a single executor."""
    with mh.Client("local", workers=1) as client:
        yield client


def test_items_of_all_kinds_in_order(one):
    def make():
        yield 1
        yield "two"
        yield numpy.arange(100_000)
        yield [3, {"a": b"x" * 70_000}]

    first, second, array, last = one.submit(make)
    assert (first, second, last) == (1, "two", [3, {"a": b"x" * 70_000}])
    assert array.tolist() == list(range(100_000))


def test_no_more_is_made_than_there_is_room_for(one, tmp_path):
    def count(file):
        for n in range(10_000):
            with open(file, "w") as written:
                written.write(str(n))
            yield n

    file = tmp_path / "made"
    stream = one.submit(count, str(file))
    assert [next(stream) for _ in range(10)] == list(range(10))
    # Another task gets the slot, so the generator waits.
    assert one.submit(abs, -1).result(timeout=LIMIT_S) == 1
    assert int(file.read_text()) < 100
    stream.close()


def test_what_a_generator_raises_comes_behind_its_items(one):
    def fail():
        yield 1
        raise KeyError("then")

    stream = one.submit(fail)
    assert next(stream) == 1
    with pytest.raises(KeyError, match="then"):
        next(stream)


def test_a_generator_that_is_stopped_cleans_up(one, tmp_path):
    def make(file):
        try:
            while True:
                yield os.getpid()
        finally:
            open(file, "w").close()

    file = tmp_path / "cleaned"
    with one.submit(make, str(file)) as stream:
        pid = next(stream)
    until(file.exists, "the generator to clean up")
    assert one.submit(os.getpid).result(timeout=LIMIT_S) == pid


def test_a_stream_may_use_other_tasks(one):
    def make():
        for n in range(5):
            yield mh.current().submit(abs, -n).result()

    assert list(one.submit(make)) == list(range(5))
