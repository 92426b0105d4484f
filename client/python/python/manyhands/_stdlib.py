"""The names of the standard library that `python -m manyhands` makes mean manyhands.

`multiprocessing.Pool`, ``multiprocessing.get_context().Pool``, `multiprocessing.pool.Pool` and
`concurrent.futures.ProcessPoolExecutor`. All else stays what it is: processes and managers of
`multiprocessing`, and thread pools. Locks keep their names, so that executors of this machine can
use them. Who derives a class from one of these derives it from the original, on whose private parts
it may rely.

All pools of a program share a cluster, so that one which is made in a loop costs no start.
"""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import itertools
import multiprocessing
import multiprocessing.context
import multiprocessing.pool
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, TypeVar

from . import _client, _shared
from ._initializer import Call, Calls, Initializer
from ._map import Chunks
from ._shapes import CHUNK, PLAIN
from ._unended import Unended
from .pool import Pool, check

if TYPE_CHECKING:
    from ._client import Client
    from ._core import Future

T = TypeVar("T")


class Cluster:
    """The cluster of a program's pools, started when the first of them is made."""

    def __init__(self, address: str | None, workers: int | None, preload: list[str]) -> None:
        self._address = address
        self._workers = workers
        self._preload = preload
        self._lock = threading.Lock()
        self._started: Client | None = None
        self._size = 0

    def client(self, processes: int | None) -> Client:
        """A client for a pool of so many processes."""
        found = _client.current()
        if found is not None:
            return found
        with self._lock:
            size = self._workers or processes or os.cpu_count() or 1
            if self._started is None or not self._started.is_open or self._is_too_small(size):
                # Pools of the one before go on with it; it ends with the program.
                workers = None if self.is_remote else size
                self._started = _client.Client(
                    self._address or "local", workers=workers, preload=self._preload
                )
                self._size = size
            return self._started

    def processes(self, asked: int | None) -> int | None:
        """How many processes a pool shall have. Who asks for all cores of this machine has all
        executors of the cluster."""
        if asked is None or not isinstance(asked, int) or asked < 1:
            return asked
        if self._workers is not None:
            return min(asked, self._workers)
        return None if self.is_remote and asked >= (os.cpu_count() or 1) else asked

    @property
    def is_remote(self) -> bool:
        """Whether it runs on other machines."""
        return self._address not in (None, "local")

    def _is_too_small(self, size: int) -> bool:
        return not self.is_remote and self._workers is None and size > self._size


class ProcessPool(Executor):
    """In place of `concurrent.futures.ProcessPoolExecutor`."""

    def __init__(
        self,
        cluster: Cluster,
        max_workers: int | None,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        tasks: int | None,
    ) -> None:
        self._client = cluster.client(cluster.processes(max_workers))
        self._setup = None
        if initializer is not None:
            self._setup = Initializer(initializer, initargs, self._client)
        self._calls = Calls(self._setup, local=self._client.is_local, tasks=tasks)
        self._pending = Unended()
        self._is_shut_down = False

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Begins a call."""
        if self._is_shut_down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        before = () if self._setup is None else self._setup.placed
        call = fn if isinstance(fn, Call) else self._calls.of(fn, PLAIN)
        future: Future[T] = self._client.submit(call, *before, *args, **kwargs)
        self._pending.add(future)
        return future

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        **more: Any,
    ) -> Any:
        """Results in the order of the items, of which `chunksize` make one task."""
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if chunksize == 1:
            return super().map(fn, *iterables, timeout=timeout, **more)
        chunks = (chunk for (chunk,) in Chunks(zip(*iterables, strict=False), chunksize))
        lists: Iterator[list[T]] = super().map(
            self._calls.of(fn, CHUNK), chunks, timeout=timeout, **more
        )
        return itertools.chain.from_iterable(lists)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Nothing more can be submitted. The cluster stays, for other pools of the program."""
        self._is_shut_down = True
        pending = self._pending.take()
        if cancel_futures:
            for future in pending:
                if not future.running():
                    future.cancel()
        if wait and pending:
            self._client.wait(pending, len(pending), None)


