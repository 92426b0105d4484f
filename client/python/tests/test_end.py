"""How programs end."""

import contextlib
import gc
import signal
import subprocess
import sys

import manyhands as mh
import pytest
from conftest import LIMIT_S, pass_gate
from manyhands import _client


def test_what_was_submitted_runs_though_the_program_ends(script, tmp_path):
    script(
        """
import manyhands as mh
import sys
from pathlib import Path

client = mh.Client(workers=2)
for n in range(20):
    client.submit(Path.touch, Path(sys.argv[1]) / f"{n}.done")
""",
        str(tmp_path),
    )
    assert len(list(tmp_path.glob("*.done"))) == 20


def test_output_is_printed_before_the_program_ends(script):
    done = script("""
import manyhands as mh
client = mh.Client(workers=1)
client.submit(print, "from a task")
""")
    assert done.stdout.endswith("] from a task\n")


@pytest.mark.parametrize("ends", ['raise SystemError("over")', 'sys.exit("over")'])
def test_what_was_submitted_runs_though_the_program_fails(script, tmp_path, ends):
    program = f"""
import manyhands as mh
import sys
from pathlib import Path
client = mh.Client(workers=1)
for n in range(5):
    client.submit(Path.touch, Path(sys.argv[1]) / f"{{n}}.done")
{ends}
"""
    assert "over" in script(program, str(tmp_path), expect=1).stderr
    assert len(list(tmp_path.glob("*.done"))) == 5


def test_at_a_prompt_what_was_submitted_runs_after_ctrl_c(script, tmp_path):
    program = """
import manyhands as mh
import sys
from pathlib import Path
sys.ps1, sys.last_type = ">>> ", KeyboardInterrupt
mh.Client(workers=1).submit(Path.touch, Path(sys.argv[1]) / "kept.done")
client = mh.Client(workers=1)
client.submit(Path.touch, Path(sys.argv[1]) / "done")
"""
    script(program, str(tmp_path))
    assert {path.name for path in tmp_path.glob("*done")} == {"done", "kept.done"}


def test_a_program_without_a_client(script):
    assert script("import manyhands").stderr == ""


def test_ctrl_c_ends_a_wait(tmp_path):
    program = """
import manyhands as mh
import threading
client = mh.Client(workers=1)
future = client.submit(lambda: threading.Event().wait())
print("waits", flush=True)
future.result()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "waits\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=LIMIT_S)
    assert "KeyboardInterrupt" in errors
    assert "stopped by Ctrl-C: 1 task had not ended" in errors
    assert process.returncode != 0


def test_a_callback_thread_does_not_keep_a_program(script):
    done = script("""
import manyhands as mh
client = mh.Client(workers=1)
client.submit(abs, -1).add_done_callback(lambda f: print("called", f.result()))
""")
    assert done.stdout == "called 1\n"


def test_a_fork_of_the_program_ends_without_the_client(script):
    done = script("""
import manyhands as mh
import os, sys
client = mh.Client(workers=1)
future = client.submit(abs, -1)
print(future.result(), flush=True)
child = os.fork()
if child == 0:
    sys.exit(5)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(client.submit(abs, -2).result())
""")
    assert done.stdout == "1\n5\n2\n"


def test_a_client_closes_though_a_process_that_was_forked_lives_on(script):
    done = script("""
import manyhands as mh
import multiprocessing
client = mh.Client(workers=1)
client.submit(abs, -1).result()
# Its server has a copy of every socket of the cluster.
with multiprocessing.get_context("fork").Manager() as manager:
    client.close()
    print(manager.list("ab"))
""")
    assert done.stdout == "['a', 'b']\n"


def test_a_program_that_is_killed_leaves_no_executor_though_one_that_it_forked_lives_on():
    program = """
import manyhands as mh
import os, select, signal, sys
client = mh.Client(workers=1)
executor = os.pidfd_open(client.submit(os.getpid).result())
if os.fork():
    os.kill(os.getpid(), signal.SIGKILL)
