"""What the tests share: clients of a local cluster and of daemons, and gates for tasks."""

import contextlib
import os
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

LIMIT_S = float(os.environ.get("MANYHANDS_TEST_LIMIT_S", 60))
"""How long anything that is waited for may take. Nothing here takes long: a machine may be busy."""


SOURCES = Path(__file__).resolve().parents[1] / "python" / "manyhands"


@pytest.fixture(scope="session", autouse=True)
def _found_by_children():
    """Programs that tests start find the package where these tests have found it."""
    import manyhands as mh

    places = [str(Path(mh.__file__).absolute().parents[1]), os.environ.get("PYTHONPATH")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, places))


@pytest.fixture(scope="session")
def local():
    """A cluster in this process, of two executors, that all tests share."""
    import manyhands as mh

    with mh.Client("local", workers=2) as client:
        yield client


@pytest.fixture(scope="session")
def address(tmp_path_factory):
    """The address of a cluster of daemons on this machine."""
    with contextlib.ExitStack() as daemons:
        yield daemons.enter_context(cluster(tmp_path_factory.mktemp("cluster")))


@pytest.fixture(scope="session")
def remote(address):
    """A client of that cluster, that all tests share."""
    import manyhands as mh

    with mh.Client(address) as client:
        yield client


@pytest.fixture(scope="session", params=["local", "remote"])
def client(request):
    """The same tests in both places."""
    return request.getfixturevalue(request.param)


@contextlib.contextmanager
def cluster(directory):
    """A scheduler and a worker with two slots, as a user starts them; their address for clients."""
    with daemons(directory) as (_, address):
        yield address


@contextlib.contextmanager
def daemons(directory, *options):
    """As `cluster`, with these options of the scheduler; its process, and the address."""
    files = {role: directory / role for role in ("worker", "client")}
    # Nothing of what starts the tests is known to the daemons.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MANYHANDS_")}
    environment["HOME"] = environment["XDG_STATE_HOME"] = str(directory)
    environment["XDG_CACHE_HOME"] = str(directory / "cache")
    scheduler = ["scheduler", "--bind", "127.0.0.1:0", "--advertise", "127.0.0.1", *options]
    for role, file in files.items():
        scheduler += [f"--{role}-address-file", str(file)]
    with daemon(scheduler, environment, directory, "scheduler") as process:
        address = written(files["worker"])
        # Nobody needs what lies there at the end of the tests.
        worker = ["worker", address, "--cores", "2", "--drain-timeout", "1s"]
        with daemon(worker, environment, directory, "worker"):
            yield process, written(files["client"])


@contextlib.contextmanager
def daemon(arguments, environment, directory, name):
    """The command `manyhands` with these arguments, until it is left."""
    command = [sys.executable, "-m", "manyhands._cli", *arguments]
    with (directory / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=directory,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until(what, message):
    """Waits for what another process does and nobody can be told of."""
    limit = time.monotonic() + LIMIT_S
    while not what():
        assert time.monotonic() < limit, f"waited for {message}"
        time.sleep(0.002)


def written(file):
    """What a daemon writes into a file when it is ready."""
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        if file.exists() and (text := file.read_text().strip()):
            return text
        time.sleep(0.01)
    logs = "\n".join(log.read_text() for log in sorted(file.parent.glob("*.log")))
    raise AssertionError(f"no address in {file} after {LIMIT_S} s:\n{logs}")


class Gate:
    """Tasks wait at it until it is opened. They need not have begun by then."""

    def __init__(self, path):
        self._path = os.fspath(path)
        self._opened = None
        os.mkfifo(self._path)

    def __reduce__(self):
        return (wait_at, (self._path,))

    def open(self):
        """Lets all pass."""
        if self._opened is None:
            # Read as well, so that it does not wait for a reader.
            self._opened = os.open(self._path, os.O_RDWR)


class wait_at:
    """A gate, where a task runs."""

    def __init__(self, path):
        self._path = path

    def wait(self, value=None):
        """Waits until it is open, and returns the value."""
        with open(self._path, "rb"):
            return value


def pass_gate(gate, value=None):
    """A task that waits at a gate."""
    return gate.wait(value)


class Bell:
    """Tasks ring it, and the test waits for that."""

    def __init__(self, path):
        self._path = os.fspath(path)
        os.mkfifo(self._path)
        # Open before anybody rings, so that to ring never waits; for both, so that it never ends.
        self._listening = os.open(self._path, os.O_RDWR)

    def __reduce__(self):
        return (ring_at, (self._path,))

    def wait(self):
        """Waits until it has been rung."""
        heard, _, _ = select.select([self._listening], [], [], LIMIT_S)
        assert heard and os.read(self._listening, 1), f"nobody rang after {LIMIT_S} s"

    def close(self):
        """Ends it."""
        os.close(self._listening)


class ring_at:
    """A bell, where a task runs."""

    def __init__(self, path):
        self._path = path

    def ring(self):
        """Wakes the test."""
        with open(self._path, "wb") as bell:
            bell.write(b"x")


@pytest.fixture
def bell(tmp_path):
    """A bell for the tasks of one test."""
    made = Bell(tmp_path / "bell")
    yield made
    made.close()


@pytest.fixture
def gate(tmp_path):
    """A gate for the tasks of one test; open from its end on, to those too that come later."""
    made = Gate(tmp_path / "gate")
    yield made
    made.open()


@pytest.fixture
def script(tmp_path):
    """Runs a program in an interpreter of its own: what it printed, and its exit code."""

    def run(text, *arguments, expect=0, env=None, stdin=subprocess.DEVNULL):
        file = tmp_path / "program.py"
        file.write_text(text)
        done = subprocess.run(
            [sys.executable, str(file), *arguments],
            capture_output=True,
            text=True,
            timeout=2 * LIMIT_S,
            stdin=stdin,
            cwd=tmp_path,
            env={**os.environ, **(env or {})},
        )
        assert done.returncode == expect, f"{done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done

    return run


@pytest.fixture(autouse=True)
def _no_address(monkeypatch):
    """Whoever runs the tests may have a cluster: they do not run there."""
    monkeypatch.delenv("MANYHANDS_ADDRESS", raising=False)
