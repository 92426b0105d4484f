"""What runs tasks: processes forked from an interpreter, and what a task may do in one."""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import gc
import logging
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings

import cloudpickle
import manyhands as mh
import pytest
from conftest import LIMIT_S, until

numpy = pytest.importorskip("numpy")

# Tests run as a module that the executors cannot import.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def one():
    """A cluster of a single executor: tasks run one after the other in the same process."""
    with mh.Client("local", workers=1) as client:
        yield client


def got(client, function, *args, **kwargs):
    return client.submit(function, *args, **kwargs).result(timeout=LIMIT_S)


def add(a, b=10, *more, c=100, **named):
    return (a, b, more, c, named)


def test_arguments_of_all_kinds(one):
    assert got(one, add, 1) == (1, 10, (), 100, {})
    assert got(one, add, 1, 2, 3, 4, c=5, d=6) == (1, 2, (3, 4), 5, {"d": 6})
    assert got(one, add, b=1, a="x" * 100_000)[0] == "x" * 100_000
    assert got(one, add, None, [b"x" * 100_000])[1] == [b"x" * 100_000]


def test_futures_inside_arguments_arrive_as_values(one):
    three = one.submit(lambda: 3)
    large = one.submit(lambda: numpy.arange(50_000.0))
    inside = {"three": three, "all": [three, (large, large)]}

    def look(first, inside):
        array, again = inside["all"][1]
        return first, inside["three"], inside["all"][0], float(array.sum()), array is again

    assert got(one, look, three, inside) == (3, 3, 3, float(sum(range(50_000))), True)


def test_futures_inside_results_stay_futures(one):
    def make():
        return {"inner": mh.current().submit(lambda: "made")}

    assert got(one, make)["inner"].result(timeout=LIMIT_S) == "made"


