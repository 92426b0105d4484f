"""What happens when futures end: callbacks, the standard library's `wait`, and asyncio.

A future is an object of the native module, which knows nothing of conditions and event loops. The
first callback, await or standard-library wait of a client starts one Python thread, which sits in
the native module until futures end; there is no thread per future, and none at all for those who
only ask for results.

Within a task nothing comes but while the task's own thread waits in the native module, so there is
no such thread: whoever wants to be told of an end waits for it there and then, one future after the
other. On another thread of the task that cannot work, and is refused.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from . import _core

if TYPE_CHECKING:
    import asyncio

    from ._core import Future

    _F = Future[Any]
    _Call = Callable[[_F], object]

__all__ = ["AsCompleted", "DoneAndNotDone", "as_completed", "gather", "gather_async", "wait"]

T = TypeVar("T")

_lock = threading.RLock()
"""Guards the extras of all futures, for a few instructions; no callback is called under it. The
garbage collector may run finalizers there that add callbacks: hence it can be taken again."""


def _after_fork() -> None:
    """In the child: another thread of the parent may have held it, and is not here."""
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_after_fork)


class _Extra:
    """What a future has besides its native part, once somebody wants to be told of its end."""

    __slots__ = ("calls", "ended", "shadow", "watched")

    def __init__(self) -> None:
        self.calls: list[_Call | _OnLoop] = []
        self.shadow: _Shadow | None = None
        self.watched = False
        self.ended = False


class _OnLoop:
    """A callback that is to run in an event loop."""

    __slots__ = ("call", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, call: _Call) -> None:
        self.loop = loop
        self.call = call


class _Shadow:
    """The private parts of a `concurrent.futures.Future`, which its `wait` and `as_completed`
    use."""

    __slots__ = ("_condition", "_state", "_waiters")

    def __init__(self, state: str) -> None:
        self._condition = threading.Condition()
        self._state = state
        self._waiters: list[Any] = []

    def settle(self, future: _F) -> None:
        state = _stdlib_state(future)
        with self._condition:
            self._state = state
            for waiter in self._waiters:
                if state == "CANCELLED_AND_NOTIFIED":
                    waiter.add_cancelled(future)
                elif future._status() == "FAILED":
                    waiter.add_exception(future)
                else:
                    waiter.add_result(future)
            self._condition.notify_all()


class Notifier:
    """The thread of a client that calls back when futures end."""

    def __init__(self, client: _core.Client) -> None:
        self._watch = client.watch()
        self._pending: set[_F] = set()
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="manyhands-callbacks", daemon=True)
        self._thread.start()

    def add(self, future: _F) -> None:
        """Tells the future's extra when it ends. It is kept until then."""
        self._pending.add(future)
        self._watch.add(future)
        if self._is_over:
            # The thread may have looked for the last time before this one was there.
            self._settle([future])

    def close(self) -> None:
        """Ends the thread. Futures that have not ended count as ended: their session is over."""
        self._watch.close()
        if threading.get_ident() != self._thread.ident:
            self._thread.join()

    def _run(self) -> None:
        while (ended := self._watch.next(None, keep=True)) is not None:
            self._settle(ended)
            del ended
        self._is_over = True
        # Copied in one step: others may be added meanwhile.
        self._settle(self._pending.copy())

    def _settle(self, ended: Iterable[_F]) -> None:
        loops: dict[asyncio.AbstractEventLoop, list[tuple[_Call, _F]]] = {}
        for future in ended:
            self._pending.discard(future)
            for call in _take_calls(future):
                if isinstance(call, _OnLoop):
                    loops.setdefault(call.loop, []).append((call.call, future))
                else:
                    _call(call, future)
        for loop, calls in loops.items():
            # A loop that was closed meanwhile has nobody left to tell.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_call_all, calls)


def _take_calls(future: _F) -> list[_Call | _OnLoop]:
    with _lock:
        extra: _Extra = future._extra
        calls, extra.calls = extra.calls, []
        extra.ended, shadow = True, extra.shadow
    if shadow is not None:
        shadow.settle(future)
    return calls


def _call(call: _Call, future: _F) -> None:
    try:
        call(future)
    except Exception:
        import logging

        logging.getLogger("manyhands").exception("exception calling callback for %r", future)


