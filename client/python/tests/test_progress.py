"""Progress bars."""

import io
import re
import sys
import types

import manyhands as mh
import pytest
from conftest import pass_gate
from manyhands import _output, _progress


class Screen(io.StringIO):
    def isatty(self):
        return True


def fail(n):
    raise ValueError(n)


def test_a_log_gets_a_line_at_the_end(client):
    file = io.StringIO()
    futures = mh.progress(client.submit_many(abs, range(50)), "abs", file=file)
    assert client.gather(futures) == list(range(50))
    assert re.fullmatch(r"abs: 50/50 in [\d.:s]+, .*\n", file.getvalue())


def test_a_terminal_gets_one_line_that_is_drawn_over(client, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen()
    futures = [*client.submit_many(abs, range(20)), client.submit(fail, 1)]
    mh.progress(futures, "abs", file=screen)
    *drawn, last = screen.getvalue().split("\r")
    assert drawn[0] == "" and "\n" not in "".join(drawn)
    assert last.startswith("abs 100% [###") and "21/21" in last and "1 failed" in last
    assert last.endswith("\x1b[K\n")
    assert _progress._on_screen == []


def test_lines_fit(monkeypatch):
    bar = _progress.Bar(10_000, "a label", file=io.StringIO())
    bar.done = 1234
    for width in range(1, 200):
        assert len(_progress._line(bar, width)) <= max(width - 1, 1)


def test_output_of_tasks_goes_above_the_bar(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    with _progress.Bar(4, "work", file=screen) as bar:
        bar.set(2)
        screen.truncate(0)
        screen.seek(0)
        _output.write("stdout", "[f #1] a line\n")
        text = screen.getvalue()
    assert text.startswith("\r\x1b[K[f #1] a line\n\rwork")


def test_one_future_and_none_and_twice_the_same(client):
    future = client.submit(abs, -1)
    assert mh.progress(future, file=io.StringIO()) == [future]
    assert mh.progress([], file=io.StringIO()) == []
    file = io.StringIO()
    mh.progress([future, future], file=file)
    assert file.getvalue().startswith("2/2")


def test_progress_times_out(client, gate):
    with pytest.raises(TimeoutError):
        mh.progress([client.submit(pass_gate, gate)], file=io.StringIO(), timeout=0)


def test_a_notebook_gets_an_element(local, monkeypatch):
    shown = []

    class Handle:
        def update(self, html):
            shown.append(html)

    def display(html, display_id):
        shown.append(html)
        return Handle()

    shell = types.SimpleNamespace(config={"IPKernelApp": {}})
    ipython = types.SimpleNamespace(get_ipython=lambda: shell)
    parts = types.SimpleNamespace(HTML=str, display=display)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", parts)
    mh.progress(local.submit_many(abs, range(10)), "<abs>")
    assert "&lt;abs&gt;" in shown[-1] and 'value="10" max="10"' in shown[-1]


def test_nothing_heavy_is_imported(script):
    done = script("""
import sys
import manyhands
print(sorted({"IPython", "tqdm", "numpy", "cloudpickle", "multiprocessing"} & set(sys.modules)))
""")
    assert done.stdout == "[]\n"


def test_how_long_still():
    bar = _progress.Bar(100, file=io.StringIO())
    bar.done, bar._began = 50, bar._began - 60
    assert re.search(r"50/100 in 1:0\d, .*, 1:0\d left", bar.counts())
