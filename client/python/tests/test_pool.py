"""`manyhands.Pool`: what multiprocessing's has, and what it does not have."""

import functools
import gc
import multiprocessing
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import manyhands as mh
import pytest
from conftest import LIMIT_S, pass_gate
from manyhands import Pool, _feeder, _initializer, _shapes
from manyhands._feeder import Feeder
from manyhands._runs import Items, Run
from manyhands._unended import Unended

CONFORMANCE = Path(__file__).parent / "conformance"

SHARED = None
CALLS = 0
LEAKED = b""


@pytest.fixture
def pool(client):
    """A pool of a cluster that others use too."""
    with Pool(client=client) as pool:
        yield pool
    pool.join()


def square(x):
    return x * x


def fail_at_7(x):
    if x == 7:
        raise ValueError("seven")
    return x


def remember(value):
    global SHARED, CALLS
    SHARED = value
    CALLS += 1


def remembered(x):
    return SHARED, CALLS, os.getpid()


def remembered_too(x):
    return SHARED


def last_and_own(_):
    return int(SHARED[-1]), SHARED.flags.owndata


def put(queue, value):
    queue.put(value)


def a_lock():
    return threading.Lock()


def leak(pages):
    """Keeps memory for ever; how much this process has of it, and which one it is."""
    global LEAKED
    LEAKED += b"x" * pages * 4096
    return len(LEAKED), os.getpid()


def put_shared(value):
    SHARED.put(value)


def draw(_):
    """Takes a number, under the lock of all executors."""
    lock, value, array, queue = SHARED
    with lock:
        drawn = value.value
        value.value = drawn + 1
    array[drawn] = drawn * drawn
    queue.put(drawn)
    return drawn


def test_calls_and_maps(pool):
    assert pool.apply(square, (3,)) == 9
    assert pool.apply(int, ("12",), {"base": 5}) == 7
    assert pool.map(square, range(100)) == [x * x for x in range(100)]
    assert pool.starmap(pow, [(2, 3), (3, 2)]) == [8, 9]
    assert list(pool.imap(square, iter(range(50)))) == [x * x for x in range(50)]
    assert sorted(pool.imap_unordered(square, range(50), chunksize=7)) == [x * x for x in range(50)]


def test_functions_need_not_be_importable(pool):
    base = 10
    assert pool.map(lambda x: x + base, [1, 2]) == [11, 12]
    assert pool.apply(lambda: base) == 10


def test_many_small_items_are_grouped(client):
    groups = []

    class Noted(Run):
        def submit(self, client, group):
            groups.append(len(group))
            return super().submit(client, group)

    with pytest.MonkeyPatch.context() as patch, Pool(client=client) as pool:
        patch.setattr(_feeder, "Run", Noted)
        assert pool.map(square, range(20_000)) == [x * x for x in range(20_000)]
    assert sum(groups) == 20_000
    assert groups[0] == 1, "nothing is known of the first item"
    assert len(groups) < 2_000


