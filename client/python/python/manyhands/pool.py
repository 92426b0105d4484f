"""In place of `multiprocessing.Pool`: the same interface, over a cluster.

>>> from manyhands import Pool
>>> with Pool(2) as pool:
...     pool.map(abs, range(-3, 3)), pool.apply(pow, (2, 10))
([3, 2, 1, 0, 1, 2], 1024)

What is better here: functions need not be importable (lambdas, closures and those of a notebook
travel), a worker that dies costs no result and hangs nobody, `chunksize` need not be given, and
`terminate` ends the waiting of those who wait. What differs: executors are no children of this
process, so that locks, queues and shared values of `multiprocessing` reach them as they reach
processes of its own ``spawn``: in `initargs`, on the same machine, and made by
``get_context("spawn")`` (those of a `multiprocessing.Manager` can be passed anywhere); and large
arguments and results are shared, so that arrays arrive read-only.
"""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping
from multiprocessing.pool import CLOSE, INIT, RUN, TERMINATE
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar

from . import _client
from ._errors import TaskCancelled
from ._feeder import Feeder
from ._initializer import Call, Calls, Initializer
from ._results import ApplyResult, AsyncResult, IMapIterator, MapResult, Ordered, Unordered, fail
from ._shapes import EACH, MAP, ONE, STAR
from ._unended import Unended

if TYPE_CHECKING:
    from ._client import Client

__all__ = ["ApplyResult", "AsyncResult", "IMapIterator", "MapResult", "Pool"]

T = TypeVar("T")

_LISTED = (list, tuple, range, str, bytes, dict, set, frozenset)
"""Types whose items are there at once: no thread has to read them."""


