"""What can go wrong, as exceptions.

A task that raised comes back as its own exception, with the traceback of the executor as its
``__cause__``. Everything else that keeps a task from a result is a `TaskError`; what concerns the
client, and no task, is another `ManyhandsError`.

    ManyhandsError
    ├── TaskError
    │   ├── RemoteError       raised something that cannot be rebuilt here, or failed in Rust
    │   ├── ExecutorDied      its process ended under it            (also BrokenProcessPool)
    │   ├── WorkerLost        its machine was lost                  (also BrokenProcessPool)
    │   ├── TaskCancelled     somebody cancelled it                 (also CancelledError)
    │   ├── TimeLimit         it ran past its ``time_limit``        (also TimeoutError)
    │   ├── DeadlinePassed    its ``deadline`` passed               (also TimeoutError)
    │   ├── MemoryLimit       it used more than its ``memory_limit``(also MemoryError)
    │   ├── LostInput         an argument is lost, and cannot be made again
    │   ├── NotPortable       function, argument or result cannot travel    (also TypeError)
    │   ├── Infeasible        no worker can ever run it
    │   └── Refused           the submission was refused
    ├── SessionClosed         the client was shut down, or lost its cluster (also RuntimeError)
    ├── ConnectFailed         no cluster could be reached           (also ConnectionError)
    ├── ObjectUnreadable      a value could not be brought here
    ├── StoreFull             a value found no room                 (also MemoryError)
    └── CycleError            a graph waits for itself              (also ValueError)
"""

from __future__ import annotations

import linecache
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError
from typing import Any

__all__ = [
    "ConnectFailed",
    "CycleError",
    "DeadlinePassed",
    "ExecutorDied",
    "Infeasible",
    "LostInput",
    "ManyhandsError",
    "MemoryLimit",
    "NotPortable",
    "ObjectUnreadable",
    "Refused",
    "RemoteError",
    "RemoteTraceback",
    "SessionClosed",
    "StoreFull",
    "TaskCancelled",
    "TaskError",
    "TimeLimit",
    "WorkerLost",
]

Fields = Mapping[str, Any]

_FRAME = re.compile(r'  File "(.+)", line (\d+), in ')


class ManyhandsError(Exception):
    """Base of all errors that are not the user's own."""


class _OfTask:
    """What is known of a task that failed."""

    task: str = ""
    """Its id, as ``manyhands explain`` takes it."""
    name: str = ""
    """The name of its function."""
    worker: str | None = None
    """Where its last attempt ran, if it came to run."""
    pid: int | None = None
    """The process of its last attempt, if it came to run."""
    attempts: Sequence[str] = ()
    """What became of each attempt, first to last, in one line each."""
    chain: Sequence[str] = ()
    """Functions of the tasks that failed because of it, cause first."""

    def _know(self, fields: Fields) -> None:
        self.task = fields.get("task", "")
        self.name = fields.get("name", "")
        self.worker = fields.get("worker")
        self.pid = fields.get("pid")
        self.attempts = tuple(fields.get("attempts", ()))
        self.chain = tuple(fields.get("chain", ()))


class TaskError(_OfTask, ManyhandsError):
    """A task has no result, for another reason than an exception that can be raised here."""


class RemoteError(TaskError):
    """The task raised something that cannot be rebuilt in this process, or failed in Rust."""

    type_name: str = ""
    """Name of the type of what it raised."""
    traceback: str = ""
    """The traceback of the executor, as text."""


class ExecutorDied(TaskError, BrokenExecutor):
    """The process that ran the task ended under it, more often than `crash_retries` allows."""

    signal: int | None = None
    """The signal that killed it."""
    exit_code: int | None = None
    """Its exit code, if no signal killed it."""
    stderr: str = ""
    """The last lines that it printed to stderr."""


class WorkerLost(TaskError, BrokenExecutor):
    """The machine that ran the task was lost, more often than `crash_retries` allows."""


class TaskCancelled(TaskError, CancelledError):
    """Somebody cancelled the task, or one that it needs."""


class TimeLimit(TaskError, TimeoutError):
    """An attempt ran past the task's `time_limit`."""

    limit: float = 0.0
    """The limit in seconds."""


class DeadlinePassed(TaskError, TimeoutError):
    """The task's `deadline` passed before it had ended."""


class MemoryLimit(TaskError, MemoryError):
    """The task's process owned more memory than its `memory_limit`."""

    limit: int = 0
    """The limit in bytes."""
    used: int = 0
    """What it owned when it was seen, in bytes."""

    def __new__(cls, *args: object) -> MemoryLimit:
        # `MemoryError` has a `__new__` that is for no subclass with other bases.
        return BaseException.__new__(cls, *args)


class LostInput(TaskError):
    """An argument of the task was lost, and cannot be made again."""


class NotPortable(TaskError, TypeError):
    """The function, an argument or the result cannot travel between client and executor."""


class Infeasible(TaskError):
    """No worker can ever run the task: it asks for what none has."""


class Refused(TaskError):
    """The scheduler refused the submission."""


class SessionClosed(ManyhandsError, RuntimeError):
    """The client was shut down, or has lost its cluster for good."""


