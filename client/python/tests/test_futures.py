"""Futures, as the standard library and this package wait for them."""

import asyncio
import concurrent.futures
import gc
import logging
import pickle
import threading
import weakref

import manyhands as mh
import pytest
from conftest import LIMIT_S, pass_gate


def fail(text="no"):
    raise KeyError(text)


def test_it_is_a_future(client):
    future = client.submit(abs, -1)
    assert isinstance(future, concurrent.futures.Future)
    assert isinstance(future, mh.Future)
    assert future.result(LIMIT_S) == 1
    assert future.done() and not future.cancelled() and future.exception() is None
    assert future.name == "abs"
    assert "abs" in repr(future)


def test_result_times_out_and_the_task_goes_on(client, gate):
    future = client.submit(pass_gate, gate, 1)
    for wait in (future.result, future.exception):
        with pytest.raises(TimeoutError):
            wait(timeout=0.01)
    gate.open()
    assert future.result(LIMIT_S) == 1


def test_exception_is_what_was_raised(client):
    future = client.submit(fail, "lost")
    error = future.exception(LIMIT_S)
    assert type(error) is KeyError and error.args == ("lost",)
    with pytest.raises(KeyError):
        future.result()
    assert not future.cancelled()


def test_cancel(client, gate):
    running = client.submit(pass_gate, gate)
    behind = client.submit(abs, running)
    assert behind.cancel() and behind.cancelled() and behind.done()
    assert behind.cancel(), "again it is cancelled still"
    for wait in (behind.result, behind.exception):
        with pytest.raises(concurrent.futures.CancelledError):
            wait(LIMIT_S)
    with pytest.raises(mh.TaskCancelled):
        behind.result()
    assert running.cancel()
    assert running.cancelled()


def test_what_has_ended_cannot_be_cancelled(client):
    future = client.submit(abs, -1)
    future.result(LIMIT_S)
    assert not future.cancel() and not future.cancelled()


def test_a_task_that_runs_is_interrupted(client, bell):
    def endless():
        try:
            bell.ring()
            threading.Event().wait()
        finally:
            bell.ring()

    future = client.submit(endless)
    bell.wait()
    assert future.cancel()
    bell.wait()


def test_callbacks_are_called_in_order_and_once(client, gate):
    future, called, all_called = client.submit(pass_gate, gate), [], threading.Event()
    for n in range(3):
        future.add_done_callback(lambda f, n=n: called.append((n, f is future)))
    future.add_done_callback(lambda f: all_called.set())
    assert called == []
    gate.open()
    assert all_called.wait(LIMIT_S), "callbacks"
    assert called == [(0, True), (1, True), (2, True)]
    future.add_done_callback(lambda f: called.append("late"))
    assert called[-1] == "late", "of one that has ended at once"


def test_a_callback_that_raises_is_logged(client, gate, caplog):
    future, called = client.submit(pass_gate, gate), threading.Event()
    future.add_done_callback(lambda f: fail("in a callback"))
    future.add_done_callback(lambda f: called.set())
    with caplog.at_level(logging.ERROR):
        gate.open()
        assert called.wait(LIMIT_S), "the callback after the one that raised"
    assert "exception calling callback" in caplog.text


def test_callbacks_keep_their_future(client, gate):
    called = threading.Event()
    client.submit(pass_gate, gate).add_done_callback(lambda f: called.set())
    gc.collect()
    gate.open()
    assert called.wait(LIMIT_S), "the callback of a future that nobody kept"


def test_the_collector_looks_at_futures_that_something_is_kept_with(client):
    future = client.submit(abs, -1)
    assert future.result(LIMIT_S) == 1
    assert not gc.is_tracked(future), "a million of them would cost each of its rounds"
    future._waiters.append(future)
    assert gc.is_tracked(future)
    known = weakref.ref(future)
    del future
    gc.collect()
    assert known() is None, "a future that refers to itself is found"