class Name:
    """What a name of the standard library means now: `make` where it is called, the original where
    a class is derived from it and where its methods are used, both where an object is asked whether
    it is one."""

    def __init__(self, original: type, made: type, make: Callable[..., Any]) -> None:
        self._original = original
        self._made = made
        self._make = make

    def __getattribute__(self, name: str) -> Any:
        # `Pool.__init__` of a class that calls it means the original's, as all attributes do.
        get = object.__getattribute__
        # It is no class to `types.new_class` either, which makes derived ones in executors.
        is_own = name in ("__class__", "__mro_entries__", "__reduce_ex__")
        return get(self, name) if is_own else getattr(get(self, "_original"), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _own(self, "_make")(*args, **kwargs)

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        # Functions of the program that use it travel by value, and executors find it by its name.
        return named, (_own(self, "_original").__name__,)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return (_own(self, "_original"),)

    def __instancecheck__(self, value: object) -> bool:
        return isinstance(value, (_own(self, "_original"), _own(self, "_made")))

    def __subclasscheck__(self, kind: type) -> bool:
        return issubclass(kind, (_own(self, "_original"), _own(self, "_made")))

    def __repr__(self) -> str:
        return f"<{_own(self, '_original').__qualname__}, of manyhands>"


def _own(name: Name, attribute: str) -> Any:
    return object.__getattribute__(name, attribute)


_cluster = Cluster(None, None, [])
"""That of the pools that are made in this process. Within a task they are of its job."""


def pool(
    processes: int | None = None,
    initializer: Callable[..., object] | None = None,
    initargs: Iterable[Any] = (),
    maxtasksperchild: int | None = None,
    context: object = None,
) -> Pool:
    """In place of `multiprocessing.Pool`."""
    check(processes, initializer, maxtasksperchild)
    processes = _cluster.processes(processes)
    client = _cluster.client(processes)
    return Pool(processes, initializer, initargs, maxtasksperchild, context, client)


def _of_context(self: Any, *args: Any, **kwargs: Any) -> Pool:
    return pool(*args, **kwargs)


def _executor(
    max_workers: int | None = None,
    mp_context: object = None,
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
    *,
    max_tasks_per_child: int | None = None,
) -> ProcessPool:
    if max_workers is not None and max_workers <= 0:
        raise ValueError("max_workers must be greater than 0")
    check(None, initializer, max_tasks_per_child)
    return ProcessPool(_cluster, max_workers, initializer, tuple(initargs), max_tasks_per_child)


_POOL = Name(multiprocessing.pool.Pool, Pool, pool)
_EXECUTOR = Name(concurrent.futures.process.ProcessPoolExecutor, ProcessPool, _executor)


def named(of: str) -> Any:
    """What stands for the class of this name. It is pickled as a call of this."""
    return {"Pool": _POOL, "ProcessPoolExecutor": _EXECUTOR}[of]


def replace(cluster: Cluster) -> None:
    """Makes the names mean manyhands, in this process."""
    global _cluster
    _cluster = cluster
    if not cluster.is_remote:
        _shared.keep_names()
    # Contexts make their pools by the name in the module; `multiprocessing.Pool` is a method of
    # one.
    multiprocessing.context.BaseContext.Pool = _of_context  # type: ignore[method-assign, assignment]
    multiprocessing.Pool = pool  # type: ignore[assignment]
    multiprocessing.pool.Pool = _POOL  # type: ignore[misc, assignment]
    concurrent.futures.process.ProcessPoolExecutor = _EXECUTOR  # type: ignore[misc, assignment]
    concurrent.futures.ProcessPoolExecutor = _EXECUTOR  # type: ignore[misc, assignment]
