"""Progress bars: in a terminal, in a notebook, or as lines in a log."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TextIO, TypeVar

from . import _core
from ._futures import AsCompleted

if TYPE_CHECKING:
    from ._core import Client, Future

__all__ = ["Bar", "progress"]

T = TypeVar("T")

_DRAW_S = 0.1
"""A bar is drawn so often at most."""
_LOG_S = 10.0
"""Where nothing can be drawn over, a line is printed so often at most."""

_screen = threading.RLock()
"""Held by whoever writes to the terminal while a bar is on it."""
_on_screen: list[_Terminal] = []


class _Canvas(Protocol):
    """Where a bar is drawn."""

    every_s: float

    def draw(self, bar: Bar) -> None: ...
    def end(self, bar: Bar) -> None: ...


class Bar:
    """How far something is: of `total`, so many `done`, and `failed` among them.

    >>> import io
    >>> file = io.StringIO()
    >>> with Bar(4, "squares", file=file) as bar:
    ...     bar.set(4)
    >>> print(file.getvalue().strip().split(" in ")[0])
    squares: 4/4
    """

    def __init__(self, total: int, label: str = "", *, file: TextIO | None = None) -> None:
        self.total = total
        self.label = label
        self.done = 0
        self.failed = 0
        self._began = time.monotonic()
        self._canvas = _canvas(file)
        # The first bar is drawn at once where it can be drawn over.
        self._drawn_at = self._began if self._canvas.every_s > 1 else float("-inf")

    def __enter__(self) -> Bar:
        self._draw()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def set(self, done: int, failed: int = 0, total: int | None = None) -> None:
        """Where it is now."""
        self.done, self.failed = done, failed
        self.total = self.total if total is None else total
        self._draw()

    def close(self) -> None:
        """Draws it for the last time."""
        self._canvas.end(self)

    def _draw(self) -> None:
        now = time.monotonic()
        if now - self._drawn_at >= self._canvas.every_s:
            self._drawn_at = now
            self._canvas.draw(self)

    @property
    def elapsed_s(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._began

    def counts(self) -> str:
        """In words: how many, how fast, how long still."""
        elapsed = self.elapsed_s
        parts = [f"{self.done}/{self.total}", f"in {_clock(elapsed)}"]
        if self.done and elapsed > 0:
            parts.append(f"{self.done / elapsed:.4g}/s")
        if 0 < self.done < self.total:
            parts.append(f"{_clock(elapsed * (self.total - self.done) / self.done)} left")
        if self.failed:
            parts.append(f"{self.failed} failed")
        return f"{parts[0]} {', '.join(parts[1:])}"


class _Terminal:
    """One line that is drawn over."""

    every_s = _DRAW_S

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._line = ""

    def draw(self, bar: Bar) -> None:
        with _screen:
            if self not in _on_screen:
                _on_screen.append(self)
            self._line = _line(bar, _width(self._file))
            self.show()

    def end(self, bar: Bar) -> None:
        self.draw(bar)
        with _screen:
            _on_screen.remove(self)
            self._put("\n")

    def show(self) -> None:
        self._put(f"\r{self._line}\x1b[K")

    def hide(self) -> None:
        self._put("\r\x1b[K")

    def _put(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._file.write(text)
            self._file.flush()


class _Log:
    """Lines, now and then."""

    every_s = _LOG_S

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def draw(self, bar: Bar) -> None:
        label = f"{bar.label}: " if bar.label else ""
        with contextlib.suppress(OSError, ValueError):
            self._file.write(f"{label}{bar.counts()}\n")
            self._file.flush()

    def end(self, bar: Bar) -> None:
        self.draw(bar)


class _Notebook:
    """An element of the cell's output."""

    every_s = _DRAW_S

    def __init__(self) -> None:
        self._handle: Any = None

    def draw(self, bar: Bar) -> None:
        import importlib

        display: Any = importlib.import_module("IPython.display")
        shown = display.HTML(_element(bar))
        if self._handle is None:
            self._handle = display.display(shown, display_id=True)
        else:
            self._handle.update(shown)

    def end(self, bar: Bar) -> None:
        self.draw(bar)


