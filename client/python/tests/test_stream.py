"""Generators as tasks."""

import asyncio
import functools
import gc
import itertools
import os

import manyhands as mh
import pytest
from conftest import LIMIT_S, pass_gate


def count(n):
    yield from range(n)


def fail_after(n):
    yield from range(n)
    raise ValueError("after the items")


def noted(path):
    """Endless; writes a byte for each item that it has made."""
    with open(path, "ab", buffering=0) as file:
        for n in itertools.count():
            file.write(b"x")
            yield n


def test_items_come_in_order(client):
    assert list(client.submit(count, 100)) == list(range(100))
    assert list(client.submit(count, 0)) == []
    assert list(client.options(retries=1).submit(count, 3)) == [0, 1, 2]


def test_items_come_while_the_task_runs(client, gate):
    def two():
        yield "first"
        yield pass_gate(gate, "second")

    stream = client.submit(two)
    assert stream.next(LIMIT_S) == "first"
    with pytest.raises(TimeoutError):
        stream.next(0.01)
    gate.open()
    assert stream.next(LIMIT_S) == "second"
    with pytest.raises(StopIteration):
        stream.next(LIMIT_S)


def test_what_it_raises_comes_after_the_items(client):
    stream = client.submit(fail_after, 40)
    assert list(itertools.islice(stream, 40)) == list(range(40))
    with pytest.raises(ValueError, match="after the items"):
        next(stream)
    with pytest.raises(StopIteration):
        next(stream)


def test_no_more_is_made_than_there_is_room_for(client, tmp_path):
    path = tmp_path / "made"
    with client.submit(noted, path) as stream:
        taken = [next(stream) for _ in range(10)]
        assert taken == list(range(10))
        # Room is for so many ahead, and one may be made that waits for room.
        assert os.path.getsize(path) <= 10 + mh._stream.AHEAD + 1


def test_closing_stops_the_task(client, bell):
    def endless():
        try:
            yield from itertools.count()
        finally:
            bell.ring()

    stream = client.submit(endless)
    assert next(stream) == 0
    stream.close()
    bell.wait()
    with pytest.raises(StopIteration):
        next(stream)


def test_dropping_stops_the_task(client, bell):
    def endless():
        try:
            yield from itertools.count()
        finally:
            bell.ring()

    for item in client.submit(endless):
        if item == 3:
            break
    gc.collect()
    bell.wait()


def test_large_items(client):
    pytest.importorskip("numpy")

    def arrays(n):
        import numpy

        for k in range(n):
            yield numpy.full(100_000, k)

    assert [int(array.sum()) for array in client.submit(arrays, 30)] == [
        k * 100_000 for k in range(30)
    ]


def test_async(client):
    async def main():
        found = [n async for n in client.submit(count, 50)]
        with pytest.raises(ValueError):
            async for _ in client.submit(fail_after, 1):
                pass
        return found

    assert asyncio.run(asyncio.wait_for(main(), LIMIT_S)) == list(range(50))


def test_an_async_for_waits_for_the_end_once(client):
    async def main():
        stream = client.submit(count, 200)
        found = []
        async for n in stream:
            found.append(n)
            extra = stream._end._extra
            assert extra is None or len(extra.calls) <= 1
        return found

    assert asyncio.run(asyncio.wait_for(main(), LIMIT_S)) == list(range(200))


def test_where_a_stream_is_no_answer_it_is_refused(client):
    with pytest.raises(TypeError, match="submit_many"):
        client.map(count, [1, 2])
    with pytest.raises(TypeError, match="nout"):
        client.options(nout=3).submit(count, 3)
    with pytest.raises(TypeError, match="nout"):
        mh.task(nout=3)(count).submit(3)
    assert [list(stream) for stream in client.submit_many(count, [1, 2])] == [[0], [0, 1]]
    # A function over a generator function is none.
    assert list(client.map(functools.wraps(count)(lambda n: n), [1, 2])) == [1, 2]


def test_a_stream_as_an_argument_says_what_to_do(client):
    stream = client.submit(numbers_for_an_argument, 3)
    with pytest.raises(TypeError, match=r"argument 1 of sum: a stream .*list\(stream\)"):
        client.submit(sum, stream)
    assert client.submit(sum, list(stream)).result() == 3


def numbers_for_an_argument(n):
    yield from range(n)
