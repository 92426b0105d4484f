"""`python -m manyhands`: programs of the standard library's pools, unchanged."""

import subprocess
import sys

import pytest
from conftest import LIMIT_S

PROGRAM = """
import concurrent.futures, multiprocessing, multiprocessing.pool, os, sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import Pool
from multiprocessing.pool import Pool as SamePool, ThreadPool

given = None

def remember(value):
    global given
    given = value

def work(x):
    return x * x, given

def put(queue, x):
    queue.put(x)
    return Thing(x)

def own_pid(_):
    return os.getpid()

class Thing:
    def __init__(self, value):
        self.value = value

class Derived(SamePool):
    pass

if __name__ == "__main__":
    assert __file__.endswith("program.py") and sys.argv[1:] == ["--workers", "7"], sys.argv
    with Pool(2, initializer=remember, initargs=("a",)) as pool:
        assert type(pool).__module__ == "manyhands.pool" and isinstance(pool, SamePool)
        assert pool.map(work, range(3)) == [(0, "a"), (1, "a"), (4, "a")]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert type(pool).__module__ == "manyhands.pool"
    with SamePool(1) as pool:
        assert type(pool).__module__ == "manyhands.pool" and pool.apply(abs, (-1,)) == 1
    with ProcessPoolExecutor(2, initializer=remember, initargs=("b",)) as executor:
        futures = [executor.submit(work, n) for n in range(3)]
        done, _ = concurrent.futures.wait(futures)
        assert sorted(future.result() for future in done) == [(0, "b"), (1, "b"), (4, "b")]
        assert list(executor.map(pow, [2, 3], [2, 2], chunksize=5)) == [4, 9]
        assert list(executor.map(pow, range(9), [2] * 9, chunksize=5)) == [n * n for n in range(9)]
        try:
            executor.submit(os.abort).result()
        except BrokenProcessPool as error:
            assert type(error).__module__ == "manyhands._errors"
    with ProcessPoolExecutor(1, max_tasks_per_child=1) as executor:
        assert len({*executor.map(own_pid, range(5))}) == 5
    try:
        executor.submit(work, 1)
    except RuntimeError:
        pass
    else:
        raise AssertionError("the executor was shut down")
    with multiprocessing.Manager() as manager, Pool(2) as pool:
        queue = manager.Queue()
        things = pool.starmap(put, [(queue, n) for n in range(3)])
        assert [thing.value for thing in things] == [0, 1, 2]
        assert sorted(queue.get() for _ in range(3)) == [0, 1, 2]
    # What is not a pool of processes is what it was.
    with ThreadPool(2) as threads:
        assert threads.apply(os.getpid) == os.getpid()
    process = multiprocessing.Process(target=sys.exit, args=(5,))
    process.start()
    process.join()
    assert process.exitcode == 5
    with Derived(1) as own:
        assert own.apply(abs, (-1,)) == 1
    print("all is well")
    sys.exit(3)
"""

LOCKS = """
import multiprocessing

given = None
total = multiprocessing.Value("i", 0)

def remember(*values):
    global given
    given = values

def count(_):
    lock, counter = given
    with lock:
        counter.value = counter.value + 1

def count_global(_):
    with total.get_lock():
        total.value += 1

if __name__ == "__main__":
    # As in the documentation of `multiprocessing`: a lock of the default context.
    lock, counter = multiprocessing.Lock(), multiprocessing.Value("i", 0)
    with multiprocessing.Pool(2, remember, (lock, counter), maxtasksperchild=2) as pool:
        pool.map(count, range(10), chunksize=1)
    # And one that processes get as what they are forked from has it.
    with multiprocessing.Pool(2) as pool:
        pool.map(count_global, range(40))
    print(counter.value, total.value)
"""

NESTED = """
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import Pool
from multiprocessing.pool import Pool as SamePool

class Runner:
    kinds = SamePool, ProcessPoolExecutor

    class Derived(SamePool):
        pass

    def run(self):
        with Pool(2) as pool:
            return pool.map(self.work, range(3))

    def work(self, x):
        return 2 * x

    def kind(self, _):
        with Pool(1) as pool, SamePool(1) as other:
            assert isinstance(pool, SamePool) and type(other) is type(pool)
            return type(pool).__module__

def nested(n):
    if n:
        with ProcessPoolExecutor(2) as executor:
            return sum(executor.map(nested, range(n)))
    return 1

def identity(x):
    return x

if __name__ == "__main__":
    assert os.path.isabs(__file__)
    with ProcessPoolExecutor(2) as executor:
        assert executor.submit(identity, SamePool).result() is SamePool
        print(Runner().run(), executor.submit(nested, 3).result())
        print(*executor.map(Runner().kind, [0]))
"""

FAILS = """
import multiprocessing

def reciprocal(x):
    return 1 / x

if __name__ == "__main__":
    with multiprocessing.Pool(1) as pool:
        pool.map(reciprocal, [1, 0])
"""


@pytest.fixture
def run(tmp_path):
    """Runs `python -m manyhands` in a directory with the program."""
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "fails.py").write_text(FAILS)
    (tmp_path / "nested.py").write_text(NESTED)
    (tmp_path / "locks.py").write_text(LOCKS)

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "manyhands", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=2 * LIMIT_S,
        )

    return run


@pytest.mark.parametrize("how", [["program.py"], ["-m", "program"], ["--workers=2", "program.py"]])
def test_a_program_runs_unchanged(run, how):
    done = run(*how, "--workers", "7")
    assert (done.stdout, done.returncode) == ("all is well\n", 3), done.stderr


def test_executors_of_this_machine_share_locks(run):
    done = run("locks.py")
    assert (done.stdout, done.stderr) == ("10 40\n", "")


def test_functions_that_use_the_names_travel(run):
    done = run("nested.py")
    assert (done.stdout, done.returncode) == ("[0, 2, 4] 4\nmanyhands.pool\n", 0), done.stderr


def test_a_command_runs(run):
    done = run(
        "-c", "import multiprocessing as m, sys; print(m.Pool(1).map(abs, [-1]), sys.argv)", "x"
    )
    assert done.stdout == "[1] ['-c', 'x']\n", done.stderr
    assert done.returncode == 0


def test_an_error_ends_it_as_it_ends_a_script(run):
    done = run("fails.py")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert "    return 1 / x" in lines and "    pool.map(reciprocal, [1, 0])" in lines
    assert not any("__main__.py" in line or "runpy" in line for line in lines)


def test_what_is_wrong_is_refused(run):
    for arguments, words in [
        ([], "a script is missing"),
        (["--what", "program.py"], "unknown option --what"),
        (["--workers", "none", "program.py"], "a number of at least 1"),
        (["--address", "host:1", "--workers", "2", "program.py"], "a cluster has its own"),
        (["missing.py"], "can't open file"),
    ]:
        done = run(*arguments)
        assert (done.returncode, done.stdout) == (2, "") and words in done.stderr
    assert run("-m", "no_such_module").returncode == 1
    assert "script.py" in run("--help").stdout


def test_it_runs_on_a_cluster(run, address):
    done = run("--address", address, "program.py", "--workers", "7")
    # Queues of a manager are of one machine, and its key is not given to others.
    assert "AuthenticationError" in done.stderr or done.stdout == "all is well\n", done.stderr
    done = run(
        "--address", address, "-c", "from multiprocessing import Pool; print(Pool().map(abs, [-1]))"
    )
    assert done.stdout == "[1]\n", done.stderr