def test_a_chunksize_that_is_given_is_kept():
    run = Run(None, None, Items(range(10)), 4, ())
    assert [run.take_group(2) for _ in range(3)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert run.source.is_over


def test_groups_follow_what_items_take():
    run = Run(None, None, Items(range(100_000)), 0, ())
    assert len(run.take_group(2)) == 1
    run.results((0.001, 28, [0]))
    assert len(run.take_group(2)) == 10, "of a millisecond each"
    run.results((10.0, 28, [0]))
    assert len(run.take_group(2)) == 1, "of seconds each"


def test_groups_of_what_is_large_are_small():
    run = Run(None, None, Items(range(100_000)), 0, ())
    run.results((0.000_01, 2 << 20, [0]))
    assert len(run.take_group(2)) == 2


def test_executors_are_replaced_after_so_many_tasks(client, capfd):
    with Pool(2, maxtasksperchild=1, client=client) as pool:
        found = pool.map(leak, [2] * 5, chunksize=1)
        assert [size for size, _ in found] == [2 * 4096] * 5
        assert len({pid for _, pid in found}) == 5
    with Pool(2, maxtasksperchild=3, client=client) as pool:
        found = pool.map(leak, [1] * 20, chunksize=2)
        assert max(size for size, _ in found) == 6 * 4096, "three groups of two"
        pids = [pid for _, pid in found]
        assert max(pids.count(pid) for pid in pids) == 6
        with pytest.raises(ValueError, match="seven"):
            pool.map(fail_at_7, range(8), chunksize=1)
    assert capfd.readouterr() == ("", "")


def test_no_attempt_is_lost_with_an_executor_that_is_replaced(client):
    view = client.options(crash_retries=0)
    call = _initializer.Call(square, _shapes.ONE, None, local=False, limit=(b"mark", 1))
    futures = [view.submit(call, n) for n in range(8)]
    assert client.gather(futures, LIMIT_S) == [n * n for n in range(8)]


def test_locks_queues_and_shared_memory_reach_executors_of_this_machine(local):
    spawn = multiprocessing.get_context("spawn")
    # Nobody but the pool keeps the lock.
    value, array, queue = spawn.Value("i", 0), spawn.Array("q", 100), spawn.Queue()
    given = (spawn.RLock(), value, array, queue)
    with Pool(initializer=remember, initargs=(given,), client=local) as pool:
        del given
        assert sorted(pool.map(draw, range(100), chunksize=5)) == list(range(100))
        assert sorted(queue.get(timeout=LIMIT_S) for _ in range(100)) == list(range(100))
    assert value.value == 100
    assert array[:] == [n * n for n in range(100)]


def test_what_tasks_put_into_a_queue_leaves_with_their_executor(local):
    queue = multiprocessing.get_context("spawn").Queue()
    with Pool(initializer=remember, initargs=(queue,), maxtasksperchild=1, client=local) as pool:
        pool.map(put_shared, range(6), chunksize=1)
        assert sorted(queue.get(timeout=LIMIT_S) for _ in range(6)) == list(range(6))


def test_locks_that_cannot_reach_executors_are_refused_with_a_hint(local, remote):
    fork, spawn = (multiprocessing.get_context(how) for how in ("fork", "spawn"))
    for client, lock in [(local, fork.Lock()), (remote, spawn.Lock())]:
        with pytest.raises(RuntimeError, match=r"multiprocessing\.Manager\(\)"):
            Pool(initializer=remember, initargs=(lock,), client=client)
        with pytest.raises(RuntimeError, match=r"multiprocessing\.Manager\(\)"):
            Pool(client=client).map(functools.partial(remember, lock), [1])
    with pytest.raises(RuntimeError, match=r"\[0\]\['lock'\]: Lock .*Manager\(\)"):
        Pool(client=local).apply(str, [[{"lock": spawn.Lock()}]])
    with pytest.raises(TypeError, match="a connection of multiprocessing"):
        Pool(client=local).apply(str, spawn.Pipe(duplex=False))
    ends = spawn.Pipe()
    with pytest.raises(TypeError, match="goes both ways"):
        Pool(initializer=remember, initargs=(ends,), client=local)


def test_errors_have_the_remote_traceback(pool):
    with pytest.raises(ValueError, match="seven") as raised:
        pool.map(fail_at_7, range(20))
    assert isinstance(raised.value.__cause__, multiprocessing.pool.RemoteTraceback)
    assert 'raise ValueError("seven")' in str(raised.value.__cause__)


def test_an_imap_goes_on_after_an_error(pool):
    results = pool.imap(fail_at_7, range(10))
    assert [next(results) for _ in range(7)] == list(range(7))
    with pytest.raises(ValueError, match="seven"):
        next(results)
    assert list(results) == [8, 9]


def test_a_large_error_comes_back_as_itself(pool):
    def fail():
        raise KeyError("x" * 500_000)

    with pytest.raises(KeyError) as raised:
        pool.apply(fail)
    assert len(raised.value.args[0]) == 500_000


def test_a_result_that_cannot_travel(pool):
    with pytest.raises(multiprocessing.pool.MaybeEncodingError, match="lock"):
        pool.apply(a_lock)
    with pytest.raises(TypeError, match="lock"):
        pool.apply(square, (threading.Lock(),))
    assert pool.apply(square, (2,)) == 4


def test_callbacks(pool):
    seen, done = [], threading.Event()

    def errors(error):
        seen.append(repr(error))
        done.set()

    pool.apply_async(square, (3,), callback=seen.append).wait()
    pool.map_async(square, [1, 2], callback=seen.append).wait()
    pool.apply_async(fail_at_7, (7,), callback=seen.append, error_callback=errors)
    assert done.wait(LIMIT_S), "the error callback was not called"
    assert seen == [9, [1, 4], "ValueError('seven')"]


def test_results_can_be_waited_for(pool, gate):
    result = pool.apply_async(pass_gate, (gate,))
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(timeout=0.05)
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    assert not result.ready()
    gate.open()
    result.get(timeout=LIMIT_S)
    assert result.ready() and result.successful()


def test_an_imap_can_be_waited_for(pool, gate):
    results = pool.imap(pass_gate, [gate])
    with pytest.raises(multiprocessing.TimeoutError):
        results.next(timeout=0.05)
    gate.open()
    results.next(timeout=LIMIT_S)
    with pytest.raises(StopIteration):
        results.next()


def test_an_iterable_may_wait_for_results_of_its_own_items(pool):
    came = []
    more = threading.Semaphore(1)

    def items():
        for number in range(5):
            assert more.acquire(timeout=LIMIT_S), f"no result of item {number - 1} has come"
            yield number

    for result in pool.imap(square, items()):
        came.append(result)
        more.release()
    assert came == [0, 1, 4, 9, 16]


def test_an_initializer_fills_the_globals_that_functions_see(client):
    with Pool(initializer=remember, initargs=("hello",), client=client) as pool:
        found = pool.map(remembered, range(50), chunksize=1)
        assert {shared for shared, _, _ in found} == {"hello"}
        assert pool.map(remembered_too, range(3)) == ["hello"] * 3
    assert SHARED is None, "it ran in executors only"


SCRIPT = """
import os
from manyhands import Pool
shared, calls = None, 0
def remember(value):
    global shared, calls
    shared, calls = value, calls + 1
def first(x):
    return os.getpid(), shared, calls
def second(x):
    return shared
if __name__ == "__main__":
    with Pool(2, remember, ("hello",)) as pool:
        found = pool.map(first, range(200), chunksize=1)
        assert len({pid for pid, _, _ in found}) <= 2
        assert {(shared, calls) for _, shared, calls in found} == {("hello", 1)}, set(found)
        assert set(pool.map(second, range(20))) == {"hello"}
        assert pool.apply(second, (0,)) == "hello"
    with Pool(2, remember, ("other",)) as other:
        assert set(other.map(second, range(20))) == {"other"}
    print("all is well")
"""


def test_an_initializer_of_main_runs_once_in_each_executor(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=LIMIT_S
    )
    assert done.stdout == "all is well\n", done.stderr


def test_pools_of_one_cluster_do_not_disturb_each_other(client):
    with (
        Pool(initializer=remember, initargs=("a",), client=client) as first,
        Pool(initializer=remember, initargs=("b",), client=client) as second,
    ):
        for _ in range(3):
            assert set(first.map(remembered_too, range(8), chunksize=1)) == {"a"}
            assert set(second.map(remembered_too, range(8), chunksize=1)) == {"b"}


def test_an_initializer_that_fails_fails_the_calls(client):
    with Pool(initializer=fail_at_7, initargs=(7,), client=client) as pool:
        with pytest.raises(ValueError, match="seven"):
            pool.map(square, range(3))
        with pytest.raises(ValueError, match="seven"):
            pool.apply(square, (3,))


def test_large_arguments_of_an_initializer_lie_in_the_store(client):
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(1_000_000)
    with Pool(initializer=remember, initargs=(array,), client=client) as pool:
        assert pool.map(last_and_own, range(4), chunksize=1) == [(999_999, False)] * 4


def test_no_more_run_at_one_time_than_the_pool_has_processes(local, tmp_path):
    def alone(path):
        file = os.open(path, os.O_CREAT | os.O_EXCL)
        os.close(file)
        os.unlink(path)
        return True

    with Pool(1, client=local) as pool:
        assert all(pool.map(alone, [str(tmp_path / "one")] * 100, chunksize=1))


def test_terminate_ends_the_waiting(client, gate):
    pool = Pool(client=client)
    results = [pool.map_async(pass_gate, [gate] * 100, chunksize=1)]
    results.append(pool.apply_async(pass_gate, (gate,), callback=print))
    iterator = pool.imap(pass_gate, iter([gate] * 100))
    pool.terminate()
    pool.join()
    for result in results:
        with pytest.raises(mh.TaskCancelled):
            result.get(timeout=LIMIT_S)
    with pytest.raises(mh.TaskCancelled):
        iterator.next(timeout=LIMIT_S)
    assert client.submit(square, 2).result(LIMIT_S) == 4, "the client is as it was"


def test_join_waits_for_all(client, tmp_path):
    pool = Pool(client=client)
    for number in range(20):
        pool.apply_async(Path.touch, (tmp_path / str(number),))
    pool.imap(Path.touch, iter([tmp_path / f"i{number}" for number in range(20)]))
    with pytest.raises(ValueError, match="still running"):
        pool.join()
    pool.close()
    with pytest.raises(ValueError, match="not running"):
        pool.apply(square, (1,))
    pool.join()
    assert len(list(tmp_path.iterdir())) == 40


def test_a_pool_that_is_forgotten_ends(client):
    pool = Pool(client=client)
    assert pool.map(square, [1, 2]) == [1, 4]
    gone = weakref.ref(pool)
    with pytest.warns(ResourceWarning, match="unclosed"):
        del pool
        gc.collect()
    assert gone() is None


def test_a_pool_in_a_task(client):
    def nested(n):
        with Pool() as pool:
            return sum(pool.imap(square, iter(range(n)))), pool.map(square, [n])

    with Pool(client=client) as pool:
        assert pool.map(nested, [3, 4]) == [(5, [9]), (14, [16])]


def test_queues_of_a_manager(local):
    with multiprocessing.Manager() as manager, Pool(client=local) as pool:
        queue = manager.Queue()
        pool.starmap(put, [(queue, 5)])
        assert queue.get(timeout=LIMIT_S) == 5


def test_what_is_wrong_is_refused(client):
    for processes in (0, -1):
        with pytest.raises(ValueError, match="at least 1"):
            Pool(processes, client=client)
    for number in (0, -1, 0.5, "12"):
        with pytest.raises(ValueError, match="maxtasksperchild"):
            Pool(maxtasksperchild=number, client=client)
    with pytest.raises(TypeError, match="callable"):
        Pool(initializer=1, client=client)
    with Pool(client=client) as pool:
        with pytest.raises(ValueError, match="Chunksize"):
            pool.imap(square, [1], chunksize=0)
        with pytest.raises(NotImplementedError):
            pool.__reduce__()
    with pytest.raises(ValueError, match="not running"), pool:
        pass


def test_a_feeder_of_a_closed_client_fails():
    client = mh.Client("local", workers=1)
    with Pool(client=client) as pool:
        assert pool.apply(square, (2,)) == 4
        client.close()
        with pytest.raises(RuntimeError):
            pool.map(square, range(3))
    assert isinstance(pool._feeder, Feeder)


def test_the_tests_of_cpython():
    done = subprocess.run(
        [sys.executable, str(CONFORMANCE / "cpython_pool.py")],
        capture_output=True,
        text=True,
        timeout=5 * LIMIT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 failed" in done.stdout


class Call:
    """A call that has ended, or not."""

    def __init__(self, *, is_done):
        self._is_done = is_done

    def done(self):
        return self._is_done


def test_calls_that_have_ended_are_not_kept():
    calls = Unended()
    running = [Call(is_done=False) for _ in range(10)]
    for call in running:
        calls.add(call)
    for _ in range(100 * Unended.FEW):
        calls.add(Call(is_done=True))
    assert len(calls) <= Unended.FEW + 1
    assert set(running) <= set(calls.take())
    assert len(calls) == 0 and calls.take() == []


def test_calls_that_begin_while_others_are_looked_for_are_kept():
    calls = Unended()
    late = Call(is_done=False)

    class Curious(Call):
        def done(self):
            # Another thread, between what it looks at and what it forgets.
            other = threading.Thread(target=lambda: (calls.add(late), calls.discard(first)))
            other.start()
            other.join(LIMIT_S)
            assert not other.is_alive()
            return True

    first = Call(is_done=False)
    calls.add(first)
    for _ in range(Unended.FEW):
        calls.add(Curious(is_done=True))
    assert calls.take() == [late]


def test_threads_may_begin_calls_at_one_time():
    calls, errors = Unended(), []
    running = [[Call(is_done=False) for _ in range(200)] for _ in range(4)]

    def begin(mine):
        try:
            for call in mine:
                calls.add(call)
                ended = Call(is_done=True)
                calls.add(ended)
                calls.discard(ended)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=begin, args=(mine,)) for mine in running]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert not errors
    assert {call for mine in running for call in mine} <= set(calls.take())


def test_an_iterable_that_exits_ends_the_results(pool):
    def items():
        yield 1
        raise SystemExit("enough")

    results = pool.imap(square, items())
    assert results.next(LIMIT_S) == 1
    with pytest.raises(SystemExit, match="enough"):
        results.next(LIMIT_S)
