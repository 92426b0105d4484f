"""Futures of a task's own client: everything that waits for them, on the task's thread."""

import asyncio
import concurrent.futures
import sys
import threading

import manyhands as mh
import pytest
from conftest import LIMIT_S


def begun(n):
    return [mh.current().submit(abs, -k) for k in range(n)]


def stdlib_wait():
    futures = begun(3)
    done, not_done = concurrent.futures.wait(futures)
    assert not not_done
    return sorted(future.result() for future in done)


def stdlib_as_completed():
    return sorted(future.result() for future in concurrent.futures.as_completed(begun(3)))


def own_wait():
    return sorted(future.result() for future in mh.wait(begun(3), timeout=LIMIT_S).done)


def own_as_completed():
    return sorted(future.result() for future in mh.as_completed(begun(3), timeout=LIMIT_S))


def called_back():
    found = []
    for future in begun(3):
        future.add_done_callback(lambda ended: found.append(ended.result()))
    return found


def awaited():
    async def main():
        return [await future for future in begun(3)]

    return asyncio.run(main())


def gathered():
    async def main():
        return await mh.gather_async(begun(3))

    return asyncio.run(main())


def gathered_by_asyncio():
    async def main():
        return await asyncio.gather(*map(asyncio.wrap_future, begun(3)))

    return asyncio.run(main())


def in_an_async_for():
    async def main():
        return sorted([await future async for future in mh.as_completed(begun(3))])

    return asyncio.run(main())


def mapped():
    async def main():
        return [n async for n in mh.current().map(abs, [0, -1, -2])]

    return asyncio.run(main())


def streamed():
    def count(n):
        yield from range(n)

    async def main():
        return [n async for n in mh.current().submit(count, 3)]

    return asyncio.run(main())


WAYS = [
    *(stdlib_wait, stdlib_as_completed, own_wait, own_as_completed, called_back, awaited),
    *(gathered, gathered_by_asyncio, in_an_async_for, mapped, streamed),
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_task_waits(client, way):
    assert client.submit(way).result(LIMIT_S) == [0, 1, 2]


def test_a_task_waits_where_there_is_one_executor():
    with mh.Client("local", workers=1) as client:
        assert [client.submit(way).result(LIMIT_S) for way in WAYS] == [[0, 1, 2]] * len(WAYS)


def test_a_limit_of_frames_that_a_task_sets_is_not_that_of_the_task_it_runs_on():
    def nest(depth):
        """How the limit of the task below differs before and after."""
        if depth == 0:
            sys.setrecursionlimit(600)
            return []
        before = sys.getrecursionlimit()
        found = mh.current().submit(nest, depth - 1).result()
        return [*found, (before, sys.getrecursionlimit())]

    with mh.Client("local", workers=1) as client:
        found = client.submit(nest, 8).result(LIMIT_S)
    assert len(found) == 8
    # Past four processes for a slot, tasks run on top of others.
    assert max(before for before, _ in found) > min(before for before, _ in found)
    assert all(before == after for before, after in found)


def in_a_thread(call):
    """What the call raises in a thread of its own."""
    found = []

    def run():
        try:
            call()
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found


def test_another_thread_of_a_task_is_refused_in_words(client):
    def inner():
        future = mh.current().submit(abs, -1)
        ways = [
            mh.current,
            mh.Client,
            lambda: future.add_done_callback(print),
            lambda: concurrent.futures.wait([future]),
        ]
        raised = [in_a_thread(way) for way in ways]
        return [[(type(e).__name__, str(e)) for e in errors] for errors in raised]

    for errors in client.submit(inner).result(LIMIT_S):
        ((kind, text),) = errors
        assert kind == "RuntimeError"
        assert "task's own thread" in text


def test_a_result_in_another_thread_of_a_task_does_not_hang(client):
    def inner():
        future = mh.current().submit(abs, -1)
        errors = in_a_thread(future.result)
        return [isinstance(e, RuntimeError) for e in errors], future.result()

    refused, value = client.submit(inner).result(LIMIT_S)
    assert value == 1 and all(refused)


def test_settings_that_a_task_gives_to_its_client_are_ignored_with_a_warning(client):
    def inner():
        import warnings

        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            mh.Client()
            mh.Client(workers=3, env={"A": "b"})
        return [str(warning.message) for warning in seen]

    (text,) = client.submit(inner).result(LIMIT_S)
    assert "workers, env" in text