def _call_all(calls: list[tuple[_Call, _F]]) -> None:
    for call, future in calls:
        _call(call, future)


def _register(future: _F, call: _Call | _OnLoop) -> bool:
    """Has `call` called when the future ends. False if it has ended already; within a task that is
    waited for."""
    if type(future) is not _core.Future:
        return _register_other(future, call)
    if future.client._is_nested:
        wait_in_task([future])
        return False
    with _lock:
        extra = _extra(future)
        if extra.ended or (not extra.watched and future.done()):
            return False
        extra.calls.append(call)
        watch = _begin_watching(extra)
    if watch:
        future.client._notifier().add(future)
    return True


def _register_other(future: _F, call: _Call | _OnLoop) -> bool:
    """As `_register`, for a future of another executor."""
    if future.done():
        return False
    if isinstance(call, _OnLoop):
        loop, on_loop = call.loop, call.call
        future.add_done_callback(lambda ended: _call_on(loop, on_loop, ended))
    else:
        future.add_done_callback(call)
    return True


def _call_on(loop: asyncio.AbstractEventLoop, call: _Call, future: _F) -> None:
    # A loop that was closed meanwhile has nobody left to tell.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call, future)


def wait_in_task(futures: list[_F], timeout: float | None = None) -> None:
    """Within a task: waits on its own thread until one of these has ended. Raises `RuntimeError` on
    another thread, which would wait for ever."""
    client = futures[0].client
    if client._thread != threading.get_ident():
        raise RuntimeError(
            f"{futures[0]!r} is waited for on another thread than that of the task that submitted "
            "it: wait for it on the task's own thread, and give the threads its result"
        )
    if not any(future.done() for future in futures):
        client.wait(futures, 1, timeout)


def is_interrupt(error: BaseException) -> bool:
    """Whether this was raised here, for whoever waits, and not by a task: Ctrl-C, or the end of the
    task that waits."""
    return isinstance(error, KeyboardInterrupt) and error.__cause__ is None


def _session(future: _F) -> Any:
    """The same for futures that one client can wait for together; none for those of other
    executors."""
    if type(future) is not _core.Future:
        return None
    client = future.client
    return "of the task" if client._is_nested else id(client)


def _one_client(futures: Iterable[_F]) -> Any:
    """The client that can wait for all of these, if there is one."""
    found, sessions = None, set()
    for future in futures:
        sessions.add(_session(future))
        if len(sessions) > 1 or None in sessions:
            return None
        found = found or future.client
    return found


def _has_failed(future: _F) -> bool:
    if type(future) is _core.Future:
        return future._status() == "FAILED"
    return not future.cancelled() and future.exception() is not None


def _extra(future: _F) -> _Extra:
    if future._extra is None:
        future._extra = _Extra()
    extra: _Extra = future._extra
    return extra


def _begin_watching(extra: _Extra) -> bool:
    watched, extra.watched = extra.watched, True
    return not watched


def _running_loop() -> asyncio.AbstractEventLoop:
    # Imported here, since who does not use asyncio should not wait for it.
    import asyncio

    return asyncio.get_running_loop()


# What the native module calls.


def add_done_callback(future: _F, call: _Call) -> None:
    """`Future.add_done_callback`: at once and here if it has ended, else on the client's thread for
    callbacks, in the order in which they were added. Within a task it waits, and calls it then."""
    if not _register(future, call):
        _call(call, future)


def wait_async(future: Future[T]) -> Generator[Any, None, T]:
    """`await future`, of one that has not ended. An await that is cancelled cancels the task, as
    with the futures of asyncio; `asyncio.shield` keeps it."""
    loop = _running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def wake(_: _F) -> None:
        if not waiter.done():
            waiter.set_result(None)

    if _register(future, _OnLoop(loop, wake)):
        try:
            yield from waiter
        except BaseException:
            future.cancel()
            raise
    return future.result()


def shadow(future: _F) -> _Shadow:
    """The private parts of the standard library's futures, made when somebody looks at them. Within
    a task it waits first, so that the standard library sees futures that have ended."""
    if future.client._is_nested:
        wait_in_task([future])
    with _lock:
        extra = _extra(future)
        if extra.shadow is not None:
            return extra.shadow
        # In this order: one that ends in between is told of, and one that has ended looks so.
        watch = not future.done() and not extra.ended and _begin_watching(extra)
        extra.shadow = made = _Shadow(_stdlib_state(future))
    if watch:
        future.client._notifier().add(future)
    return made


