"""Runs of a pool: what is given to it at one time, cut into groups.

The first items go as tasks of their own; these tell how long they took, and from then on as many
items go together as keep an executor busy for `GROUP_S`. So an item of a microsecond costs little
more than that, and one of a second never waits behind another.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from ._initializer import Call
from ._shapes import Failed, weight

if TYPE_CHECKING:
    from ._core import Client, Future
    from ._feeder import Feeder

GROUP_S = 0.01
"""Seconds that a group of items should take."""
LEAST_S = 0.0003
"""Seconds below which a group is not worth its way there and back."""
GROUP_ITEMS = 10_000
"""Items in a group at most."""
GROUP_BYTES = 4 << 20
"""About how many bytes of items, or of results, may be in a group."""
AHEAD = 4
"""Groups per executor that are under way in one run; and one group is no larger than this part of
what is left for an executor, so that items that take long all of a sudden hold up little."""
READ_AHEAD = 50_000
"""Items that may have been read from an iterable and not been sent."""


class Sink(Protocol):
    """Who gets the results of a run: of each of its items once, and of its end after all of them.

    Several threads may call at one time, with different items: that of the pool, the one that reads
    an iterable, and those that give work to the pool or stop it. The feeder's lock may be held, so
    that what a sink does must neither wait for the feeder nor call what is the user's, but in
    `ended`, which is called without it.
    """

    def took(self, first: int, results: list[Any]) -> None:
        """What came of some items, the number `first` and those after it."""

    def failed(self, first: int, count: int, error: BaseException) -> None:
        """Why nothing came of them."""

    def ended(self, count: int) -> None:
        """There were so many items, and all have been told of."""


class Items:
    """Items that are there."""

    def __init__(self, items: Collection[Any]) -> None:
        self._items = iter(items)
        self.left: int = len(items)

    def take(self, size: int) -> list[Any]:
        """The next items, `size` at most."""
        taken = list(islice(self._items, size))
        self.left -= len(taken)
        return taken

    def ready(self, chunk: int) -> bool:
        """Whether some can be taken, at least `chunk` if there will be as many."""
        return self.left > 0

    @property
    def is_over(self) -> bool:
        return self.left == 0

    def stop(self) -> None:
        """There are no more items."""
        self.left = 0


class Reader:
    """Items of an iterable that may block, or may itself wait for results of the items before: a
    thread of its own reads it, and whoever sends takes what has been read by then."""

    def __init__(self, iterable: Iterable[Any], lock: threading.RLock) -> None:
        self._iterable = iterable
        self._read: deque[Any] = deque()
        self._room = threading.Condition(lock)
        self._is_done = False
        self.left = None

    def take(self, size: int) -> list[Any]:
        """The next items, `size` at most."""
        read = self._read
        if len(read) >= READ_AHEAD:
            self._room.notify()
        return [read.popleft() for _ in range(min(size, len(read)))]

    def ready(self, chunk: int) -> bool:
        """Whether some can be taken, at least `chunk` if there will be as many."""
        return len(self._read) >= (1 if self._is_done else max(chunk, 1))

    @property
    def is_over(self) -> bool:
        return self._is_done and not self._read

    def stop(self) -> None:
        """There are no more items. The iterable itself is stopped when it gives its next."""
        self._read.clear()
        self._is_done = True
        self._room.notify()

    def read(self, feeder: Feeder, run: Run) -> None:
        """Reads to the end, and has `feeder` send what has come."""
        error: BaseException | None = None
        try:
            for item in self._iterable:
                with self._room:
                    self._room.wait_for(lambda: len(self._read) < READ_AHEAD or self._is_done)
                    if self._is_done:
                        return
                    self._read.append(item)
                del item
                feeder.fill(run)
        except BaseException as raised:  # Whoever takes results has to learn of `SystemExit` too.
            error = raised
        with self._room:
            if error is not None and run.chunk:
                # As multiprocessing does: a chunk that did not become whole is not sent.
                for _ in range(len(self._read) % run.chunk):
                    self._read.pop()
            if error is not None and not self._is_done:
                # Told before the end of the run can be seen.
                run.sink.failed(run.sent + len(self._read), 1, error)
                run.extra = 1
            self._is_done = True
        self._iterable = ()
        feeder.fill(run)


class Run:
    """A map of some items."""

    def __init__(
        self, call: Call, sink: Sink, source: Items | Reader, chunk: int, before: tuple[Any, ...]
    ) -> None:
        self.sink = sink
        self.source = source
        self.chunk = chunk
        """Items of each group, 0 if that is up to us."""
        self.sent = 0
        """Items that have been sent."""
        self.extra = 0
        """What the sink was told of besides: an error of the iterable."""
        self.under_way = 0
        """Groups that have been sent and have not ended."""
        self.untold = 0
        """Groups of which the sink has not been told."""
        self.is_ending = False
        self._call = call
        self._before = before
        self._item_s = 0.0
        self._measured = 0
        self._result_bytes = 0

    def take_group(self, executors: int) -> list[Any]:
        """The items that go next."""
        size = self.chunk or self._size(executors)
        group = self.source.take(1)
        if size > 1:
            heaviest = max(weight(group), self._result_bytes, 1)
            size = self.chunk or min(size, max(GROUP_BYTES // heaviest, 1))
            group += self.source.take(size - 1)
        return group

    def _size(self, executors: int) -> int:
        if self._item_s == 0.0:
            return 1
        size = int(GROUP_S / self._item_s)
        if self.source.left is not None:
            share = -(-self.source.left // (AHEAD * executors))
            size = min(size, max(share, int(LEAST_S / self._item_s)))
        return max(min(size, GROUP_ITEMS), 1)

    def room(self, executors: int) -> int:
        """How many groups may be under way. Before the first has come back, one per executor: those
        after it are larger."""
        return executors if self._item_s == 0.0 and not self.chunk else AHEAD * executors

    def submit(self, client: Client, group: list[Any]) -> Future[Any]:
        """Sends a group."""
        return client.submit(self._call, *self._before, group)

    def results(self, value: Any) -> list[Any]:
        """What came of each item, from what a group has returned."""
        results: list[Any] | Failed
        seconds, self._result_bytes, results = value
        if isinstance(results, Failed):
            raise results.error()
        # The last group counts as much as what is known from those before it, or more if it is
        # larger: single items take longer than they do within a group.
        count = max(len(results), 1)
        before = min(self._measured, count)
        self._measured = before + count
        self._item_s = max((self._item_s * before + seconds) / self._measured, 1e-8)
        return results

    @property
    def is_over(self) -> bool:
        return self.source.is_over and self.untold == 0


class CallRun(Run):
    """A single call, whose one item are its arguments."""

    def submit(self, client: Client, group: list[Any]) -> Future[Any]:
        ((args, kwargs),) = group
        return client.submit(self._call, *self._before, *args, **kwargs)

    def results(self, value: Any) -> list[Any]:
        if isinstance(value, Failed):
            raise value.error()
        return [value]
