"""What tasks print, in this program's own output.

Each line comes behind the name and the number of its task, written through `sys.stdout` and
`sys.stderr`, so that notebooks, `contextlib.redirect_stdout` and the like see it. Progress bars of
this program, ours and those of tqdm, are moved out of the way. What a task draws over and over
again with carriage returns (a bar of its own) is shown as a line from time to time.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from ._core import Client

LINE_LIMIT = 64 << 10
"""Bytes of a line that are waited for; a longer one is cut."""
OPEN_LIMIT = 1024
"""Tasks whose unfinished lines are kept; past that all are printed. As many of those that draw are
known, whether or not there is something to show of them."""
_QUIET_S = 0.25
"""An unfinished line is printed when nothing has come for so long."""
_REDRAW_S = 2.0
"""A line that is drawn over and over again is shown so often."""

Key = tuple[str, str]
Write = Callable[[str, str], None]


class Lines:
    """Puts lines together, and names the task of each."""

    def __init__(self, write: Write, now: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._now = now
        self._open: dict[Key, tuple[str, bytes]] = {}
        # When what is drawn over was last shown, and what was to be seen then.
        self._drawn: dict[Key, tuple[float, str | None]] = {}

    def add(self, task: str, number: int, name: str, stream: str, data: bytes) -> None:
        """What a task has printed.

        >>> lines = Lines(lambda stream, text: print(stream, repr(text)))
        >>> lines.add("t", 7, "count", "stdout", b"one\\ntw")
        stdout '[count #7] one\\n'
        >>> lines.add("t", 7, "count", "stdout", b"o\\n")
        stdout '[count #7] two\\n'
        """
        key, prefix = (task, stream), f"[{name} #{number}] "
        whole = self._open.pop(key, ("", b""))[1] + data
        *lines, rest = whole.split(b"\n")
        if len(rest) > LINE_LIMIT:
            lines, rest = [*lines, rest], b""
        texts = [_shown(line) for line in lines]
        drawn = self._drawn.pop(key, None) if lines else None
        if drawn is not None and texts[0] in ("", drawn[1]):
            # The end of a line that has been shown before its end.
            del texts[0]
        shown = "".join(f"{prefix}{text}\n" for text in texts if text is not None)
        if shown:
            self._write(stream, shown)
        if rest:
            self._keep(key, prefix, rest)

    def flush(self, *, everything: bool = False) -> None:
        """Prints lines that are not at their end. Those that are drawn over only now and then."""
        for key, (prefix, line) in list(self._open.items()):
            if not everything and b"\r" in line:
                self._show_drawn(key)
                continue
            del self._open[key]
            self._write_line(key, prefix, _shown(line))
        if everything:
            self._drawn.clear()

    def _keep(self, key: Key, prefix: str, rest: bytes) -> None:
        # Of what is drawn over, the last state is enough.
        *_, last = rest.rstrip(b"\r").rpartition(b"\r")
        is_drawn = b"\r" in rest
        self._open[key] = (prefix, b"\r" + last if is_drawn else rest)
        if is_drawn:
            self._drawn.setdefault(key, (self._now(), None))
            self._show_drawn(key)
            if len(self._drawn) > OPEN_LIMIT:
                self._forget_oldest()
        if len(self._open) > OPEN_LIMIT:
            self.flush(everything=True)

    def _show_drawn(self, key: Key) -> None:
        """Shows the state of what is drawn over, if it is another one than some time ago."""
        (prefix, line), (since, last) = self._open[key], self._drawn[key]
        if self._now() - since < _REDRAW_S:
            return
        shown = _shown(line)
        self._drawn[key] = (self._now(), shown)
        if shown == last:
            # Nothing has changed for a while: maybe that was all.
            del self._open[key]
        else:
            self._write_line(key, prefix, shown)

    def _forget_oldest(self) -> None:
        """Shows and forgets what has been drawn over for longest."""
        key = next(iter(self._drawn))
        del self._drawn[key]
        if key in self._open:
            prefix, line = self._open.pop(key)
            self._write_line(key, prefix, _shown(line))

    def _write_line(self, key: Key, prefix: str, text: str | None) -> None:
        if text is not None:
            self._write(key[1], f"{prefix}{text}\n")


def _shown(line: bytes) -> str | None:
    """What of a line is to be seen after its carriage returns; None of one that was wiped out."""
    if b"\r" not in line:
        return line.decode(errors="replace")
    parts = [part for part in line.split(b"\r") if part.strip()]
    return parts[-1].decode(errors="replace") if parts else None


class Printer:
    """The thread that prints what the tasks of a client print."""

    def __init__(self, client: Client) -> None:
        self._output = client.output()
        self._thread = threading.Thread(target=self._run, name="manyhands-output", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Waits until everything is printed, after the client was closed."""
        if threading.get_ident() != self._thread.ident:
            self._thread.join()

    def _run(self) -> None:
        lines = Lines(write)
        timeout: float | None = None
        while (pieces := self._output.next(timeout)) is not None:
            for piece in pieces:
                if piece[3] == "notice":
                    _tell(piece[4].decode())
                else:
                    lines.add(*piece)
            if not pieces:
                lines.flush()
            timeout = _QUIET_S if lines._open else None
        lines.flush(everything=True)


def write(stream: str, text: str) -> None:
    """Writes lines past progress bars. Whoever closed the program's output does not want them."""
    file: TextIO | None = sys.stderr if stream == "stderr" else sys.stdout
    if file is None:
        return
    try:
        with _bars_aside(file):
            file.write(text)
            file.flush()
    except (ValueError, OSError):
        pass


def _tell(text: str) -> None:
    """Says in the log what concerns the client itself. A program that has not set up its log sees
    it on standard error."""
    import logging

    with contextlib.suppress(ValueError, OSError), _bars_aside(sys.stderr):
        logging.getLogger("manyhands").warning(text)


class _bars_aside:
    """While this lasts no progress bar is on the screen."""

    def __init__(self, file: TextIO | None) -> None:
        from . import _progress

        self._own = _progress.aside()
        # tqdm is asked only if the program uses it.
        tqdm: Any = sys.modules.get("tqdm.std") or sys.modules.get("tqdm")
        bars: Any = getattr(tqdm, "tqdm", None)
        in_use = bool(getattr(bars, "_instances", None))
        self._tqdm: Any = bars.external_write_mode(file=file) if in_use else None

    def __enter__(self) -> None:
        self._own.__enter__()
        if self._tqdm is not None:
            self._tqdm.__enter__()

    def __exit__(self, *error: Any) -> None:
        if self._tqdm is not None:
            self._tqdm.__exit__(*error)
        self._own.__exit__(*error)
