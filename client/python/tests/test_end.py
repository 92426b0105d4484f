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
