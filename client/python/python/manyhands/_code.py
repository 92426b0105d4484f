"""What clients and executors have to agree on about the code of functions.

`FunctionSpec.code` is a MessagePack array of a kind, the function, the versions of Python and of
cloudpickle that pickled it, and who reads its result: a `Code`. `_functions` makes it, and `_run`
reads it; `manyhands::python` makes those of Python functions that Rust calls.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import CodeType
from typing import Any

BY_VALUE, BY_REFERENCE = 0, 1
"""The function is a pickle, or ``module:qualname``."""

PICKLED, PLAIN = 0, 1
"""The result is read by Python, or by another language."""

Code = tuple[int, "str | bytes", str, str, int]

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""The version of Python that pickled code is for."""

_GENERATOR = 0x20
"""The flag of code objects of generator functions (`inspect.CO_GENERATOR`; that module is slow to
import)."""

_ASYNC = 0x80 | 0x200
"""Those of coroutine functions and of asynchronous generator functions."""

NOUT = "a call gives a stream of items; take as many as you need from that, without `nout`"
"""Why `nout` cannot be had of a generator function."""


def is_stream(function: Callable[..., Any]) -> bool:
    """Whether a call gives items one after the other: whether it is a generator function.

    >>> def count(n):
    ...     yield from range(n)
    >>> is_stream(count), is_stream(functools.partial(count, 3)), is_stream(len)
    (True, True, False)
    """
    return bool(_flags(function) & _GENERATOR)


def refuse_generator(function: Callable[..., Any], why: str) -> None:
    """Raises `TypeError` of a generator function, where a stream of items is no answer."""
    if is_stream(function):
        name = getattr(function, "__qualname__", repr(function))
        raise TypeError(f"{name} is a generator function: {why}")


def refuse_coroutine(function: Callable[..., Any], name: str) -> None:
    """Raises `TypeError` of an `async def` function."""
    if _flags(function) & _ASYNC:
        raise TypeError(
            f"{name} is an `async def` function, and tasks have no event loop: give an ordinary "
            f"function that calls `asyncio.run({name}(..))`"
        )


def _flags(function: Callable[..., Any]) -> int:
    while isinstance(function, functools.partial):
        function = function.func
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    return code.co_flags if isinstance(code, CodeType) else 0
