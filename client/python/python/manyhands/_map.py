"""Results of `Client.map`, in the order of the items."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ._futures import call_on_loop, is_interrupt

if TYPE_CHECKING:
    import asyncio

    from ._core import Future

__all__ = ["Results"]

T = TypeVar("T")

_TOGETHER = 512
"""Results at most that are fetched at one time."""
_PATIENCE_S = 0.005
"""Fetching several together may delay the first of them by about this much."""


class Chunks(Iterator[tuple[list[tuple[Any, ...]]]]):
    """Rows of arguments, several together as the one argument of a call."""

    def __init__(self, rows: Iterable[tuple[Any, ...]], size: int) -> None:
        self._rows = iter(rows)
        self._size = size
        self.rows = 0
        """Those that have been given out."""

    def __next__(self) -> tuple[list[tuple[Any, ...]]]:
        chunk = list(islice(self._rows, self._size))
        if not chunk:
            raise StopIteration
        self.rows += len(chunk)
        return (chunk,)


class Results(Iterator[T], Generic[T]):
    """The results, for `for` and for `async for`. Each is let go of when it has been taken. What is
    left is cancelled when one of them fails or is late, and when the iterator is closed."""

    def __init__(
        self,
        futures: Iterable[Future[T]],
        timeout: float | None,
        more: Iterator[Future[T]] | None = None,
        chunks: Chunks | None = None,
    ) -> None:
        self._futures = deque(futures)
        self._until = None if timeout is None else time.monotonic() + timeout
        self._more = more
        self._chunks = chunks
        """Where the calls are of several rows each: their futures are of lists."""
        self._ready: deque[T] = deque()
        self._taken = 0
        self._together = 1
        # Results that nobody has begun to take are not waited for: their calls run all the same.
        self._is_begun = False

    @classmethod
    def windowed(
        cls,
        futures: Iterator[Future[T]],
        size: int,
        timeout: float | None,
        chunks: Chunks | None = None,
    ) -> Results[T]:
        """Of calls that are made while their results are taken, `size` ahead."""
        return cls(islice(futures, size), timeout, futures, chunks)

    def __iter__(self) -> Results[T]:
        return self

    def __next__(self) -> T:
        self._is_begun = True
        if not self._ready:
            self._fetch()
        self._taken += 1
        return self._ready.popleft()

    def __len__(self) -> int:
        """How many of those that were submitted have not been taken."""
        if self._chunks is not None:
            return self._chunks.rows - self._taken
        return len(self._futures) + len(self._ready)

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        if not self._ready and self._futures:
            first = self._futures[0]
            # Within a task the wait is that of `next`, which keeps to the time.
            if not first.done() and not first.client._is_nested:
                import asyncio

                try:
                    await asyncio.wait_for(until_ended(first), self._left())
                except TimeoutError:
                    self.close()
                    raise TimeoutError from None
                except BaseException:
                    self.close()
                    raise
            self._together = 1
        try:
            return next(self)
        except StopIteration:
            raise StopAsyncIteration from None

    def close(self) -> None:
        """Cancels what has not been taken."""
        self._more = None
        futures, self._futures = self._futures, deque()
        self._ready.clear()
        if self._chunks is not None:
            self._taken = self._chunks.rows
        for future in futures:
            future.cancel()

    def __del__(self) -> None:
        if getattr(self, "_is_begun", False):
            self.close()

    def _fetch(self) -> None:
        """Takes the next results: several at one time, if they come quickly."""
        if not self._futures:
            raise StopIteration
        if self._more is not None:
            return self._fetch_one()
        began = time.monotonic()
        chunk = [self._futures.popleft() for _ in range(min(self._together, len(self._futures)))]
        try:
            self._take(chunk[0].client.gather(chunk, self._left()))
        except BaseException as error:
            # What is before the one that failed, or is late, is to be had.
            self._futures.extendleft(reversed(chunk))
            del chunk
            if is_interrupt(error):
                raise
            return self._fetch_one()
        quick = time.monotonic() - began < _PATIENCE_S
        self._together = min(2 * self._together, _TOGETHER) if quick else 1
        return None

    def _fetch_one(self) -> None:
        future = self._futures.popleft()
        try:
            value = future.result(self._left())
        except BaseException:
            future.cancel()
            self.close()
            raise
        if self._more is not None:
            self._futures.extend(islice(self._more, 1))
        self._take([value])

    def _take(self, values: list[Any]) -> None:
        self._ready.extend(values if self._chunks is None else chain.from_iterable(values))

    def _left(self) -> float | None:
        return None if self._until is None else max(self._until - time.monotonic(), 0.0)


async def until_ended(future: Future[Any]) -> None:
    """Until this future has ended, well or badly."""
    import asyncio

    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def wake(_: object) -> None:
        if not waiter.done():
            waiter.set_result(None)

    if call_on_loop(future, loop, wake):
        await waiter
