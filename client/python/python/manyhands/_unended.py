"""What a pool has begun without being told of its end."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._core import Future


class Unended:
    """Calls that have begun and may not have ended. Threads may use it at one time.

    About as many are kept as have not ended, however many there have been.
    """

    FEW = 64
    """So many are kept before those that have ended are looked for."""

    def __init__(self) -> None:
        # What a finalizer begins, while this thread is in here, goes in as well.
        self._lock = threading.RLock()
        self._futures: set[Future[Any]] = set()
        self._limit = self.FEW

    def __len__(self) -> int:
        return len(self._futures)

    def add(self, future: Future[Any]) -> None:
        """A call has begun."""
        with self._lock:
            self._futures.add(future)
            if len(self._futures) <= self._limit:
                return
            known = list(self._futures)
            # The others, meanwhile, leave the looking to this thread.
            self._limit = 2 * len(known)
        ended = [future for future in known if future.done()]
        with self._lock:
            self._futures.difference_update(ended)
            self._limit = max(2 * len(self._futures), self.FEW)

    def discard(self, future: Future[Any]) -> None:
        """A call has ended."""
        with self._lock:
            self._futures.discard(future)

    def take(self) -> list[Future[Any]]:
        """All of them, and none are left."""
        with self._lock:
            taken = list(self._futures)
            self._futures.clear()
        return taken