ended, _, _ = select.select([executor], [], [], float(sys.argv[1]))
print("ended" if ended else "lives")
"""
    command = [sys.executable, "-c", program, str(LIMIT_S)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=2 * LIMIT_S)
    assert done.returncode == -signal.SIGKILL and done.stdout == "ended\n"


def submit_and_go(gate, file):
    """Leaves a client that has work still, and nobody who refers to it."""
    client = mh.Client("local", workers=1)
    client.submit(pass_gate, gate)
    client.submit(file.touch)


def drop_in_a_cycle(gate, file):
    client = mh.Client("local", workers=1)
    client.submit(pass_gate, gate)
    client.submit(file.touch)
    # Not its futures: the collector does not look at those.
    client.itself = client


@pytest.mark.parametrize("drop", [submit_and_go, drop_in_a_cycle])
def test_what_a_dropped_client_has_submitted_still_runs(drop, gate, tmp_path):
    file = tmp_path / "done"
    drop(gate, file)
    gc.collect()
    client, ended = list(_client._dropped.items())[-1]
    assert client.is_open
    assert mh.current() is None and _client.existing() is not client
    gate.open()
    assert ended.acquire(timeout=LIMIT_S), "it ends by itself"
    assert file.exists() and not client.is_open and client not in _client._dropped


DROPS = """
import atexit, os, sys, threading
from pathlib import Path
import manyhands as mh

def main(call, *arguments):
    mh.Client("local", workers=2).submit(call, *arguments)

def wait():
    threading.Event().wait()
"""


def test_a_program_ends_after_what_its_dropped_clients_have_submitted(script):
    done = script(DROPS + 'main(print, "from a task")')
    assert done.stdout.endswith("] from a task\n")


def test_a_program_that_fails_ends_after_what_its_dropped_clients_have_submitted(script):
    done = script(DROPS + 'main(print, "from a task")\nraise SystemError("over")', expect=1)
    assert "SystemError: over" in done.stderr and done.stdout.endswith("] from a task\n")


def test_a_fork_does_not_wait_for_the_dropped_clients_of_its_parent(script):
    done = script(
        DROPS
        + """
held, go = os.pipe()
main(os.read, held, 1)
child = os.fork()
if child == 0:
    sys.exit(5)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
sys.stdout.flush()
os._exit(0)
"""
    )
    assert done.stdout == "5\n"


def test_ctrl_c_ends_a_program_that_waits_for_a_dropped_client():
    program = DROPS + 'main(wait)\natexit.register(print, "ends", flush=True)'
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ends\n"
    for _ in range(int(LIMIT_S)):
        # The first one may come before it waits, and then ends nothing but that `print`.
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            _, errors = process.communicate(timeout=1)
            break
    assert "KeyboardInterrupt" in errors


def test_a_fork_has_locks_of_its_own(script):
    """Another thread may hold any of them when the program forks."""
    done = script("""
import manyhands as mh
import os, sys, threading
from manyhands import _client, _futures

client = mh.Client(workers=1)
held, forked = threading.Event(), threading.Event()

def hold():
    with _client._default_lock, _client._lists_lock, _futures._lock:
        held.set()
        forked.wait()

thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = os.fork()
if child == 0:
    with mh.Client("local", workers=1) as own:
        own.submit(abs, -1).add_done_callback(lambda done: print(done.result(), flush=True))
    sys.exit(5)
forked.set()
thread.join()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""")
    assert done.stdout == "1\n5\n"


def test_nothing_of_the_parents_is_touched_in_a_fork(script):
    done = script("""
import manyhands as mh
import os, sys

def refused(call, *arguments):
    try:
        call(*arguments)
    except RuntimeError as error:
        return "forked from" in str(error)

client = mh.Client(workers=1)
future = client.submit(abs, -1)
watch, output = client.watch(), client.output()
print(future.result(), flush=True)
child = os.fork()
if child == 0:
    assert refused(watch.add, future) and refused(watch.next, 0) and refused(output.next, 0)
    assert refused(client.submit, abs, -1) and refused(future.result)
    watch.close()
    client.close()
    client.shutdown()
    assert client.is_open
    del watch, output
    sys.exit(5)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
watch.add(future)
print(watch.next(None) == [future], client.submit(abs, -2).result())
""")
    assert done.stdout == "1\n5\nTrue 2\n"
