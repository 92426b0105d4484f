"""What a pool gives for what it has begun: results that can be waited for, and iterators over
them."""

from __future__ import annotations

import multiprocessing
import pickle
import threading
import types
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import pool as stdlib
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from ._errors import RemoteTraceback
from ._feeder import outcome
from ._shapes import Failed

if TYPE_CHECKING:
    from ._core import Future
    from .pool import Pool

T = TypeVar("T")

# Public, and unknown to those who wrote the types of the standard library.
_MaybeEncodingError: Any = vars(stdlib)["MaybeEncodingError"]
_RemoteTraceback: Any = vars(stdlib)["RemoteTraceback"]


class ApplyResult(Generic[T]):
    """The result of a call that has begun. As `multiprocessing.pool.AsyncResult`."""

    def __init__(
        self,
        pool: Pool,
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        # The pool lives until the result is there.
        self._pool: Pool | None = pool
        self._callback = callback
        self._error_callback = error_callback
        self._come = threading.Condition()
        self._is_ready = False
        self._future: Future[T] | None = None
        self._success = True
        self._value: Any = None

    def ready(self) -> bool:
        """Whether it has ended."""
        future = self._future
        return self._is_ready if future is None else future.done()

    def successful(self) -> bool:
        """Whether it has ended without an exception. Raises `ValueError` before it has ended."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        self._collect()
        return self._success

    def wait(self, timeout: float | None = None) -> None:
        """Waits for the end, `timeout` seconds at most."""
        future, pool = self._future, self._pool
        if future is not None:
            future.client.wait([future], 1, timeout)
        elif pool is not None:
            pool._feeder.wait_for(self._come, lambda: self._is_ready, timeout)

    def get(self, timeout: float | None = None) -> T:
        """The result. Raises what the call raised, and `multiprocessing.TimeoutError` after
        `timeout` seconds.

        >>> result = pool.map_async(abs, [-1, -2])
        >>> result.get(), result.ready(), result.successful()
        ([1, 2], True, True)
        """
        self.wait(timeout)
        if not self.ready():
            raise multiprocessing.TimeoutError
        self._collect()
        if self._success:
            value: T = self._value
            return value
        raise self._value

    def _collect(self) -> None:
        """Takes the result of a call that was submitted without further ado."""
        future, pool = self._future, self._pool
        if future is None or pool is None:
            return
        value, error = outcome(future)
        if isinstance(value, Failed):
            error = value.error()
        if error is None:
            self._value = value
        else:
            self._success, self._value = False, as_of_a_pool(error)
        pool._plain.discard(future)
        self._is_ready = True
        self._future = self._pool = None

    # What the feeder tells.

    def took(self, first: int, results: list[Any]) -> None:
        self._value = results[0]

    def failed(self, first: int, count: int, error: BaseException) -> None:
        if self._success:
            self._success, self._value = False, as_of_a_pool(error)

    def ended(self, count: int) -> None:
        try:
            call = self._callback if self._success else self._error_callback
            if call is not None:
                call(self._value)
        finally:
            with self._come:
                self._is_ready = True
                self._come.notify_all()
            self._pool = self._callback = self._error_callback = None

    __class_getitem__: Any = classmethod(types.GenericAlias)


AsyncResult = ApplyResult


class MapResult(ApplyResult[list[T]]):
    """The results of a map that has begun."""

    def __init__(
        self,
        pool: Pool,
        count: int,
        callback: Callable[[list[T]], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        super().__init__(pool, callback, error_callback)
        self._value = [None] * count

    def took(self, first: int, results: list[Any]) -> None:
        if self._success:
            self._value[first : first + len(results)] = results


class IMapIterator(Iterator[T]):
    """The results of an `imap`, as they come."""

    def __init__(self, pool: Pool) -> None:
        self._pool: Pool | None = pool
        self._come = threading.Condition()
        self._items: deque[Any] = deque()
        self._left: int | None = None
        self._told = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        return self.next()

    def next(self, timeout: float | None = None) -> T:
        """The next result. Raises what its call raised, `multiprocessing.TimeoutError` if it has
        not come after `timeout` seconds, and `StopIteration` after the last one."""
        pool = self._pool
        if pool is not None and not self._items:
            feeder = pool._feeder
            del pool
            feeder.wait_for(self._come, lambda: self._items or self._pool is None, timeout)
        with self._come:
            if not self._items:
                if self._pool is None:
                    raise StopIteration
                raise multiprocessing.TimeoutError
            item = self._items.popleft()
        if not isinstance(item, Failed):
            value: T = item
            return value
        raise as_of_a_pool(item.error())

    # What the feeder tells.

    def took(self, first: int, results: list[Any]) -> None:
        self._put(first, len(results), results)

    def failed(self, first: int, count: int, error: BaseException) -> None:
        self._put(first, count, [_Raised(error)])

    def ended(self, count: int) -> None:
        with self._come:
            self._pool = None
            self._come.notify_all()

    def _put(self, first: int, count: int, results: Sequence[Any]) -> None:
        raise NotImplementedError

    __class_getitem__: Any = classmethod(types.GenericAlias)


class _Raised(Failed):
    """What a whole group failed with, where results are expected."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def error(self) -> BaseException:
        return self._error


class Ordered(IMapIterator[T]):
    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self._next = 0
        self._early: dict[int, tuple[int, Sequence[Any]]] = {}

    def _put(self, first: int, count: int, results: Sequence[Any]) -> None:
        with self._come:
            self._early[first] = (count, results)
            while self._next in self._early:
                passed, found = self._early.pop(self._next)
                self._next += passed
                self._items.extend(found)
            self._come.notify_all()


class Unordered(IMapIterator[T]):
    def _put(self, first: int, count: int, results: Sequence[Any]) -> None:
        with self._come:
            self._items.extend(results)
            self._come.notify_all()


def fail(result: ApplyResult[Any], error: BaseException) -> None:
    """A call that could not even begin."""
    result.failed(0, 1, error)
    result.ended(0)


_NO_RESULT = "the result"
"""How the errors of executors begin that could not pickle a result."""


def as_of_a_pool(error: BaseException) -> BaseException:
    """An exception as `multiprocessing.Pool` raises it: where it was raised as a `RemoteTraceback`
    of its kind, and `MaybeEncodingError` for a result that cannot travel."""
    cause = error.__cause__
    if isinstance(cause, RemoteTraceback):
        error.__cause__ = _RemoteTraceback(str(cause))
    if isinstance(error, pickle.PicklingError) and isinstance(cause, Exception):
        # What the object itself raised when it was pickled, and where it lies.
        cause.add_note(str(error))
        return cause
    if isinstance(error, (TypeError, pickle.PicklingError)) and str(error).startswith(_NO_RESULT):
        wrapped: BaseException = _MaybeEncodingError(error, "what the function returned")
        wrapped.__cause__ = error
        return wrapped
    return error
