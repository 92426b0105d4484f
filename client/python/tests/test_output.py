"""What tasks print."""

import contextlib
import io
import logging
import sys
import threading
import warnings

import manyhands as mh
import pytest
from conftest import LIMIT_S
from manyhands import _output
from manyhands._output import Lines


class Log:
    """Gathers what is written, and wakes whoever waits for it."""

    def __init__(self):
        self.text = ""
        self._changed = threading.Condition()

    def write(self, text):
        with self._changed:
            self.text += text
            self._changed.notify_all()

    def flush(self):
        pass

    def wait_for(self, part):
        with self._changed:
            found = self._changed.wait_for(lambda: part in self.text, LIMIT_S)
        assert found, f"{part!r} is not in {self.text!r} after {LIMIT_S} s"


@contextlib.contextmanager
def heard(redirect):
    """What comes to standard output or error meanwhile."""
    log = Log()
    with redirect(log):
        yield log


def speak(text, file="stdout"):
    print(text, file=getattr(sys, file))


def test_output_comes_with_the_name_of_its_task(client):
    with heard(contextlib.redirect_stdout) as out:
        future = client.submit(speak, "good morning\ngood night")
        out.wait_for("good night")
    first, second = out.text.splitlines()
    assert first.startswith("[speak #") and first.endswith("] good morning")
    assert second.endswith("] good night")
    assert first.split("]")[0] == second.split("]")[0]
    assert future.result(LIMIT_S) is None


def test_errors_and_logs_and_warnings_go_to_stderr(client):
    def complain():
        print("printed", file=sys.stderr)
        logging.getLogger("mine").warning("logged")
        warnings.warn("warned", stacklevel=1)

    with heard(contextlib.redirect_stderr) as err:
        client.submit(complain).result(LIMIT_S)
        for part in ("printed", "logged", "warned"):
            err.wait_for(part)
    assert all(line.startswith("[complain #") for line in err.text.splitlines())


def test_shutdown_comes_after_all_output(capsys):
    with mh.Client("local", workers=2) as client:
        for n in range(100):
            client.submit(speak, f"line {n}")
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.partition("] ")[2] for line in lines) == sorted(
        f"line {n}" for n in range(100)
    )


def test_output_without_an_end_of_line(client):
    def whisper():
        print("no end", end="")

    with heard(contextlib.redirect_stdout) as out:
        client.submit(whisper).result(LIMIT_S)
        out.wait_for("no end\n")


def test_what_a_task_reads_from_stdin_is_empty(client):
    assert client.submit(lambda: sys.stdin.read()).result(LIMIT_S) == ""


def lines_of(*pieces, now=lambda: 0.0):
    written = []
    lines = Lines(lambda stream, text: written.append((stream, text)), now)
    for piece in pieces:
        lines.add(*piece)
    return lines, written


def test_lines_of_several_tasks_are_not_mixed():
    lines, written = lines_of(
        ("a", 1, "f", "stdout", b"on"),
        ("b", 2, "g", "stdout", b"two\n"),
        ("a", 1, "f", "stderr", b"err\n"),
        ("a", 1, "f", "stdout", b"e\nrest"),
    )
    assert written == [
        ("stdout", "[g #2] two\n"),
        ("stderr", "[f #1] err\n"),
        ("stdout", "[f #1] one\n"),
    ]
    lines.flush(everything=True)
    assert written[-1] == ("stdout", "[f #1] rest\n")


def test_characters_are_not_torn_apart():
    snow = "snow\u2603\n".encode()
    _, written = lines_of(("a", 1, "f", "stdout", snow[:5]), ("a", 1, "f", "stdout", snow[5:]))
    assert written == [("stdout", "[f #1] snow\u2603\n")]
    _, written = lines_of(("a", 1, "f", "stdout", b"\xff\xfe\n"))
    assert "\ufffd" in written[0][1]


def test_a_bar_that_is_drawn_over_is_shown_now_and_then():
    clock = [0.0]
    lines, written = lines_of(now=lambda: clock[0])
    for percent in range(101):
        clock[0] = percent / 10
        lines.add("a", 1, "f", "stderr", f"\r{percent:3}%|###".encode())
        lines.flush()
    lines.add("a", 1, "f", "stderr", b"\n")
    shown = [text for _, text in written]
    assert 3 <= len(shown) <= 8
    assert all(text.startswith("[f #1] ") and text.count("\n") == 1 for text in shown)
    assert shown[-1] == "[f #1] 100%|###\n"


