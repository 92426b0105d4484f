"""The template interpreter: what executors are forked from.

A worker starts one for each environment that its tasks ask for, with a socket as standard input.
It imports what shall be there once for all, and then forks executors on command: the native module
does that, and runs the tasks.

No thread may live here: a fork would not copy it, and a lock that it held would stay held for ever.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Any, NoReturn

STACK = 512 << 20
"""Bytes of stack for tasks, where the system lets us: those that wait run others on top of them."""

ONE_THREAD = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
"""Libraries that start threads unless told not to. There is an executor for each core."""


def main(spec: dict[str, Any]) -> NoReturn:
    """Becomes the template that a worker has asked for. ``spec`` has the keys ``preload``,
    ``archive``, ``requirements`` and ``cache``, and ``path``, which is in `sys.path` already."""
    if spec.get("requirements"):
        from ._requirements import use

        use(spec)
    from . import _core

    _core.template_begin()
    # It was for this process alone.
    os.environ.pop("MANYHANDS_PYTHON_TEMPLATE", None)
    _set_up(spec.get("archive"))
    _import(spec.get("preload") or [])
    _freeze()
    _core.serve_template()


def _set_up(archive: str | None) -> None:
    """What a program of its own would find, as far as that does not depend on what it imports."""
    sys.argv = [""]
    if archive is not None:
        sys.path.insert(0, archive)
    for name in ONE_THREAD:
        os.environ.setdefault(name, "1")
    _raise_stack_limit()
    for stream in (sys.stdout, sys.stderr):
        # What a task prints is seen while it runs, and never fails for what it is.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    if os.environ.get("MANYHANDS_LOGGING"):
        from . import _logging

        _logging.set_up()
    import faulthandler

    # Written to number 2, which is the task's own in every executor.
    faulthandler.enable(2)


def _raise_stack_limit() -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    wanted = STACK if hard == resource.RLIM_INFINITY else min(STACK, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_STACK, (wanted, hard))


def _import(preload: list[str]) -> None:
    from . import _codec

    _codec.be_executor()
    for name in preload:
        try:
            __import__(name)
        except BaseException as error:
            sys.exit(f"the preload {name} cannot be imported: {type(error).__name__}: {error}")


def warm_up() -> None:
    """Imports what executors have to import themselves before their first task, since the first of
    them are not to wait for it: those that take their places are ready in milliseconds. Called by
    the native module."""
    from . import _errors, _initializer, _run  # noqa: F401

    _freeze()


def _freeze() -> None:
    """Leaves everything that is there out of garbage collection, which would write to its pages and
    so have each executor copy them."""
    import gc

    gc.collect()
    gc.freeze()
    alive = len(os.listdir("/proc/self/task"))
    if alive > 1:
        print(
            f"manyhands: {alive - 1} threads were started by what was preloaded; executors are "
            "forked without them, and may wait for them for ever",
            file=sys.stderr,
        )
