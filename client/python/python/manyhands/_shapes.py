"""What the tasks of a pool do with what they are given: a call, or several. Executors run it."""

from __future__ import annotations

import io
import itertools
import pickle
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from ._errors import RemoteError, RemoteTraceback

LARGE_ERROR = 16 << 10
"""Bytes of a pickled exception from which on it travels as a value."""

PLAIN, ONE, MAP, STAR, EACH, CHUNK = range(6)
"""What a call does with what it is given: just that; one call, of which a large exception comes
back as `Failed`; a call for each item, or each tuple of arguments, until one fails; a call for each
item, which tells what came of each; or a call for each tuple, and nothing but the results."""


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def _one(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            failed = Failed(error)
            if failed.is_large:
                return failed
            raise

    return call


def _all(mapper: Callable[..., Iterable[Any]], function: Callable[..., Any]) -> Callable[..., Any]:
    def over(items: Iterable[Any]) -> tuple[float, int, list[Any] | Failed]:
        began = time.perf_counter()
        results: list[Any] | Failed
        try:
            results = list(mapper(function, items))
            heavy = weight(results)
        except Exception as error:
            results, heavy = Failed(error), 0
            if not results.is_large:
                raise
        return time.perf_counter() - began, heavy, results

    return over


def _map(function: Callable[..., Any]) -> Callable[..., Any]:
    return _all(map, function)


def _star(function: Callable[..., Any]) -> Callable[..., Any]:
    return _all(itertools.starmap, function)


def _each(function: Callable[..., Any]) -> Callable[..., Any]:
    def over(items: Iterable[Any]) -> tuple[float, int, list[Any]]:
        began = time.perf_counter()
        results = []
        for item in items:
            try:
                results.append(function(item))
            except Exception as error:
                results.append(Failed(error))
        return time.perf_counter() - began, weight(results), results

    return over


def _chunk(function: Callable[..., Any]) -> Callable[..., Any]:
    def over(rows: Iterable[tuple[Any, ...]]) -> list[Any]:
        return list(itertools.starmap(function, rows))

    return over


SHAPES = {PLAIN: _plain, ONE: _one, MAP: _map, STAR: _star, EACH: _each, CHUNK: _chunk}


def _rebuildable(write: Callable[[], bytes]) -> bytes:
    """The pickle of an exception, or nothing if it cannot be rebuilt from that."""
    try:
        body = write()
        pickle.loads(body)
    except Exception:
        return b""
    return body


def _written(error: BaseException) -> bytes:
    from ._codec import Full

    with io.BytesIO() as file:
        Full(file, protocol=5).dump(error)
        return file.getvalue()


class Failed:
    """What a call raised, as a result or among results."""

    def __init__(self, error: BaseException) -> None:
        import traceback

        # The frame that has caught it says nothing to the user.
        where = error.__traceback__.tb_next if error.__traceback__ is not None else None
        self.text = "".join(traceback.format_exception(type(error), error, where))
        self.name = type(error).__qualname__
        self.body = _rebuildable(lambda: _written(error))
        if not self.body:
            from ._codec import rewritten

            self.body = _rebuildable(lambda: rewritten(error))

    @property
    def is_large(self) -> bool:
        """Whether it is too large to be raised in an executor and come back as what it is."""
        return len(self.body) > LARGE_ERROR

    def error(self) -> BaseException:
        """The exception, or its text if it cannot be rebuilt here."""
        try:
            found = pickle.loads(self.body)
        except Exception:
            found = None
        error: BaseException = RemoteError(f"it raised {self.name}")
        if isinstance(found, BaseException):
            error = found
        error.__cause__ = RemoteTraceback(self.text)
        return error


def weight(values: list[Any]) -> int:
    """About how many bytes one of these values has, by the first of them."""
    if not values:
        return 0
    size = getattr(values[0], "nbytes", None)
    return size if isinstance(size, int) else sys.getsizeof(values[0])