def test_callbacks_may_submit(client):
    done = threading.Event()
    found = []

    def more(future):
        client.submit(abs, future).add_done_callback(last)

    def last(future):
        found.append(future.result())
        done.set()

    client.submit(abs, -7).add_done_callback(more)
    assert done.wait(LIMIT_S), "a callback of a call that a callback made"
    assert found == [7]


def test_no_thread_per_future(client, gate):
    futures = [client.submit(pass_gate, gate) for _ in range(50)]
    called = threading.Semaphore(0)
    futures[0].add_done_callback(lambda f: called.release())
    before = threading.active_count()
    for future in futures[1:]:
        future.add_done_callback(lambda f: called.release())
    assert threading.active_count() == before
    gate.open()
    for _ in futures:
        assert called.acquire(timeout=LIMIT_S), "all callbacks"


def test_the_standard_librarys_wait(client, gate):
    quick, slow = client.submit(abs, -1), client.submit(pass_gate, gate)
    wait = concurrent.futures.wait
    done, rest = wait([quick, slow], LIMIT_S, return_when=concurrent.futures.FIRST_COMPLETED)
    assert (done, rest) == ({quick}, {slow})
    done, rest = wait([quick, slow], timeout=0)
    assert (done, rest) == ({quick}, {slow})
    gate.open()
    assert wait([quick, slow], LIMIT_S) == ({quick, slow}, set())


def test_the_standard_librarys_wait_for_a_failure(client, gate):
    failing, slow = client.submit(fail), client.submit(pass_gate, gate)
    done, rest = concurrent.futures.wait(
        [failing, slow], LIMIT_S, return_when=concurrent.futures.FIRST_EXCEPTION
    )
    assert (done, rest) == ({failing}, {slow})
    slow.cancel()
    done, _ = concurrent.futures.wait([slow], LIMIT_S)
    assert done == {slow}


def test_the_standard_librarys_as_completed(client, gate):
    slow = client.submit(pass_gate, gate, "slow")
    quick = client.submit(abs, -1)
    ended = concurrent.futures.as_completed([slow, quick, quick], timeout=LIMIT_S)
    assert next(ended) is quick
    gate.open()
    assert list(ended) == [slow]


def test_the_standard_librarys_as_completed_times_out(client, gate):
    slow = client.submit(pass_gate, gate)
    with pytest.raises(TimeoutError):
        list(concurrent.futures.as_completed([slow], timeout=0))


def test_futures_of_both_kinds_together(local):
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        futures = [local.submit(abs, -1), threads.submit(abs, -2)]
        done, _ = concurrent.futures.wait(futures, LIMIT_S)
        assert {future.result() for future in done} == {1, 2}


def test_wait(client, gate):
    quick, failing, slow = (
        client.submit(abs, -1),
        client.submit(fail),
        client.submit(pass_gate, gate),
    )
    assert mh.wait([quick, slow], first=1).done == {quick}
    done, rest = mh.wait([quick, failing, slow], return_when="FIRST_EXCEPTION", timeout=LIMIT_S)
    assert failing in done and slow in rest
    done, rest = mh.wait([slow], timeout=0)
    assert (done, rest) == (set(), {slow})
    gate.open()
    assert mh.wait([quick, failing, slow], timeout=LIMIT_S).not_done == set()
    with pytest.raises(ValueError):
        mh.wait([quick], return_when="SOME")


def test_as_completed(client, gate):
    slow, quick = client.submit(pass_gate, gate, "slow"), client.submit(abs, -1)
    ended = mh.as_completed([slow, quick], timeout=LIMIT_S)
    assert len(ended) == 2
    assert next(ended) is quick
    added = client.submit(abs, -2)
    ended.add(added)
    assert next(ended) is added
    gate.open()
    assert list(ended) == [slow]
    with pytest.raises(StopIteration):
        next(ended)


def test_as_completed_times_out(client, gate):
    with pytest.raises(TimeoutError, match="1 futures"):
        list(mh.as_completed([client.submit(pass_gate, gate)], timeout=0))


