"""Locks, queues and shared memory of `multiprocessing` in what a pool of this machine sends along.

They are pickled only while a process is spawned, and then by what the new process inherits. An
executor inherits nothing from this process; but on the same machine it finds semaphores by their
names, and pipes and shared memory among the open files of this process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections import ChainMap
from collections.abc import Iterator
from multiprocessing import context
from typing import Any

HINT = (
    "locks, queues and shared values of multiprocessing reach executors only of this machine, only "
    "in a pool's functions and initargs, and only if they were made by multiprocessing.get_context("
    '"spawn"), or under `python -m manyhands`; those of a multiprocessing.Manager() can be passed '
    "anywhere on this machine"
)
REFUSED_CONNECTION = (
    "a connection of multiprocessing reaches executors only of this machine, and only in a pool's "
    "functions and initargs, as Pipe(duplex=False) makes it; a queue of a "
    "multiprocessing.Manager() can be passed anywhere on this machine"
)
_REFUSED = ("should only be shared between processes", "SemLock created in a fork context")


class _Spawned:
    """Stands for the process that is spawned, as `multiprocessing` has it."""

    def duplicate_for_child(self, descriptor: int) -> int:
        return descriptor

    def DupFd(self, descriptor: int) -> OpenFile:
        return OpenFile(descriptor)


class OpenFile:
    """A file that is open in this process, and is opened anew in an executor."""

    def __init__(self, descriptor: int) -> None:
        if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            raise TypeError(
                "a connection that goes both ways cannot be passed to executors; two pipes that "
                "are made by Pipe(duplex=False) can"
            )
        self._path = f"/proc/{os.getpid()}/fd/{descriptor}"
        self._access = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE

    def detach(self) -> int:
        """Its descriptor in this process. Called by `multiprocessing` when it is unpickled."""
        return os.open(self._path, self._access | os.O_CLOEXEC)


@contextlib.contextmanager
def passed_on(*, local: bool) -> Iterator[None]:
    """What is pickled meanwhile may contain them, for executors of this machine."""
    before = context.get_spawning_popen()
    try:
        if local:
            context.set_spawning_popen(_Spawned())  # type: ignore[arg-type]
        yield
    except RuntimeError as error:
        if is_refusal(error):
            raise RuntimeError(f"{error} ({HINT})") from error
        raise
    finally:
        context.set_spawning_popen(before)


def is_refusal(error: BaseException) -> bool:
    """Whether it says that one of them cannot be pickled."""
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _REFUSED)


def is_passing_on() -> bool:
    """Whether what is pickled now may contain them."""
    return context.get_spawning_popen() is not None


def adapted(pickler: type) -> type:
    """A class of picklers, with what `multiprocessing` adds to it while a process is spawned."""
    if not is_passing_on():
        return pickler
    from multiprocessing import reduction

    added = reduction.ForkingPickler._extra_reducers  # type: ignore[attr-defined]
    own: Any = getattr(pickler, "dispatch_table")  # noqa: B009
    return type(pickler.__name__, (pickler,), {"dispatch_table": ChainMap(own, added)})


def keep_names() -> None:
    """From now on all locks of this program can be passed on: by default they lose their names as
    soon as they are made."""
    from multiprocessing import synchronize

    made = synchronize.SemLock.__init__
    spawn = context._default_context.get_context("spawn")

    def init(self: Any, kind: int, value: int, maxvalue: int, *, ctx: object) -> None:
        made(self, kind, value, maxvalue, ctx=spawn)

    synchronize.SemLock.__init__ = init  # type: ignore[method-assign]
