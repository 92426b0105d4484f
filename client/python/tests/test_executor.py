"""The client as a `concurrent.futures.Executor`, as CPython tests its own."""

import asyncio
import concurrent.futures
import gc
import itertools
import operator
import os
import threading
import weakref
from pathlib import Path

import manyhands as mh
import pytest
from conftest import LIMIT_S, pass_gate


def touch(path):
    Path(path).touch()


def fail(text):
    raise ValueError(text)


def test_it_is_an_executor(client):
    assert isinstance(client, concurrent.futures.Executor)
    assert isinstance(client.options(retries=1), concurrent.futures.Executor)


def test_submit_passes_arguments_on(client):
    assert client.submit(pow, 2, 8).result(LIMIT_S) == 256
    assert client.submit(int, "1010", base=2).result(LIMIT_S) == 10
    assert client.submit(dict, self=1, fn=2, args=3).result(LIMIT_S) == {
        "self": 1,
        "fn": 2,
        "args": 3,
    }


def test_submit_refuses_what_is_no_function(client):
    with pytest.raises(TypeError):
        client.submit(42)
    with pytest.raises(TypeError):
        client.submit()


def test_tasks_run_in_other_processes(client):
    assert client.submit(os.getpid).result(LIMIT_S) != os.getpid()


def test_map_is_in_order(client):
    assert list(client.map(pow, range(10), range(10))) == list(map(pow, range(10), range(10)))
    assert list(client.map(pow, range(100), itertools.repeat(2), chunksize=7)) == [
        n**2 for n in range(100)
    ]


def test_map_ends_with_the_shortest(client):
    assert list(client.map(operator.add, [1, 2, 3], [1])) == [2]
    assert list(client.map(abs, [])) == []


def test_map_raises_in_the_place_of_the_item_that_failed(client):
    results = client.map(divmod, [1, 1, 1, 1], [2, 3, 0, 5])
    assert [next(results), next(results)] == [(0, 1), (0, 1)]
    with pytest.raises(ZeroDivisionError):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_map_makes_one_task_of_a_chunk(client):
    results = client.map(operator.add, range(10), itertools.count(1), chunksize=4)
    assert len(results) == 10
    assert [next(results), len(results)] == [1, 9]
    assert list(results) == [2 * n + 1 for n in range(1, 10)]
    assert len(results) == 0
    base = 5
    assert list(client.map(lambda x: x + base, range(5), chunksize=2)) == [5, 6, 7, 8, 9]
    with pytest.raises(TypeError, match="function <lambda>"):
        held = threading.Lock()
        client.map(lambda x: held, range(5), chunksize=2)


def touch_or_fail(path):
    if not path.exists():
        path.touch()
        raise ValueError("the first attempt")
    return path.name


def test_chunks_have_the_options_of_their_task(client, tmp_path):
    persistent = mh.task(retries=2)(touch_or_fail)
    names = ["a", "b"]
    assert list(client.map(persistent, [tmp_path / n for n in names], chunksize=2)) == names
    with pytest.raises(ValueError):
        list(client.options(retries=0).map(persistent, [tmp_path / "c"], chunksize=2))


def test_a_chunk_fails_as_a_whole(client):
    results = client.map(divmod, [1] * 6, [1, 1, 1, 0, 1, 1], chunksize=2)
    assert [next(results), next(results)] == [(1, 0), (1, 0)]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == []
    assert len(results) == 0


def test_chunks_are_waited_for_and_closed_as_calls_are(client, gate):
    results = client.map(pass_gate, [gate] * 4, timeout=0, chunksize=2)
    with pytest.raises(TimeoutError):
        next(results)
    results = client.map(abs, itertools.count(), chunksize=3, buffersize=6)
    assert len(results) == 6, "two chunks"
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert len(results) == 6
    results.close()
    assert len(results) == 0

    async def taken():
        return [x async for x in client.map(abs, range(-5, 0), chunksize=2)]

    assert asyncio.run(taken()) == [5, 4, 3, 2, 1]


def test_map_refuses_sizes_that_make_no_sense(client):
    for wrong in ({"chunksize": 0}, {"buffersize": 0}):
        with pytest.raises(ValueError):
            client.map(abs, [1], **wrong)
    with pytest.raises(TypeError):
        client.map(abs, [1], buffersize="many")


def test_map_times_out(client, gate):
    results = client.map(pass_gate, [gate], timeout=0)
    with pytest.raises(TimeoutError):
        next(results)


def test_map_with_a_buffer_takes_items_as_results_are_taken(client):
    taken = []

    def items():
        for n in itertools.count():
            taken.append(n)
            yield n

    results = client.map(abs, items(), buffersize=4)
    assert taken == [0, 1, 2, 3]
    assert list(itertools.islice(results, 6)) == list(range(6))
    assert taken == list(range(10))
    results.close()