def test_a_future_inside_an_argument_that_fails_fails_the_call(one):
    failing = one.submit(lambda: 1 // 0)
    with pytest.raises(Exception, match="division") as caught:
        got(one, lambda inside: inside, [failing])
    assert "ZeroDivisionError" in repr(caught.value) or isinstance(caught.value, ZeroDivisionError)


class Lost(Exception):
    def __init__(self, code, where):
        super().__init__(f"lost {code} in {where}")
        self.code = code


class Local(Exception):
    def __init__(self):
        super().__init__("has a lock")
        self.lock = threading.Lock()


def test_exceptions_come_back_as_themselves(one):
    def inner(x):
        return {}[x]

    def outer(x):
        return inner(x)

    with pytest.raises(KeyError, match="'deep'") as caught:
        got(one, outer, "deep")
    text = str(caught.value.__cause__)
    assert "in outer" in text and "in inner" in text and "KeyError: 'deep'" in text
    assert "_run.py" not in text and "manyhands" not in text

    def lose():
        raise Lost(7, "space")

    with pytest.raises(Lost) as caught:
        got(one, lose)
    assert caught.value.code == 7 and str(caught.value) == "lost 7 in space"


def test_exceptions_that_cannot_travel_come_as_text(one):
    def hold():
        raise Local

    with pytest.raises(mh.RemoteError, match=r"Local.*has a lock"):
        got(one, hold)


def test_causes_are_in_the_traceback_and_groups_travel(one):
    def caused():
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("second") from error

    with pytest.raises(ValueError, match="second") as caught:
        got(one, caused)
    assert "KeyError: 'first'" in str(caught.value.__cause__)

    def several():
        raise ExceptionGroup("some", [ValueError(1), TypeError(2)])

    with pytest.raises(ExceptionGroup) as caught:
        got(one, several)
    assert [type(inner) for inner in caught.value.exceptions] == [ValueError, TypeError]


def test_results_that_cannot_travel_are_named(one):
    with pytest.raises(TypeError, match=r"the result: \['lock'\]: cannot pickle '_thread.lock'"):
        got(one, lambda: {"lock": threading.Lock()})
    assert got(one, lambda: 1) == 1


def test_exits_of_tasks(one):
    with pytest.raises(SystemExit) as caught:
        got(one, sys.exit, 3)
    assert caught.value.code == 3
    died = one.options(crash_retries=0)
    with pytest.raises(mh.ExecutorDied, match="5"):
        died.submit(os._exit, 5).result(timeout=LIMIT_S)
    assert got(one, lambda: "on") == "on"


def test_last_words_of_a_crash_say_where(one):
    def crash_here():
        faulthandler._sigsegv()

    died = one.options(crash_retries=0)
    with pytest.raises(mh.ExecutorDied, match=r"Segmentation fault(.|\n)*crash_here"):
        died.submit(crash_here).result(timeout=LIMIT_S)


def wait_in_python(file):
    open(file, "w").close()
    while True:
        pass


def wait_in_system(file):
    open(file, "w").close()
    time.sleep(1000)


def wait_in_child(file):
    open(file, "w").close()
    subprocess.run(["sleep", "1000"], check=True)


def wait_for_task(file):
    open(file, "w").close()
    return mh.current().submit(time.sleep, 1000).result()


@pytest.mark.parametrize("wait", [wait_in_python, wait_in_system, wait_in_child, wait_for_task])
def test_a_cancelled_task_is_interrupted_and_the_process_goes_on(one, wait, tmp_path):
    pid = got(one, os.getpid)
    file = tmp_path / "begun"
    future = one.submit(wait, str(file))
    until(file.exists, "the task to begin")
    assert future.cancel()
    assert [got(one, abs, -n) for n in range(100)] == list(range(100))
    assert got(one, os.getpid) == pid


def test_an_interrupted_task_can_end_in_good_order(one, tmp_path):
    def careful(begun, cleaned):
        try:
            open(begun, "w").close()
            time.sleep(1000)
        finally:
            open(cleaned, "w").close()

    begun, cleaned = tmp_path / "begun", tmp_path / "cleaned"
    future = one.submit(careful, str(begun), str(cleaned))
    until(begun.exists, "the task to begin")
    future.cancel()
    until(cleaned.exists, "the task to clean up")


def test_a_time_limit_interrupts(one):
    pid = got(one, os.getpid)
    with pytest.raises(mh.TimeLimit):
        one.options(time_limit=0.05).submit(time.sleep, 1000).result(timeout=LIMIT_S)
    assert got(one, os.getpid) == pid


def test_handlers_of_signals_do_not_outlive_their_task(one, tmp_path):
    def ignore():
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    got(one, ignore)
    pid, file = got(one, os.getpid), tmp_path / "begun"
    future = one.submit(wait_in_system, str(file))
    until(file.exists, "the task to begin")
    future.cancel()
    assert got(one, os.getpid) == pid


def test_interrupts_that_come_late_hit_nobody(one):
    for _ in range(100):
        future = one.submit(sum, range(20_000))
        one.submit(abs, -1)
        future.cancel()
        assert got(one, sum, range(1000)) == 499_500


def test_alarms_work(one):
    def alarmed():
        def ring(*_):
            raise TimeoutError("rung")

        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        try:
            time.sleep(1000)
        except TimeoutError as error:
            return str(error)

    assert got(one, alarmed) == "rung"


def test_standard_input_is_empty(one):
    assert got(one, lambda: sys.stdin.read()) == ""
    with pytest.raises(EOFError):
        got(one, input)


def test_threads_of_tasks_run_while_nothing_else_does(one, tmp_path):
    file = tmp_path / "written"

    def start():
        def work():
            time.sleep(0.02)
            open(file, "w").close()

        threading.Thread(target=work).start()

    got(one, start)
    until(file.exists, "the thread to write")


def test_tasks_may_fork(one):
    def fork():
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(write, b"child")
            return "never seen"
        os.close(write)
        with open(read, "rb") as file:
            return file.read(), os.waitpid(pid, 0)[1]

    assert got(one, fork) == (b"child", 0)

    def fork_and_raise():
        pid = os.fork()
        if pid == 0:
            raise SystemExit(7)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert got(one, fork_and_raise) == 1


def test_tasks_may_start_processes(one):
    def run():
        return subprocess.run(["cat"], capture_output=True, check=True).stdout, os.popen(
            "echo x"
        ).read()

    assert got(one, run) == (b"", "x\n")

    def children():
        context = multiprocessing.get_context("fork")
        with context.Pool(2) as pool:
            return pool.map(abs, [-1, -2, -3])

    assert got(one, children) == [1, 2, 3]

    def spawned():
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=time.sleep, args=(0,))
        process.start()
        process.join()
        return process.exitcode

    assert got(one, spawned) == 0


def test_what_is_printed_comes_in_order_and_whole(one, capfd):
    def talk(count):
        for n in range(count):
            print(f"line {n}")
        sys.stdout.write("no end of line")
        warnings.warn("look out", stacklevel=1)
        logging.getLogger("a.b").warning("logged é")
        os.system("echo from outside")

    with mh.Client("local", workers=1) as client:
        got(client, talk, 5000)
    out, err = capfd.readouterr()
    lines = [line.partition("] ")[2] for line in out.splitlines()]
    assert lines[:5000] == [f"line {n}" for n in range(5000)]
    assert any("no end of line" in line for line in lines)
    assert any("from outside" in line for line in lines)
    assert "look out" in err and "logged é" in err


def test_nested_tasks_run_deep(one):
    def down(n):
        if n == 0:
            return 0
        return 1 + mh.current().submit(down, n - 1).result()

    assert got(one, down, 60) == 60