def snapshot(future: _F) -> tuple[bool, bool, Any, BaseException | None]:
    """`_get_snapshot` of the standard library's futures: done, cancelled, result, exception."""
    if not future.done():
        return False, False, None, None
    if future.cancelled():
        return True, True, None, None
    error = future.exception()
    return True, False, None if error is not None else future.result(), error


def _stdlib_state(future: _F) -> str:
    if not future.done():
        # Whether it runs would have to be asked, and those who look here want to know of its end.
        return "PENDING"
    return "CANCELLED_AND_NOTIFIED" if future.cancelled() else "FINISHED"


def call_on_loop(future: _F, loop: asyncio.AbstractEventLoop, call: _Call) -> bool:
    """Has `call` called in the event loop when the future ends. False if it has ended already."""
    return _register(future, _OnLoop(loop, call))


# What users call.


class DoneAndNotDone(NamedTuple):
    """What `wait` returns."""

    done: set[_core.Future[Any]]
    not_done: set[_core.Future[Any]]


def wait(
    futures: Iterable[_F],
    timeout: float | None = None,
    return_when: str = ALL_COMPLETED,
    *,
    first: int | None = None,
) -> DoneAndNotDone:
    """Waits until these futures have ended, or the time in seconds is over; never raises because a
    task failed. `return_when` is as in `concurrent.futures.wait`; `first=n` waits for any n of
    them.

    >>> futures = [client.submit(pow, 2, n) for n in range(3)]
    >>> done, not_done = wait(futures)
    >>> sorted(future.result() for future in done), not_done
    ([1, 2, 4], set())
    """
    if return_when not in (ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION):
        raise ValueError(f"invalid return condition: {return_when!r}")
    unique = list(dict.fromkeys(futures))
    if first is None:
        first = 1 if return_when == FIRST_COMPLETED else len(unique)
    until = None if timeout is None else time.monotonic() + timeout
    if return_when == FIRST_EXCEPTION:
        _wait_for_failure(unique, until)
    else:
        _wait_for(unique, min(first, len(unique)), until)
    done = {future for future in unique if future.done()}
    return DoneAndNotDone(done, set(unique) - done)


def _wait_for(futures: list[_F], need: int, until: float | None) -> None:
    client = _one_client(futures)
    if client is not None:
        client.wait(futures, need, _left(until))
        return
    ended = AsCompleted(futures, _left(until))
    with contextlib.suppress(TimeoutError):
        for _ in range(need):
            next(ended)


def _wait_for_failure(futures: list[_F], until: float | None) -> None:
    with contextlib.suppress(TimeoutError):
        for future in AsCompleted(futures, _left(until)):
            if _has_failed(future):
                return


def _left(until: float | None) -> float | None:
    return None if until is None else max(until - time.monotonic(), 0.0)


class AsCompleted(Iterator["_core.Future[T]"], Generic[T]):
    """Futures in the order in which they end; for `for` and for `async for`.

    More can be added on the way with `add`. It keeps a future only until it has given it.
    """

    def __init__(self, futures: Iterable[Future[T]] = (), timeout: float | None = None) -> None:
        self._until = None if timeout is None else time.monotonic() + timeout
        self._count = 0
        self._source: _Watched | _Called | _CalledAsync | None = None
        self._first: list[Future[T]] | None = list(dict.fromkeys(futures))
        self._count = len(self._first)

    def add(self, future: Future[T]) -> None:
        """One more future."""
        self._count += 1
        if self._first is not None:
            self._first.append(future)
        elif self._source is not None:
            self._source.add(future)

    def __len__(self) -> int:
        """How many have not been given yet."""
        return self._count

    def __iter__(self) -> AsCompleted[T]:
        return self

    def __next__(self) -> Future[T]:
        if self._count == 0:
            raise StopIteration
        source = self._source or self._begin(asynchronous=False)
        if isinstance(source, _CalledAsync):
            raise TypeError("this as_completed is used by `async for` already")
        future: Future[T] | None = source.next(_left(self._until))
        if future is None:
            raise TimeoutError(f"{self._count} futures unfinished")
        self._count -= 1
        return future

    def __aiter__(self) -> AsyncIterator[Future[T]]:
        return self

    async def __anext__(self) -> Future[T]:
        if self._count == 0:
            raise StopAsyncIteration
        source = self._source or self._begin(asynchronous=True)
        if not isinstance(source, _CalledAsync):
            raise TypeError("this as_completed is used by `for` already")
        import asyncio

        try:
            future = await asyncio.wait_for(source.queue.get(), _left(self._until))
        except TimeoutError:
            raise TimeoutError(f"{self._count} futures unfinished") from None
        self._count -= 1
        return future

    def _begin(self, *, asynchronous: bool) -> _Watched | _Called | _CalledAsync:
        first, self._first = self._first or [], None
        client = _one_client(first)
        source: _Watched | _Called | _CalledAsync
        if asynchronous:
            source = _CalledAsync()
        elif client is not None:
            source = _Watched(client)
        else:
            source = _Called()
        for future in first:
            source.add(future)
        self._source = source
        return source