def test_as_completed_lets_go_of_what_it_has_given(client):
    ended = mh.as_completed([client.submit(abs, n) for n in range(3)], timeout=LIMIT_S)
    first = next(ended)
    gone = weakref.ref(first)
    del first
    gc.collect()
    assert gone() is None


def test_futures_of_two_clients(local, remote):
    futures = [local.submit(abs, -1), remote.submit(abs, -2)]
    assert mh.gather(futures, timeout=LIMIT_S) == [1, 2]
    assert mh.wait(futures, timeout=LIMIT_S).not_done == set()
    assert {future.result() for future in mh.as_completed(futures, timeout=LIMIT_S)} == {1, 2}
    with pytest.raises(ValueError):
        local.submit(abs, futures[1])


def test_a_future_is_not_pickled(client):
    future = client.submit(abs, -1)
    with pytest.raises(TypeError):
        pickle.dumps(future)


def test_a_future_in_a_result_stays_one(client):
    def begin():
        import manyhands as mh

        return [mh.current().submit(abs, -3)]

    (inner,) = client.submit(begin).result(LIMIT_S)
    assert isinstance(inner, mh.Future)
    assert inner.result(LIMIT_S) == 3


def test_a_client_that_is_closed_ends_all_waits(gate):
    client = mh.Client("local", workers=1)
    future, called = client.submit(pass_gate, gate), threading.Event()
    future.add_done_callback(lambda f: called.set())
    client.close()
    assert called.wait(LIMIT_S), "the callback"
    with pytest.raises(mh.SessionClosed):
        future.result(LIMIT_S)


def test_a_result_can_be_asked_for_again(client):
    future = client.submit(list, "ab")
    assert [future.result(LIMIT_S) for _ in range(3)] == [["a", "b"]] * 3


def test_futures_of_other_executors_are_waited_for_too(client):
    async def awaited(futures):
        return {future.result() async for future in mh.as_completed(futures)}

    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        futures = [client.submit(abs, -1), threads.submit(abs, -2)]
        assert mh.wait(futures, timeout=LIMIT_S).not_done == set()
        assert {future.result() for future in mh.as_completed(futures, timeout=LIMIT_S)} == {1, 2}
        assert mh.gather(futures, timeout=LIMIT_S) == [1, 2]
        assert asyncio.run(awaited(futures)) == {1, 2}
        failed = [client.submit(abs, -1), threads.submit(fail)]
        assert failed[1] in mh.wait(failed, LIMIT_S, "FIRST_EXCEPTION").done


def test_a_future_that_is_added_after_the_last_look_is_told(gate):
    """As if its client were closed between the two steps of `add_done_callback`."""
    client = mh.Client("local", workers=1)
    future, called = client.submit(pass_gate, gate), threading.Event()
    notifier = client._notifier()
    extra = mh._futures._Extra()
    extra.calls, extra.watched = [lambda _: called.set()], True
    future._extra = extra
    client.close()
    notifier.add(future)
    assert called.is_set()


def test_an_interrupt_of_a_map_ends_its_wait():
    class Interrupted:
        def gather(self, futures, timeout):
            raise KeyboardInterrupt

    class Pending:
        client = Interrupted()

        def cancel(self):
            pass

        def result(self, timeout):
            pytest.fail("the wait began again")

    results = mh.Results([Pending(), Pending()], None)
    with pytest.raises(KeyboardInterrupt):
        next(results)
    assert len(results) == 2, "they are to be had still"


def ring_and_pass(bell, gate):
    bell.ring()
    gate.wait()


def test_running(client, gate, bell):
    runs = client.submit(ring_and_pass, bell, gate)
    waits = client.submit(str, runs)
    bell.wait()
    assert runs.running() and not waits.running()
    gate.open()
    assert waits.result(LIMIT_S) == "None"
    assert not runs.running() and not waits.running()


def test_what_was_cancelled_does_not_run(client, gate, bell):
    runs = client.submit(ring_and_pass, bell, gate)
    bell.wait()
    assert runs.cancel() and not runs.running()