def test_map_runs_though_nobody_takes_its_results(local, tmp_path):
    with mh.Client("local", workers=1) as client:
        client.map(touch, [tmp_path / "a", tmp_path / "b"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_submit_many(client):
    futures = client.submit_many(pow, range(1000), itertools.repeat(2))
    assert client.gather(futures) == [n * n for n in range(1000)]
    futures = client.options(priority=1).submit_many(str, range(3))
    assert [future.result(LIMIT_S) for future in futures] == ["0", "1", "2"]


def test_a_future_that_nobody_keeps_runs_all_the_same(tmp_path):
    with mh.Client("local", workers=1) as client:
        for n in range(5):
            client.submit(touch, tmp_path / str(n))
    assert len(list(tmp_path.iterdir())) == 5


def test_after_shutdown_nothing_is_accepted():
    client = mh.Client("local", workers=1)
    future = client.submit(abs, -1)
    client.shutdown()
    assert future.result(LIMIT_S) == 1, "what has come stays"
    with pytest.raises(RuntimeError, match="after shutdown"):
        client.submit(abs, -1)
    with pytest.raises(RuntimeError, match="after shutdown"):
        client.map(abs, [-1])
    client.shutdown()
    assert "closed" in repr(client)


def test_shutdown_waits_for_what_was_submitted(tmp_path, gate):
    client = mh.Client("local", workers=1)
    futures = [client.submit(pass_gate, gate, n) for n in range(3)]
    opener = threading.Timer(0.01, gate.open)
    opener.start()
    client.shutdown(wait=True)
    assert [future.result(0) for future in futures] == [0, 1, 2]


def test_shutdown_without_waiting_lets_the_rest_run(gate):
    client = mh.Client("local", workers=1)
    future = client.submit(pass_gate, gate, "done")
    client.shutdown(wait=False)
    with pytest.raises(RuntimeError):
        client.submit(abs, 1)
    assert not future.done()
    gate.open()
    assert future.result(LIMIT_S) == "done"


def test_shutdown_can_cancel(gate):
    client = mh.Client("local", workers=1)
    futures = [client.submit(pass_gate, gate) for _ in range(5)]
    client.shutdown(cancel_futures=True)
    assert all(future.done() for future in futures)
    assert futures[-1].cancelled()


def test_a_block_that_is_left_by_ctrl_c_cancels(gate):
    client = mh.Client("local", workers=1)
    with pytest.raises(KeyboardInterrupt), client:
        future = client.submit(pass_gate, gate)
        raise KeyboardInterrupt
    assert future.cancelled()


def test_a_block_that_is_left_by_an_error_waits(gate):
    client = mh.Client("local", workers=1)
    with pytest.raises(ZeroDivisionError), client:
        future = client.submit(abs, -3)
        raise ZeroDivisionError
    assert future.result(0) == 3


def test_a_client_that_nobody_refers_to_ends():
    client = mh.Client("local", workers=1)
    assert client.submit(abs, -1).result(LIMIT_S) == 1
    pid = client.submit(os.getpid).result(LIMIT_S)
    gone = threading.Event()
    weakref.finalize(client, gone.set)
    del client
    gc.collect()
    assert gone.wait(LIMIT_S)
    wait_for_the_end_of(pid)


def wait_for_the_end_of(pid):
    """Until a process is gone: a child of a child, which nobody here can wait for."""
    descriptor = None
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    import select

    ended, _, _ = select.select([descriptor], [], [], LIMIT_S)
    os.close(descriptor)
    assert ended, f"process {pid} is still there after {LIMIT_S} s"


def test_options_hold_for_what_is_submitted_through_the_view(client):
    view = client.options(retries=2, time_limit=30)
    assert view.submit(abs, -1).result(LIMIT_S) == 1
    assert list(view.map(abs, [-1, -2])) == [1, 2]
    assert view.options(priority=3).submit(abs, -4).result(LIMIT_S) == 4
    assert "retries" in repr(view)
    with pytest.raises(TypeError):
        client.options(retrys=1)


def test_retries_run_a_task_again(client, tmp_path):
    seen = tmp_path / "seen"

    def flaky():
        count = seen.stat().st_size if seen.exists() else 0
        with seen.open("a") as file:
            file.write("x")
        if count < 2:
            raise ConnectionError(count)
        return count

    assert client.options(retries=5).submit(flaky).result(LIMIT_S) == 2
    seen.unlink()
    with pytest.raises(ConnectionError):
        client.submit(flaky).result(LIMIT_S)


def test_parts(client):
    first, second = client.options(nout=2).submit(divmod, 7, 3)
    assert (first.result(LIMIT_S), second.result(LIMIT_S)) == (2, 1)
    assert client.submit(pow, first, second).result(LIMIT_S) == 2


def test_put_and_get(client):
    value = {"a": [1, 2, 3], "b": {"c": None}}
    future = client.put(value)
    assert client.get(future) == value
    assert client.submit(len, future).result(LIMIT_S) == 2


def test_futures_arrive_as_values_wherever_they_are(client):
    one, two = client.submit(abs, -1), client.put(2)

    def total(pairs, *, more):
        return sum(a + b for a, b in pairs) + sum(more.values())

    future = client.submit(total, [(one, two), (two, two)], more={"x": one})
    assert future.result(LIMIT_S) == 8


def test_values_that_are_large_have_futures_in_them_too(client):
    futures = [client.submit(abs, -n) for n in range(10_000)]
    nested = {"all": futures, "by tens": {n: futures[n::10] for n in range(10)}, "a": b"x" * 70_000}

    def total(nested):
        return sum(nested["all"]), sum(map(sum, nested["by tens"].values())), len(nested["a"])

    expected = sum(range(10_000))
    assert client.submit(sum, futures).result(LIMIT_S) == expected
    assert client.submit(total, nested).result(LIMIT_S) == (expected, expected, 70_000)
    one, more = client.submit(total, nested), client.submit(len, nested)
    assert (one.result(LIMIT_S)[0], more.result(LIMIT_S)) == (expected, 3)
    kept = client.get(client.put(nested))
    assert kept["all"][7].result(LIMIT_S) == 7


def test_arguments_may_be_futures_that_have_not_ended(client, gate):
    first = client.submit(pass_gate, gate, 20)
    last = client.submit(operator.add, first, client.submit(abs, -1))
    assert not last.done()
    gate.open()
    assert last.result(LIMIT_S) == 21


def test_what_fails_takes_with_it_what_needs_it(client):
    last = client.submit(abs, client.submit(fail, "root"))
    with pytest.raises(ValueError, match="root"):
        last.result(LIMIT_S)


def test_gather_raises_the_first_that_failed(client):
    futures = [client.submit(abs, -1), client.submit(fail, "one"), client.submit(fail, "two")]
    with pytest.raises(ValueError, match="one"):
        client.gather(futures)
    with pytest.raises(ValueError, match="one"):
        mh.gather(futures)


def test_explain_and_status(client, gate):
    waiting = client.submit(abs, client.submit(pass_gate, gate, 1))
    assert client.explain(waiting).state == "waiting"
    assert client.explain(waiting).reason
    status = client.status()
    assert status["job"]["submitted"] >= 2
    assert status["cluster"]["workers"] == 1


def test_a_client_stands_for_the_running_tasks_own_there(client):
    def nested(n):
        return sum(client.map(abs, range(-n, 0)))

    assert client.submit(nested, 4).result(LIMIT_S) == 10


def test_within_a_task_a_client_is_of_its_job(client):
    def inner():
        import manyhands as mh

        with mh.Client() as nested:
            jobs = {nested.job, mh.current().job, mh.client().job}
            return jobs, nested.submit(abs, -5).result()

    assert mh.current() is None
    assert client.submit(inner).result(LIMIT_S) == ({client.job}, 5)


def test_recursion(client):
    def fib(n):
        import manyhands as mh

        if n < 2:
            return n
        left = mh.current().submit(fib, n - 1)
        return fib(n - 2) + left.result()

    assert client.submit(fib, 8).result(LIMIT_S) == 21


def test_the_default_client():
    with mh.Client("local", workers=1) as outer:
        assert mh.client() is outer
        with mh.Client("local", workers=1) as inner:
            assert mh.client() is inner
        assert mh.client() is outer
        assert mh.put(3).client is outer


def test_settings_that_belong_elsewhere_are_refused(address):
    with pytest.raises(ValueError, match="manyhands worker"):
        mh.Client(address, workers=3)
    with pytest.raises(ValueError):
        mh.Client("local", workers=0)


def test_an_address_that_leads_nowhere():
    with pytest.raises(ValueError):
        mh.Client("manyhands://not-a-token@127.0.0.1:1")


def test_the_variable_names_the_cluster(address, monkeypatch):
    monkeypatch.setenv("MANYHANDS_ADDRESS", address)
    with mh.Client() as client:
        assert not client.is_local
        assert client.submit(abs, -1).result(LIMIT_S) == 1


def test_a_client_is_opened_once(local):
    # It is refused before anything is looked at, or started.
    with pytest.raises(RuntimeError, match="opened before"):
        local._open_local(environment={"preload": None})
    with pytest.raises(RuntimeError, match="opened before"):
        local._open_remote("no address")
    with pytest.raises(RuntimeError, match="opened before"):
        local._open_current()
    assert local.submit(abs, -1).result(LIMIT_S) == 1
