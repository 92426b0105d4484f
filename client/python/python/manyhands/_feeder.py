"""Feeds a cluster with the items of a pool's runs, in groups, and hands on what comes back.

A run is one `map`, `imap` or call. Not everything is sent at once: some groups per executor are
under way, and each that ends makes room for the next. A `Watch` tells of ends, to one thread per
pool.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from ._errors import SessionClosed
from ._futures import is_interrupt
from ._initializer import Call
from ._runs import CallRun, Items, Reader, Run, Sink

if TYPE_CHECKING:
    from ._core import Client, Future

_LOGGER = logging.getLogger("manyhands")


class _Told(NamedTuple):
    """What is to be told of a group: its items, and their results or why there are none."""

    run: Run
    first: int
    number: int
    results: list[Any]
    error: BaseException | None


class Feeder:
    """All runs of a pool, and its thread.

    With a `limit` no more than so many groups are under way at one time, in all runs together.
    Without a thread, which within a task could not wait, those who wait do its work.
    """

    def __init__(
        self, client: Client, executors: int, limit: int | None, *, has_thread: bool
    ) -> None:
        self.executors = executors
        self._has_thread = has_thread
        self._client = client
        self._limit = limit
        self.has_limit = limit is not None
        self._lock = threading.RLock()
        """Guards everything here and in the runs. Held while sinks are told of what could not be
        read or sent; not while they are told of results, nor of the end of a run."""
        self._calm = threading.Condition(self._lock)
        self._unended: set[Run] = set()
        self._sending: deque[Run] = deque()
        """The runs that have something to send, or may yet have."""
        self._groups: dict[Future[Any], tuple[Run, int, int]] = {}
        self._stopped: BaseException | None = None
        self._watch: Any = None
        self._thread: threading.Thread | None = None

    def run(
        self, call: Call, sink: Sink, items: Collection[Any], chunk: int, before: tuple[Any, ...]
    ) -> None:
        """Maps items that are there."""
        self._begin(Run(call, sink, Items(items), chunk, before))

    def read(
        self, call: Call, sink: Sink, iterable: Iterable[Any], chunk: int, before: tuple[Any, ...]
    ) -> None:
        """Maps items as they come."""
        if not self._has_thread:
            self.run(call, sink, list(iterable), chunk, before)
            return
        reader = Reader(iterable, self._lock)
        run = Run(call, sink, reader, chunk, before)
        self._begin(run)
        threading.Thread(
            target=reader.read, args=(self, run), name="manyhands-pool-reader", daemon=True
        ).start()

    def call(
        self, call: Call, sink: Sink, args: tuple[Any, ...], kwargs: Any, before: tuple[Any, ...]
    ) -> None:
        """Makes one call."""
        self._begin(CallRun(call, sink, Items([(args, kwargs)]), 1, before))

    def fill(self, run: Run) -> None:
        """Sends what can be sent now. `run` has changed."""
        self._tell(self._send(), run)

    def wait(self) -> None:
        """Until all runs have ended."""
        self.wait_for(self._calm, lambda: not self._unended, None)

    def wait_for(
        self,
        changed: threading.Condition,
        come: Callable[[], object],
        timeout: float | None,
    ) -> None:
        """Until something has come, of which `changed` is told, or the time in seconds is over."""
        if self._has_thread or self._watch is None:
            with changed:
                changed.wait_for(come, timeout)
            return
        until = None if timeout is None else time.monotonic() + timeout
        while not come():
            left = None if until is None else max(until - time.monotonic(), 0.0)
            ended = self._watch.next(left, keep=True)
            if not ended:
                # The time is over, or so is the session.
                if ended is None:
                    self._lost()
                break
            self._handle(ended)

    def stop(self, error: BaseException) -> None:
        """Cancels what is under way. What has not come fails with `error`."""
        with self._lock:
            self._stopped = self._stopped or error
            groups, self._groups = self._groups, {}
            self._sending.clear()
            runs = list(self._unended)
        for run in runs:
            self._abandon(run, error)
        if groups and self._client.is_open:
            self._client.cancel(list(groups), str(error))
        told = [_Told(run, first, n, [], error) for run, first, n in groups.values()]
        self._tell(told, *runs)
        self.close()

    def close(self) -> None:
        """Ends the thread. Nothing may be under way."""
        with self._lock:
            watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()
            self.join()

    def join(self) -> None:
        """Until the thread has ended."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _begin(self, run: Run) -> None:
        with self._lock:
            self._unended.add(run)
            if self._stopped is None:
                self._sending.append(run)
        if self._stopped is not None:
            self._abandon(run, self._stopped)
        try:
            self.fill(run)
        except BaseException as error:  # Ctrl-C, while the first items are sent.
            self._abandon(run, error)
            self._tell([], run)
            raise

    def _abandon(self, run: Run, error: BaseException) -> None:
        """Nothing more of this run is sent."""
        with self._lock:
            left = 1 if run.source.left is None else run.source.left
            run.source.stop()
        if left:
            run.sink.failed(run.sent, left, error)
            run.extra = left

    def _send(self) -> list[_Told]:
        """Sends groups while there is room, the runs in turn. Gives those that could not be
        sent."""
        unsent: list[_Told] = []
        with self._lock:
            runs, passed = self._sending, 0
            while passed < len(runs) and not self._is_full():
                run = runs[0]
                if run.source.is_over:
                    runs.popleft()
                    continue
                if run.source.ready(run.chunk) and self._has_room(run):
                    unsent += self._send_group(run)
                    passed = 0
                    # With a limit on all together, each gets its share of it.
                    turn = self._limit is not None
                else:
                    passed += 1
                    turn = True
                if turn:
                    runs.rotate(-1)
        return unsent

    def _is_full(self) -> bool:
        return self._limit is not None and len(self._groups) >= self._limit

    def _has_room(self, run: Run) -> bool:
        return self._limit is not None or run.under_way < run.room(self.executors)

    def _send_group(self, run: Run) -> list[_Told]:
        group = run.take_group(self.executors)
        first, count = run.sent, len(group)
        run.sent += count
        run.untold += 1
        try:
            future = run.submit(self._client, group)
        except Exception as error:  # What cannot be pickled fails, and nothing else does.
            return [_Told(run, first, count, [], error)]
        except BaseException as error:
            run.untold -= 1
            run.sink.failed(first, count, error)
            raise
        run.under_way += 1
        self._groups[future] = (run, first, count)
        self._watched().add(future)
        return []

    def _watched(self) -> Any:
        if self._watch is None:
            self._watch = self._client.watch()
            if self._has_thread:
                self._thread = threading.Thread(
                    target=self._listen, args=(self._watch,), name="manyhands-pool", daemon=True
                )
                self._thread.start()
        return self._watch

    def _listen(self, watch: Any) -> None:
        while (ended := watch.next(None, keep=True)) is not None:
            self._handle(ended)
            del ended
        self._lost()

    def _handle(self, ended: list[Future[Any]]) -> None:
        told = self._ended(ended)
        # Executors come first, then those who wait for results.
        told += self._send()
        self._tell(told)

    def _lost(self) -> None:
        """The client was shut down."""
        if self._groups:
            self.stop(SessionClosed("the client was shut down while its pool was at work"))

    def _ended(self, futures: list[Future[Any]]) -> list[_Told]:
        outcomes = self._fetch(futures)
        told = []
        with self._lock:
            for future, (value, error) in zip(futures, outcomes, strict=True):
                group = self._groups.pop(future, None)
                if group is not None:
                    run, first, count = group
                    run.under_way -= 1
                    try:
                        results = [] if error is not None else run.results(value)
                    except BaseException as raised:
                        results, error = [], raised
                    told.append(_Told(run, first, count, results, error))
        return told

    def _fetch(self, futures: list[Future[Any]]) -> list[tuple[Any, BaseException | None]]:
        try:
            try:
                return [(value, None) for value in self._client.gather(futures)]
            except BaseException as error:
                if is_interrupt(error):
                    raise
                # One of them failed: which, is seen one by one.
                return [outcome(future) for future in futures]
        except KeyboardInterrupt:
            # Whoever waits on after that is told of them again.
            for future in futures:
                self._watched().add(future)
            raise

    def _tell(self, told: list[_Told], *changed: Run) -> None:
        """Tells sinks, and ends the runs that are over by that."""
        for run, first, count, results, error in told:
            try:
                if error is not None:
                    run.sink.failed(first, count, error)
                else:
                    run.sink.took(first, results)
            except Exception:
                _LOGGER.exception("exception calling a callback of a pool")
        with self._lock:
            for group in told:
                group.run.untold -= 1
            runs = {group.run for group in told}.union(changed)
            over = [run for run in runs if run.is_over and run in self._unended]
            # A run is told of its end once, and counts as unended until it has been.
            ending = [run for run in over if not run.is_ending]
            for run in ending:
                run.is_ending = True
        for run in ending:
            self._end(run)

    def _end(self, run: Run) -> None:
        try:
            run.sink.ended(run.sent + run.extra)
        except Exception:
            _LOGGER.exception("exception calling a callback of a pool")
        with self._calm:
            self._unended.discard(run)
            if not self._unended:
                self._calm.notify_all()


def outcome(future: Future[Any]) -> tuple[Any, BaseException | None]:
    """The value of a future that has ended, or what it failed with."""
    try:
        return future.result(), None
    except BaseException as error:
        if is_interrupt(error):
            raise
        return None, error