class _Watched:
    """Ends of futures of one client: straight from the native module."""

    def __init__(self, client: _core.Client) -> None:
        self._watch = client.watch()
        self._ready: list[_F] = []

    def add(self, future: _F) -> None:
        self._watch.add(future)

    def next(self, timeout: float | None) -> _F | None:
        if not self._ready:
            ended = self._watch.next(timeout)
            if ended is None:
                raise _closed()
            self._ready = ended[::-1]
        return self._ready.pop() if self._ready else None


class _Called:
    """Ends of futures of several clients, or of other executors: by callbacks."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[_F] = SimpleQueue()

    def add(self, future: _F) -> None:
        future.add_done_callback(self._queue.put)

    def next(self, timeout: float | None) -> _F | None:
        try:
            return self._queue.get(timeout=timeout)
        except Empty:
            return None


class _CalledAsync:
    """Ends of futures, in an event loop."""

    def __init__(self) -> None:
        import asyncio

        self.queue: asyncio.Queue[_F] = asyncio.Queue()
        self._loop = _running_loop()

    def add(self, future: _F) -> None:
        if not _register(future, _OnLoop(self._loop, self.queue.put_nowait)):
            self.queue.put_nowait(future)


def _closed() -> BaseException:
    from ._errors import SessionClosed

    return SessionClosed("the client was shut down while its futures were waited for")


def as_completed(futures: Iterable[Future[T]], timeout: float | None = None) -> AsCompleted[T]:
    """Futures in the order in which they end, well or badly: an iterator, and an async iterator.
    Raises `TimeoutError` if they have not all ended after `timeout` seconds.

    >>> futures = [client.submit(pow, 2, n) for n in range(3)]
    >>> sorted(future.result() for future in as_completed(futures))
    [1, 2, 4]
    """
    return AsCompleted(futures, timeout)


def gather(futures: Iterable[Future[T]], timeout: float | None = None) -> list[T]:
    """The values of futures, in their order. Raises what the first of them that failed raised.

    >>> gather(client.submit(pow, 2, n) for n in range(3))
    [1, 2, 4]
    """
    listed = list(futures)
    client = _one_client(listed)
    if client is not None:
        values: list[T] = client.gather(listed, timeout)
        return values
    until = None if timeout is None else time.monotonic() + timeout
    return [future.result(_left(until)) for future in listed]


async def gather_async(futures: Iterable[Future[T]]) -> list[T]:
    """As `gather`, awaited. One wake-up of the event loop serves many futures.

    If it is cancelled, so are the futures, as with `asyncio.gather`.
    """
    listed = list(futures)
    loop = _running_loop()
    waiter: asyncio.Future[None] = loop.create_future()
    pending = 0

    def ended(_: _F) -> None:
        nonlocal pending
        pending -= 1
        if pending == 0 and not waiter.done():
            waiter.set_result(None)

    for future in dict.fromkeys(listed):
        # No end is counted before this loop is left: it has the event loop for itself.
        pending += _register(future, _OnLoop(loop, ended))
    if pending:
        try:
            await waiter
        except BaseException:
            for future in listed:
                future.cancel()
            raise
    return gather(listed)