def test_a_task_has_room_for_a_deep_recursion(one):
    def down(n):
        return 0 if n == 0 else 1 + down(n - 1)

    def deep():
        before = sys.getrecursionlimit()
        sys.setrecursionlimit(120_000)
        try:
            # Comparing nested lists recurses in C.
            nested = []
            for _ in range(20_000):
                nested = [nested]
            return down(100_000), nested == nested[:]
        finally:
            sys.setrecursionlimit(before)

    assert got(one, deep)[0] == 100_000
    with pytest.raises(RecursionError):
        got(one, down, 5000)
    assert got(one, down, 500) == 500


KEPT = []


def keep(array):
    import builtins

    kept = builtins.__dict__.setdefault("_kept_by_test", [])
    kept.append(array[:1000])
    return [int(view[0]) for view in kept], [int(view[-1]) for view in kept]


def test_views_that_are_kept_stay_as_they_were(one):
    for n in range(5):
        array = one.submit(lambda n=n: numpy.full(100_000, n))
        assert got(one, keep, array) == (list(range(n + 1)), list(range(n + 1)))
        del array
    one.submit(gc.collect).result(timeout=LIMIT_S)


def test_arguments_in_the_store_are_read_where_they_lie(one):
    array = one.submit(lambda: numpy.arange(1_000_000.0))

    def look(array):
        return array.flags.writeable, array.flags.owndata, float(array[-1])

    assert got(one, look, array) == (False, False, 999_999.0)
    # By value, and small: it is the task's own.
    assert got(one, look, numpy.arange(10.0))[0]


def test_large_results_of_all_kinds(one):
    table = {"a": numpy.arange(100_000), "b": [b"x" * 200_000], "c": "y" * 100_000}
    read = got(one, lambda: table)
    assert (read["a"] == table["a"]).all() and read["b"] == table["b"] and read["c"] == table["c"]
    assert got(one, lambda: b"x" * 1_000_000) == b"x" * 1_000_000


def test_several_results(one):
    parts = one.options(nout=3).submit(lambda: (1, [2], numpy.zeros(100_000)))
    assert parts[0].result(timeout=LIMIT_S) == 1 and parts[1].result(timeout=LIMIT_S) == [2]
    assert parts[2].result(timeout=LIMIT_S).shape == (100_000,)
    wrong = one.options(nout=2).submit(lambda: (1, 2, 3))
    with pytest.raises(mh.TaskError, match="3 values and was asked for 2"):
        wrong[0].result(timeout=LIMIT_S)
    wrong = one.options(nout=2).submit(lambda: 1)
    with pytest.raises(mh.TaskError, match="one int and was asked for 2"):
        wrong[1].result(timeout=LIMIT_S)


@dataclasses.dataclass
class Point:
    x: int

    def twice(self):
        return Point(2 * self.x)


def test_classes_that_only_the_client_has(one):
    result = got(one, lambda point: point.twice(), Point(4))
    assert type(result) is Point and result.x == 8
    assert got(one, Point.twice, Point(5)) == Point(10)


def test_executors_have_random_numbers_of_their_own():
    def draw():
        time.sleep(0.01)
        return os.getpid(), random.random(), float(numpy.random.random())

    with mh.Client("local", workers=2, preload=["numpy"]) as client:
        drawn, limit = {}, time.monotonic() + LIMIT_S
        while len(drawn) < 2:
            assert time.monotonic() < limit, "waited for both executors to run a task"
            for pid, *numbers in (
                f.result(LIMIT_S) for f in [client.submit(draw) for _ in range(8)]
            ):
                drawn.setdefault(pid, numbers)
    one, other = drawn.values()
    assert one[0] != other[0] and one[1] != other[1]


def test_what_executors_inherit(one):
    def look():
        own = [name for name in os.environ if name.startswith("MANYHANDS_")]
        return own, sys.argv, threading.active_count(), os.environ["OMP_NUM_THREADS"]

    assert got(one, look) == ([], [""], 1, "1")


def test_a_preload_that_is_not_there_is_said():
    with (
        mh.Client("local", workers=1, preload=["no_such_module_anywhere"]) as client,
        pytest.raises(Exception, match="no_such_module_anywhere"),
    ):
        got(client, abs, -1)


def test_a_function_that_is_not_there_is_said(one, tmp_path):
    (tmp_path / "gone_later.py").write_text("def f():\n    return 1\n")
    sys.path.insert(0, str(tmp_path))
    with contextlib.ExitStack() as stack:
        stack.callback(sys.path.remove, str(tmp_path))
        import gone_later

        # The cluster is older than the path: it travels by value.
        assert got(one, gone_later.f) == 1
