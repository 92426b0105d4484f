"""Generators as tasks: their items come while the task runs.

The task makes an item only when there is room for it: a consumer that is slow, or has stopped,
stops the task too. A few items are made ahead.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, TypeVar

from ._futures import call_on_loop, wait_in_task

if TYPE_CHECKING:
    import asyncio

    from . import _core
    from ._core import Future, Options

__all__ = ["Stream"]

T = TypeVar("T")

AHEAD = 16
"""Items that are made before they are asked for."""


class Stream(Iterator[T], Generic[T]):
    """The items of a generator that runs as a task, for `for` and for `async for`.

    What the generator raises comes after the items before it. Closing the stream, leaving its
    `with`, or dropping it stops the task. An item that was taken is let go of.

    >>> def countdown(n):
    ...     while n:
    ...         yield n
    ...         n -= 1
    >>> list(client.submit(countdown, 3))
    [3, 2, 1]
    """

    def __init__(self, source: _core.StreamSource, ahead: int = AHEAD) -> None:
        self._source = source
        self._ahead = ahead
        self._end: Future[int] = source.end
        # Futures of the items that there is room for, the next one first.
        self._items: deque[Future[Any]] = deque()
        self._given = 0
        self._is_over = False
        self._at_end: _AtEnd | None = None
        self._make_room()

    def __repr__(self) -> str:
        return f"<Stream of {self._end.name}, {self._given} items taken>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a stream cannot be an argument or a result, since its items are taken here: take them "
            "first, as by `list(stream)`, and pass those; or call the generator within the task"
        )

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        return self.next()

    def next(self, timeout: float | None = None) -> T:
        """The next item; raises `TimeoutError` if it has not come after `timeout` seconds."""
        if self._is_over:
            raise StopIteration
        item, until = self._items[0], None if timeout is None else time.monotonic() + timeout
        if not item.done():
            self._end.client.wait([item, self._end], 1, timeout)
            if not item.done() and not self._end.done():
                raise TimeoutError(f"item {self._given} has not come")
        return self._take(item, until)

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        if self._is_over:
            raise StopAsyncIteration
        item = self._items[0]
        if not item.done() and not self._end.done():
            await self._until_ended(item)
        try:
            return self._take(item, None)
        except StopIteration:
            raise StopAsyncIteration from None

    async def _until_ended(self, item: Future[T]) -> None:
        """Until the item is there, or the task has ended."""
        if item.client._is_nested:
            wait_in_task([item, self._end])
            return
        import asyncio

        loop = asyncio.get_running_loop()
        if self._at_end is None or self._at_end.loop is not loop:
            self._at_end = _AtEnd(loop)
            if not call_on_loop(self._end, loop, self._at_end):
                return
        waiter: asyncio.Future[None] = loop.create_future()
        waiting = self._at_end.waiting
        waiting.add(waiter)
        try:
            if call_on_loop(item, loop, lambda _: _wake(waiter)):
                await waiter
        finally:
            waiting.discard(waiter)

    def _take(self, item: Future[T], until: float | None) -> T:
        """The item, or what the task ended with: one of both is there."""
        if not item.done() or item._status() != "VALUE":
            self._check_end()
        left = None if until is None else max(until - time.monotonic(), 0.0)
        value = item.result(left)
        self._items.popleft()
        self._given += 1
        self._make_room()
        return value

    def _check_end(self) -> None:
        """Returns if there is an item to be had still; else raises what ends the iteration."""
        try:
            count = self._end.result()
        except BaseException:
            self._finish()
            raise
        if self._given >= count:
            self._finish()
            raise StopIteration

    def _make_room(self) -> None:
        # In blocks: a message for each item would cost as much as the item.
        if len(self._items) <= self._ahead // 2:
            first = self._given + len(self._items)
            self._items.extend(self._source.room(first, self._given + self._ahead))

    def _finish(self) -> None:
        self._is_over = True
        self._items.clear()

    def close(self) -> None:
        """Stops the task, if it has not ended. Items that were made and not taken are let go of."""
        if not self._is_over:
            self._finish()
            self._end.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def aclose(self) -> None:
        """As `close`, which does not wait either."""
        self.close()

    def __del__(self) -> None:
        # In a child of the process that it belongs to it is nobody's to close.
        if hasattr(self, "_is_over") and self._end.client._pid == os.getpid():
            self.close()


class _AtEnd:
    """Called once, in an event loop, when the task has ended: wakes those who wait for an item.
    It does not keep the stream, which may be dropped meanwhile."""

    __slots__ = ("loop", "waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.waiting: set[asyncio.Future[None]] = set()

    def __call__(self, _: Future[Any]) -> None:
        for waiter in self.waiting:
            _wake(waiter)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def open(
    client: _core.Client,
    function: Callable[..., Iterator[T]],
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None,
    options: Options | None,
) -> Stream[T]:
    """A call of a generator function. Called by the native module."""
    return Stream(client.open_stream(function, args, kwargs, options))
