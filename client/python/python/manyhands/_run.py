"""What executors do in Python around a call: read a function, and describe an exception."""

from __future__ import annotations

import importlib
import os
import platform
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle

from . import _core
from ._code import BY_REFERENCE, BY_VALUE, PLAIN, PYTHON, is_stream

TEXT_LIMIT = 32 << 10
"""Characters of a message or traceback that travel; of a longer one the middle is left out."""


def call(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Calls a function that was given as an argument. Executors know this one: they keep the
    function that they have read, and call it themselves, so that no frame of this file is in a
    traceback."""
    return function(*args, **kwargs)


executor: int | None = None
"""The id of this process, if it is an executor."""


def begin() -> None:
    """Once in each executor, before its first task."""
    global executor
    executor = os.getpid()
    os.register_at_fork(after_in_child=_core._forked)
    random = sys.modules.get("numpy.random")
    if random is not None:
        # All were forked from the same state.
        random.seed()


def leave() -> None:
    """Once in an executor that ends in good order, after its last task. Threads of queues of
    `multiprocessing` hand over what tasks have put."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util._run_finalizers()


def load(name: str, code: list[Any]) -> tuple[Callable[..., Any], bool, bool, bool]:
    """Reads a function from its code, as `_functions` wrote it: the function, whether the function
    to be called comes as its first argument, whether its result is for another language, and
    whether it is a generator function."""
    kind, payload, python, pickled_by, result = code
    if pickled_by:
        compare(name, python, pickled_by)
    if kind == BY_REFERENCE:
        function = _find(payload)
    elif kind == BY_VALUE:
        function = cloudpickle.loads(payload)
    else:
        raise ValueError(f"it was written by another version of manyhands (kind {kind})")
    if not callable(function):
        raise TypeError(f"{type(function).__name__} is not callable")
    return function, function is call, result == PLAIN, is_stream(function)


def _find(reference: str) -> Any:
    module, _, name = reference.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    task = sys.modules.get("manyhands._task")
    if task is not None and isinstance(found, task.Task):
        return found.__wrapped__
    return found


def compare(name: str, python: str, pickled_by: str) -> None:
    """Pickled code is for one minor version of Python, and for what cloudpickle makes of it."""
    if python == PYTHON and pickled_by == cloudpickle.__version__:
        return
    raise ValueError(
        f"{name} was written by Python {python} with cloudpickle {pickled_by}, and "
        f"{platform.node()} has Python {PYTHON} with cloudpickle {cloudpickle.__version__}: "
        "install the same there, or put the function into a module that both sides can import"
    )


def describe_exception(exception: BaseException) -> tuple[str, str, str]:
    """The name of its type, what it says, and its traceback as Python prints it. Its tracebacks,
    and with them what the functions held, are let go of."""
    shown = traceback.TracebackException.from_exception(exception, compact=True)
    text = "".join(shown.format())
    for one in _chain(exception):
        one.__traceback__ = None
    try:
        message = str(exception)
    except Exception as error:
        message = f"<its __str__ raised {type(error).__name__}>"
    return _type_name(type(exception)), _shortened(message), _shortened(text)


def _chain(exception: BaseException) -> Iterator[BaseException]:
    """An exception, and those that it was raised from or during."""
    seen: set[int] = set()
    left: list[BaseException | None] = [exception]
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        left += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions
        yield one


def _type_name(class_: type) -> str:
    if class_.__module__ in ("builtins", "__main__"):
        return class_.__qualname__
    return f"{class_.__module__}.{class_.__qualname__}"


def _shortened(text: str) -> str:
    text = text.encode("utf-8", "backslashreplace").decode()
    if len(text) <= TEXT_LIMIT:
        return text
    half = TEXT_LIMIT // 2
    return f"{text[:half]}\n... {len(text) - TEXT_LIMIT} characters ...\n{text[-half:]}"


def advise(error: BaseException) -> str:
    """An exception in a line, with what to do about it."""
    words = f"{type(error).__name__}: {error}"
    if isinstance(error, ModuleNotFoundError):
        words += (
            f" (on {platform.node()}: install it there, or send it with "
            "Client(py_modules=[...]) or Client(requirements=[...]))"
        )
    return _shortened(words)
