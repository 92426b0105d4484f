"""How programs end."""

import signal
import subprocess
import sys

from conftest import LIMIT_S


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


def test_a_program_that_fails_does_not_wait(script):
    done = script(
        """
import manyhands as mh
import threading
client = mh.Client(workers=1)
client.submit(lambda: threading.Event().wait())
raise SystemError("over")
""",
        expect=1,
    )
    assert "SystemError: over" in done.stderr


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