class Pool:
    """A pool of processes.

    :param processes: how many calls may run at one time. Without it, as many as the cluster, or
        this machine, has executors.
    :param initializer: called with `initargs` in each executor before the first call of this pool
        that it runs. What it assigns to globals is seen by the functions of this pool. If it
        raises, so do the calls, and the next one tries again.
    :param maxtasksperchild: how many tasks of this pool (a task is a call, or a group of items) an
        executor runs before a new one takes its place.
    :param context: accepted; how executors are started is not a matter of the pool.
    :param client: the cluster to use. Without it: that of the `Client` that there is, or that
        ``MANYHANDS_ADDRESS`` names, or else one on this machine that belongs to the pool.
    """

    _state = INIT

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: object = None,
        client: Client | None = None,
    ) -> None:
        check(processes, initializer, maxtasksperchild)
        self._client, self._owns_client = _cluster(processes, client)
        executors = _executors(self._client)
        if processes is None:
            processes = executors
        self._processes = processes
        # As many entries as the pool has processes: `len(pool._pool)` is how programs ask for that.
        self._pool = [None] * processes
        limit = processes if processes < executors and not self._owns_client else None
        self._feeder = Feeder(
            self._client, min(processes, executors), limit, has_thread=not self._client._is_nested
        )
        self._finalizer = weakref.finalize(
            self, _end, self._feeder, self._client, self._owns_client
        )
        self._setup = None
        if initializer is not None:
            try:
                self._setup = Initializer(initializer, tuple(initargs), self._client)
            except BaseException:
                self._finalizer()
                raise
        self._calls = Calls(self._setup, local=self._client.is_local, tasks=maxtasksperchild)
        self._plain = Unended()
        self._state = RUN

    def __repr__(self) -> str:
        return (
            f"<{type(self).__module__}.{type(self).__qualname__} state={self._state} "
            f"pool_size={self._processes}>"
        )

    def __del__(self) -> None:
        if self._state == RUN:
            warnings.warn(
                f"unclosed running multiprocessing pool {self!r}", ResourceWarning, 1, self
            )

    def __reduce__(self) -> NoReturn:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def __enter__(self) -> Self:
        self._check_running()
        return self

    def __exit__(self, *_: object) -> None:
        self.terminate()

    def apply(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
    ) -> T:
        """Calls `func`, and waits for its result."""
        return self.apply_async(func, args, kwds).get()

    def apply_async(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callable[[T], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> ApplyResult[T]:
        """Begins a call. Callbacks run on a thread of the pool.

        >>> pool.apply_async(divmod, (7, 3)).get(timeout=60)
        (2, 1)
        """
        self._check_running()
        result: ApplyResult[T] = ApplyResult(self, callback, error_callback)
        try:
            call = self._calls.of(func, ONE)
        except Exception as error:  # As all errors of the call, this one is raised by `get`.
            fail(result, error)
            return result
        before = self._before()
        if callback or error_callback or self._feeder.has_limit:
            self._feeder.call(call, result, tuple(args), kwds, before)
        else:
            self._submit(result, call, (*before, *args), kwds)
        return result

    def map(
        self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[T]:
        """`func` of each item, in their order. If one fails, what it raised is raised when all have
        ended.

        :param chunksize: how many items make one task. Better left to the pool, which measures.
        """
        return self.map_async(func, iterable, chunksize).get()

    def map_async(
        self,
        func: Callable[[Any], T],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult[T]:
        """Begins a `map`."""
        return self._map_async(func, MAP, iterable, chunksize, callback, error_callback)

    def starmap(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
    ) -> list[T]:
        """As `map`, of items that are the arguments of a call each.

        >>> pool.starmap(pow, [(2, 3), (3, 2)])
        [8, 9]
        """
        return self.starmap_async(func, iterable, chunksize).get()

    def starmap_async(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult[T]:
        """Begins a `starmap`."""
        return self._map_async(func, STAR, iterable, chunksize, callback, error_callback)

    def imap(
        self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int = 1
    ) -> IMapIterator[T]:
        """An iterator over the results, in the order of the items. The items are read, and the
        calls are made, while the results are taken, and whether they are taken or not.

        :param chunksize: how many items make one task, if larger than 1.

        >>> list(pool.imap(abs, (n for n in [-1, 2, -3])))
        [1, 2, 3]
        """
        return self._imap(func, iterable, chunksize, Ordered(self))

    def imap_unordered(
        self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int = 1
    ) -> IMapIterator[T]:
        """As `imap`, with the results in the order in which they come."""
        return self._imap(func, iterable, chunksize, Unordered(self))

    def close(self) -> None:
        """Nothing more may be given to the pool."""
        if self._state == RUN:
            self._state = CLOSE

    def terminate(self) -> None:
        """Stops what runs. Who waits for it gets `TaskCancelled`."""
        self._state = TERMINATE
        self._finalizer()

    def join(self) -> None:
        """Waits for the end of what was given to the pool, after `close` or `terminate`."""
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        if self._state == CLOSE:
            self._feeder.wait()
            plain = self._plain.take()
            if plain:
                self._client.wait(plain, len(plain), None)
        self._finalizer()
        self._feeder.join()

    def _check_running(self) -> None:
        if self._state != RUN:
            raise ValueError("Pool not running")

    def _before(self) -> tuple[Any, ...]:
        return () if self._setup is None else self._setup.placed

    def _submit(
        self, result: ApplyResult[Any], call: Call, args: tuple[Any, ...], kwds: Mapping[str, Any]
    ) -> None:
        """Submits a call of which nobody but the result is to be told."""
        try:
            future = self._client.submit(call, *args, **kwds)
        except Exception as error:
            fail(result, error)
            return
        result._future = future
        # `join` has to know of it until it has ended, whether somebody asks for the result or not.
        self._plain.add(future)

    def _map_async(
        self,
        func: Callable[..., T],
        shape: int,
        iterable: Iterable[Any],
        chunksize: int | None,
        callback: Callable[[list[T]], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> MapResult[T]:
        self._check_running()
        error: Exception | None = None
        items: Collection[Any] = ()
        if isinstance(iterable, _LISTED):
            items = iterable
        else:
            try:
                items = list(iterable)
            except Exception as raised:
                # An iterable without a length raises here and now, as with multiprocessing.
                if not hasattr(iterable, "__len__"):
                    raise
                error = raised
        result: MapResult[T] = MapResult(self, len(items), callback, error_callback)
        try:
            if error is not None:
                raise error
            call = self._calls.of(func, shape)
        except Exception as raised:
            fail(result, raised)
            return result
        self._feeder.run(call, result, items, max(chunksize or 0, 0), self._before())
        return result

    def _imap(
        self,
        func: Callable[[Any], T],
        iterable: Iterable[Any],
        chunksize: int,
        result: IMapIterator[T],
    ) -> IMapIterator[T]:
        self._check_running()
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize}")
        call = self._calls.of(func, EACH if chunksize == 1 else MAP)
        chunk = 0 if chunksize == 1 else chunksize
        give = self._feeder.run if isinstance(iterable, _LISTED) else self._feeder.read
        give(call, result, iterable, chunk, self._before())  # type: ignore[arg-type]
        return result


def check(processes: int | None, initializer: object, maxtasksperchild: object) -> None:
    if processes is not None and processes < 1:
        raise ValueError("Number of processes must be at least 1")
    if maxtasksperchild is not None and (
        not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0
    ):
        raise ValueError("maxtasksperchild must be a positive int or None")
    if initializer is not None and not callable(initializer):
        raise TypeError("initializer must be a callable")


def _cluster(processes: int | None, client: Client | None) -> tuple[Client, bool]:
    """The client of a pool, and whether it belongs to the pool."""
    found = client or _client.existing()
    if found is not None:
        return found, False
    if os.environ.get("MANYHANDS_ADDRESS"):
        return _client.client(), False
    made = _client.Client("local", workers=processes)
    # It ends with the pool: nobody else should come to use it.
    _client.keep_private(made)
    return made, True


def _executors(client: Client) -> int:
    """How many tasks the cluster can run at one time."""
    try:
        cores = int(client.ask_cluster()["millicores"]) // 1000
    except (LookupError, RuntimeError, NotImplementedError):
        cores = 0
    # A cluster that has no worker yet will have some.
    return cores or os.cpu_count() or 1


def _end(feeder: Feeder, client: Client, owns_client: bool) -> None:
    """Stops a pool. Called once, at the latest when the program ends."""
    feeder.stop(TaskCancelled("the pool was terminated"))
    if owns_client:
        client.close()