def _canvas(file: TextIO | None) -> _Canvas:
    if file is None and _is_notebook():
        return _Notebook()
    file = file or sys.stderr
    is_terminal = getattr(file, "isatty", lambda: False)() and os.environ.get("TERM") != "dumb"
    return _Terminal(file) if is_terminal else _Log(file)


def _is_notebook() -> bool:
    """Whether this runs in a kernel. IPython is asked only if it is there already."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and "IPKernelApp" in getattr(shell, "config", {})


def _width(file: TextIO) -> int:
    try:
        return os.get_terminal_size(file.fileno()).columns
    except (OSError, ValueError, AttributeError):
        return 80


def _line(bar: Bar, width: int) -> str:
    """The bar as one line that fits.

    >>> bar = Bar(4, "x", file=__import__("io").StringIO())
    >>> bar.done = 1
    >>> _line(bar, 60).startswith("x  25% [###")
    True
    """
    share = bar.done / bar.total if bar.total else 1.0
    head = f"{bar.label} " if bar.label else ""
    tail = f" {bar.counts()}"
    room = width - len(head) - len(tail) - len("100% []") - 1
    if room < 4:
        return f"{head}{share:4.0%}{tail}"[: max(width - 1, 1)]
    filled = round(share * room)
    return f"{head}{share:4.0%} [{'#' * filled}{'.' * (room - filled)}]{tail}"


def _element(bar: Bar) -> str:
    import html

    color = "#c0392b" if bar.failed else "inherit"
    return (
        '<div style="font-family: monospace">'
        f"{html.escape(bar.label)} "
        f'<progress value="{bar.done}" max="{max(bar.total, 1)}" style="width: 20em"></progress> '
        f'<span style="color: {color}">{html.escape(bar.counts())}</span></div>'
    )


def _clock(seconds: float) -> str:
    """
    >>> _clock(0.256), _clock(75), _clock(3725)
    ('0.3s', '1:15', '1:02:05')
    """
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextlib.contextmanager
def aside() -> Iterator[None]:
    """While this lasts no bar of ours is on the screen."""
    with _screen:
        bars = list(_on_screen)
        for bar in bars:
            bar.hide()
        yield
        for bar in bars:
            bar.show()


def progress(
    futures: Iterable[Future[T]] | Future[T],
    label: str = "",
    *,
    file: TextIO | None = None,
    timeout: float | None = None,
) -> list[Future[T]]:
    """Shows a bar until these futures (or one) have ended, well or badly, and returns them.

    In a terminal it is a line on stderr, in a notebook an element of the cell, and in a log a line
    now and then. Raises `TimeoutError` after `timeout` seconds, and never because a task failed.

    >>> import io
    >>> futures = progress(client.submit_many(abs, range(-3, 0)), "abs", file=io.StringIO())
    >>> [future.result() for future in futures]
    [3, 2, 1]
    """
    listed = [futures] if isinstance(futures, _core.Future) else list(futures)
    ended, done, failed = AsCompleted(listed, timeout), 0, 0
    repeated = len(listed) - len(ended)
    with Bar(len(listed), label, file=file) as bar:
        for future in ended:
            done += 1
            failed += future._status() == "FAILED"
            bar.set(done + (repeated if not len(ended) else 0), failed)
    return listed


def wait_with_bar(client: Client, futures: list[Future[Any]], label: str, before: int) -> None:
    """Shows where a graph is, all of its tasks counted, until these results of it have ended.
    `before` tasks of the job had been submitted before the graph."""
    ended_before = _ended(client.progress())
    with Bar(len(futures), label) as bar:
        while client.wait(futures, len(futures), _DRAW_S) < len(futures):
            _show(bar, client.progress(), before, ended_before)
        total = max(client.progress()["submitted"] - before, len(futures))
        failed = sum(future._status() == "FAILED" for future in futures)
        bar.set(total, failed, total)


def _ended(counts: dict[str, int]) -> int:
    return counts["done"] + counts["failed"]


def _show(bar: Bar, counts: dict[str, int], before: int, ended_before: int) -> None:
    total = max(counts["submitted"] - before, 1)
    bar.set(min(_ended(counts) - ended_before, total), 0, total)