class ConnectFailed(ManyhandsError, ConnectionError):
    """No cluster could be reached, or it did not let this client in."""


class ObjectUnreadable(ManyhandsError):
    """A value exists, and could not be brought here."""


class StoreFull(ManyhandsError, MemoryError):
    """A large value found no room in the object store."""


class CycleError(ManyhandsError, ValueError):
    """The graph waits for itself: none of these tasks could ever start."""


class RemoteTraceback(_OfTask, Exception):
    """The cause of an exception that a task raised: where it was raised, as text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'


def from_failure(kind: str, fields: Fields) -> BaseException:
    """The exception for a failure, a new one each time. Called by the native module."""
    make = _TASK_ERRORS.get(kind)
    if make is not None:
        return make(fields)
    message = fields.get("message", kind)
    return _CLIENT_ERRORS.get(kind, ManyhandsError)(message)


def _raised(fields: Fields) -> BaseException:
    cause = RemoteTraceback(_where(fields))
    cause._know(fields)
    error, doubt = _rebuilt(fields.get("exception"))
    if error is None:
        error = _remote(fields)
        if doubt:
            error.add_note(f"the exception itself could not be rebuilt here: {doubt}")
    error.__cause__ = cause
    return error


def _rebuilt(encoded: tuple[int, bytes] | None) -> tuple[BaseException | None, str]:
    """The exception as it was raised, or why it cannot be had."""
    if encoded is None:
        return None, ""
    from . import _core

    try:
        error = _core.decode(*encoded)
    except Exception as reason:  # What a user's class does when it is unpickled is anybody's guess.
        return None, f"{type(reason).__name__}: {reason}"
    if not isinstance(error, BaseException):
        return None, f"{type(error).__name__} came instead of it"
    return error, ""


def _where(fields: Fields) -> str:
    """The executor's traceback, and which task it was."""
    text = _with_source(str(fields.get("traceback") or fields.get("detail", "")).rstrip())
    place = f"in task {fields.get('name', '?')} ({fields.get('task', '?')})"
    if fields.get("worker") is not None:
        place += f" on {fields['worker']}"
    if fields.get("pid") is not None:
        place += f", executor {fields['pid']}"
    attempts = fields.get("attempts", ())
    if len(attempts) > 1:
        place += f", attempt {len(attempts)}"
    return f"{text}\n\n{place}"


def _with_source(traceback: str) -> str:
    """Adds the lines of code that only this process has: those of a notebook or a prompt. No file
    is read for it: the executor has shown those that it could."""
    if not linecache.cache:
        return traceback
    lines = traceback.split("\n")
    shown = []
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        shown.append(line)
        frame = _FRAME.match(line)
        if frame is None or frame[1] not in linecache.cache or following.startswith("    "):
            continue
        if code := linecache.getline(frame[1], int(frame[2])).strip():
            shown.append(f"    {code}")
    return "\n".join(shown)


def _remote(fields: Fields) -> RemoteError:
    error = RemoteError(fields.get("message", ""))
    error._know(fields)
    error.type_name = fields.get("type_name", "")
    error.traceback = fields.get("traceback", "")
    return error


def _plain(type_: type[TaskError], *more: str) -> Callable[[Fields], TaskError]:
    def make(fields: Fields) -> TaskError:
        error = type_(fields.get("message", ""))
        error._know(fields)
        for name in more:
            if fields.get(name) is not None:
                setattr(error, name, fields[name])
        return error

    return make


def _broken(type_: type[TaskError], *more: str) -> Callable[[Fields], TaskError]:
    make = _plain(type_, *more)

    def broken(fields: Fields) -> TaskError:
        # Who expects the error of `ProcessPoolExecutor` has imported it; we do without, as it takes
        # long. Only then is this one a case of it.
        process = sys.modules.get("concurrent.futures.process")
        if process is not None and not issubclass(type_, process.BrokenProcessPool):
            type_.__bases__ = (TaskError, process.BrokenProcessPool)
        return make(fields)

    return broken


_TASK_ERRORS: dict[str, Callable[[Fields], BaseException]] = {
    "raised": _raised,
    "error": _remote,
    "panicked": _remote,
    "died": _broken(ExecutorDied, "signal", "exit_code", "stderr"),
    "worker_lost": _broken(WorkerLost),
    "cancelled": _plain(TaskCancelled),
    "time_limit": _plain(TimeLimit, "limit"),
    "deadline": _plain(DeadlinePassed),
    "memory_limit": _plain(MemoryLimit, "limit", "used"),
    "lost_input": _plain(LostInput),
    "value": _plain(NotPortable),
    "infeasible": _plain(Infeasible),
    "refused": _plain(Refused),
}

_CLIENT_ERRORS: dict[str, Callable[[str], BaseException]] = {
    "closed": SessionClosed,
    "timeout": TimeoutError,
    "unreadable": ObjectUnreadable,
    "store": StoreFull,
    "connect": ConnectFailed,
    "address": ValueError,
    "start": OSError,
    "cycle": CycleError,
    "encode": TypeError,
    "decode": TypeError,
    "foreign": ValueError,
    "outputs": ValueError,
}