def test_an_endless_line_is_cut():
    lines, written = lines_of(("a", 1, "f", "stdout", b"x" * (_output.LINE_LIMIT + 1)))
    assert len(written) == 1
    lines.flush(everything=True)
    assert len(written) == 1


def test_unfinished_lines_of_many_tasks_are_bounded():
    lines, written = lines_of()
    for n in range(_output.OPEN_LIMIT + 1):
        lines.add(str(n), n, "f", "stdout", b"x")
    assert len(written) == _output.OPEN_LIMIT + 1


def test_bars_of_many_tasks_are_bounded():
    clock = [0.0]
    lines, written = lines_of(now=lambda: clock[0])
    for n in range(2 * _output.OPEN_LIMIT):
        # Each leaves its bar as it is, without an end of line: nothing of it is left to be shown.
        lines.add(str(n), n, "f", "stderr", b"\r100%")
        for _ in range(2):
            clock[0] += 10
            lines.flush()
    assert not lines._open and len(lines._drawn) <= _output.OPEN_LIMIT
    assert len(written) == 2 * _output.OPEN_LIMIT


def test_of_too_many_bars_the_oldest_is_shown_once_more():
    lines, written = lines_of()
    for n in range(_output.OPEN_LIMIT):
        lines.add(str(n), n, "f", "stderr", b"\r 50%")
    # One is known, and has nothing to show now.
    del lines._open["1023", "stderr"]
    lines.add("more", 5000, "f", "stderr", b"\r 60%")
    assert written == [("stderr", "[f #0]  50%\n")]
    lines.flush()
    assert ("0", "stderr") not in lines._open and ("more", "stderr") in lines._open


def test_bars_of_tqdm_are_moved_aside():
    tqdm = pytest.importorskip("tqdm")
    screen = io.StringIO()
    with contextlib.redirect_stderr(screen), tqdm.tqdm(total=10, file=screen) as bar:
        bar.update(5)
        screen.truncate(0)
        screen.seek(0)
        _output.write("stderr", "[f #1] a line\n")
        text = screen.getvalue()
    before, _, after = text.partition("[f #1] a line\n")
    assert before.startswith("\r") and before.strip("\r ") == "", "the bar is wiped out"
    assert "5/10" in after, "and drawn again"


def test_output_that_nobody_reads_is_no_error():
    closed = io.StringIO()
    closed.close()
    with contextlib.redirect_stdout(closed):
        _output.write("stdout", "text\n")


def test_tqdm_inside_a_task(client):
    pytest.importorskip("tqdm")

    def bar():
        import tqdm

        for _ in tqdm.tqdm(range(50), mininterval=0):
            pass

    with heard(contextlib.redirect_stderr) as err:
        client.submit(bar).result(LIMIT_S)
        err.wait_for("50/50")
    assert "\r" not in err.text


LOGS = """
import logging
import manyhands as mh

logging.basicConfig(level=logging.INFO, format="{levelname} of {name}: {message}", style="{")
logging.getLogger("terse").setLevel(logging.ERROR)

def work():
    import os
    logging.debug("at debug")
    logging.info("at info")
    logging.getLogger("terse").warning("a warning")
    logging.getLogger("terse").error("an error")
    return [name for name in os.environ if "LOGGING" in name]

with mh.Client("local", workers=1) as client:
    print(client.submit(work).result())
"""


def test_logging_in_tasks_is_set_up_as_in_the_program(script):
    done = script(LOGS)
    assert done.stdout == "[]\n"
    lines = [line.partition("] ")[2] for line in done.stderr.splitlines()]
    assert lines == ["INFO of root: at info", "ERROR of terse: an error"]


@pytest.mark.parametrize(
    "formatter",
    [
        'logging.Formatter("%(message)s by %(who)s", defaults={"who": "me"})',
        'logging.Formatter("no field", validate=False)',
    ],
)
def test_a_format_that_needs_what_does_not_travel_is_left_out(script, formatter):
    set_up = f"""
logging.basicConfig(level=logging.INFO)
logging.getLogger().handlers[0].setFormatter({formatter})
"""
    done = script(LOGS.replace("logging.basicConfig", set_up + "dict"))
    lines = [line.partition("] ")[2] for line in done.stderr.splitlines()]
    assert lines == ["at info", "an error"]


def test_logging_in_tasks_is_that_of_python_where_the_program_has_set_up_none(script):
    done = script(LOGS.replace("logging.basicConfig", "dict"))
    lines = [line.partition("] ")[2] for line in done.stderr.splitlines()]
    assert lines == ["WARNING:terse:a warning", "ERROR:terse:an error"]
