"""A backend of joblib: what uses joblib, scikit-learn's ``n_jobs`` for one, runs on manyhands.

>>> import joblib
>>> import manyhands.joblib
>>> from math import sqrt
>>> with joblib.parallel_config("manyhands"):
...     joblib.Parallel(n_jobs=2)(joblib.delayed(sqrt)(n * n) for n in range(5))
[0.0, 1.0, 2.0, 3.0, 4.0]

It uses the `Client` that there is, or starts one. ``n_jobs=-1``, which is also what counts where
none is given, is every executor of the cluster; another number is how many batches run at one time.

Large arrays are put into the object store once, however many calls they are passed to, and arrive
read-only, as those that joblib maps from files do: from ``max_nbytes`` on (1 MB unless changed).
Nested calls of `Parallel` run on the cluster too where they ask for ``n_jobs``, two levels deep.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import sys
import threading
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from pickle import PicklingError
from typing import TYPE_CHECKING, Any

import joblib
from joblib._parallel_backends import FallbackToBackend, SequentialBackend
from joblib.parallel import AutoBatchingMixin, ParallelBackendBase, register_parallel_backend

from . import _client
from ._initializer import Call, Initializer
from ._shapes import PLAIN
from .pool import _executors

if TYPE_CHECKING:
    from ._client import Client
    from ._core import Future

__all__ = ["ManyhandsBackend", "register"]

NESTED = 2
"""Levels of calls within calls that run on the cluster."""


class ManyhandsBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """The backend. Made by joblib: ``parallel_config("manyhands", client=..., retries=...)``.

    :param client: the cluster to use, in place of the one that there is.
    :param initializer: as of `Pool`, with `initargs`.
    :param options: options of the tasks, as of `Client.options`: ``retries``, ``time_limit``, ...
    """

    supports_inner_max_num_threads = True
    default_n_jobs = -1
    # Without a wait for the answer to each batch, short ones are good enough.
    MIN_IDEAL_BATCH_DURATION = 0.02
    MAX_IDEAL_BATCH_DURATION = 1.0

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        client: Client | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        **options: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level)
        self.inner_max_num_threads = inner_max_num_threads
        self.parallel: Any = None
        self._given = client
        self._initializer = (initializer, tuple(initargs))
        self._options = options
        self._workers: _Batches | None = None
        # Within a task only the task's own thread can wait: there joblib fetches results by itself.
        self.supports_retrieve_callback = _client.current() is None

    def __reduce__(self) -> tuple[Any, ...]:
        # Within a task the client is that of the task's job.
        return _nested, (self.nesting_level, self.inner_max_num_threads, self._options)

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many batches run at one time."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        if multiprocessing.current_process().daemon:
            if n_jobs != 1:
                warnings.warn(
                    "manyhands-backed parallel loops cannot be called in a worker process of "
                    "multiprocessing, setting n_jobs=1",
                    stacklevel=3,
                )
            return 1
        if n_jobs < 0:
            return max(_executors(self._client()) + 1 + n_jobs, 1)
        return n_jobs

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        prefer: str | None = None,
        require: str | None = None,
        max_nbytes: int | None = None,
        mmap_mode: str | None = "r",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        **_: Any,
    ) -> int:
        """Called by joblib before the first batch."""
        jobs = self.effective_n_jobs(n_jobs)
        if jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        if initializer is not None:
            self._initializer = (initializer, tuple(initargs))
        self.parallel = parallel
        # Copies for each call, which may then be changed, are what these modes ask for.
        shared = max_nbytes if mmap_mode in ("r", "r+", "w+") else None
        self._workers = _Batches(
            self._client(),
            jobs,
            shared,
            self._initializer,
            self.inner_max_num_threads,
            self._options,
            tells=self.supports_retrieve_callback,
        )
        return jobs

    def submit(self, func: Any, callback: Callable[[Any], object] | None = None) -> object:
        """Called by joblib with a batch of calls."""
        workers = self._workers
        if workers is None:
            raise RuntimeError("the backend has been terminated")
        return workers.submit(func, callback)

    def retrieve_result_callback(self, out: _Batch) -> Any:
        """Called by joblib when a batch has ended."""
        return out.result()

    def retrieve_result(self, out: _Batch, timeout: float | None = None) -> Any:
        """Called by joblib, within a task, for each batch in turn."""
        value = out.result(timeout)
        out.told()
        return value

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancels what is under way."""
        workers, self._workers = self._workers, None
        if workers is not None:
            workers.abort()
        if ensure_ready and self.parallel is not None:
            self.configure(
                n_jobs=self.parallel.n_jobs, parallel=self.parallel, **self.parallel._backend_kwargs
            )

    def terminate(self) -> None:
        """Called by joblib after the last batch."""
        self._workers = None
        self.reset_batch_stats()

    def get_nested_backend(self) -> tuple[Any, int | None]:
        """The backend of calls within calls. They run one after the other unless they ask for
        more."""
        level = (self.nesting_level or 0) + 1
        if level > NESTED:
            return SequentialBackend(nesting_level=level), None
        nested = ManyhandsBackend(level, self.inner_max_num_threads, **self._options)
        return nested, 1

    def _client(self) -> Client:
        return self._given or _client.client()


def _nested(level: int, threads: int | None, options: dict[str, Any]) -> ManyhandsBackend:
    return ManyhandsBackend(level, threads, **options)


class _Batch:
    """A batch of calls on its way."""

    __slots__ = ("_callback", "_error", "_future", "calls")

    def __init__(self, calls: Any, callback: Callable[[Any], object] | None) -> None:
        self.calls = calls
        self._callback = callback
        self._future: Future[Any] | None = None
        self._error: BaseException | None = None

    def began(self, future: Future[Any]) -> None:
        self.calls, self._future = None, future

    def failed(self, error: BaseException) -> None:
        self.calls, self._error = None, error

    def told(self) -> None:
        if self._callback is not None:
            self._callback(self)

    def cancel(self) -> None:
        if self._future is not None:
            self._future.cancel()

    def result(self, timeout: float | None = None) -> Any:
        if self._error is not None:
            raise self._error
        if self._future is None:
            raise RuntimeError("the batch was not begun")
        return self._future.result(timeout)


class _Batches:
    """The batches of one use of the backend: no more of them at one time than there are jobs."""

    def __init__(
        self,
        client: Client,
        jobs: int,
        shared: int | None,
        initializer: tuple[Callable[..., object] | None, tuple[Any, ...]],
        threads: int | None,
        options: dict[str, Any],
        *,
        tells: bool,
    ) -> None:
        self._client = client
        self._tells = tells
        # joblib itself sends no more than a few batches ahead; a cluster that has no room for more
        # than these needs no other limit.
        self._limit = jobs if tells and jobs < _executors(client) else sys.maxsize
        self._lock = threading.Lock()
        self._running: set[_Batch] = set()
        self._waiting: deque[_Batch] = deque()
        self._is_aborted = False
        self._shared = shared
        self._placed = _Placed(client)
        call, arguments = initializer
        setup = None if call is None else Initializer(call, arguments, client)
        self._before = () if setup is None else setup.placed
        self._call = Call(_Runner(shared, threads), PLAIN, setup, local=client.is_local)
        self._submit = (client.options(**options) if options else client).submit

    def submit(self, calls: Any, callback: Callable[[Any], object] | None) -> _Batch:
        batch = _Batch(calls, callback)
        with self._lock:
            self._waiting.append(batch)
        self._begin()
        return batch

    def abort(self) -> None:
        with self._lock:
            self._is_aborted = True
            running, self._running = self._running, set()
            self._waiting.clear()
        for batch in running:
            batch.cancel()

    def _begin(self) -> None:
        while True:
            with self._lock:
                if not self._waiting or len(self._running) >= self._limit or self._is_aborted:
                    return
                batch = self._waiting.popleft()
                self._running.add(batch)
            try:
                future = self._submit(self._call, *self._before, self._portable(batch.calls))
            except Exception as error:
                batch.failed(_as_of_loky(error))
                self._ended(batch)
                continue
            batch.began(future)
            if self._tells:
                future.add_done_callback(functools.partial(self._done, batch))

    def _done(self, batch: _Batch, _: Future[Any]) -> None:
        self._ended(batch)

    def _ended(self, batch: _Batch) -> None:
        with self._lock:
            self._running.discard(batch)
            if self._is_aborted:
                return
        self._begin()
        if self._tells:
            batch.told()

    def _portable(self, calls: Any) -> tuple[Any, ...]:
        """A batch with its large arrays in the object store."""
        items = [
            (
                function,
                tuple(self._argument(value) for value in args),
                {name: self._argument(value) for name, value in kwargs.items()},
            )
            for function, args, kwargs in calls.items
        ]
        return items, calls._backend, calls._n_jobs

    def _argument(self, value: Any) -> Any:
        if self._shared is None or not _is_array(value) or value.nbytes < self._shared:
            return value
        if self._client.is_local and (file := _backing_file(value)) is not None:
            return file
        return self._placed.future(value)


def _as_of_loky(error: Exception) -> Exception:
    """The error of a batch that cannot be submitted, with the type and the words of joblib's
    default backend, which programs know."""
    if not isinstance(error, TypeError | PicklingError):
        return error
    known = PicklingError(f"Could not pickle the task to send to the workers: {error}")
    known.__cause__ = error
    return known


class _Placed:
    """Arrays in the object store, each once while it lives."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._known: dict[int, tuple[weakref.ref[Any], Future[Any]]] = {}

    def future(self, value: Any) -> Any:
        with self._lock:
            known = self._known.get(id(value))
            if known is not None and known[0]() is value:
                return known[1]
            key = id(value)
            try:
                alive = weakref.ref(value, lambda _: self._known.pop(key, None))
            except TypeError:  # Nothing tells when such a value is no more.
                return value
            future = self._client.put(value)
            self._known[key] = alive, future
            return future


class _MappedFile:
    """An array that is a map of a file of this machine: tasks map it too, and what they write to it
    is seen by all, as joblib has it."""

    def __init__(self, rebuild: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._rebuild = rebuild
        self._arguments = arguments

    def array(self) -> Any:
        return self._rebuild(*self._arguments)


def _is_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray) and not value.dtype.hasobject


def _backing_file(value: Any) -> _MappedFile | None:
    from joblib import _memmapping_reducer as reducer

    backing = reducer._get_backing_memmap(value)
    if backing is None or getattr(backing, "filename", None) is None:
        return None
    rebuild, arguments = reducer._reduce_memmap_backed(value, backing)
    return _MappedFile(rebuild, arguments)


# What runs in executors.


class _Runner:
    """Runs batches, in executors."""

    __name__ = __qualname__ = "joblib"

    def __init__(self, shared: int | None, threads: int | None) -> None:
        self._shared = shared
        self._threads = threads

    def __call__(self, batch: tuple[Any, Any, int | None]) -> list[Any]:
        items, backend, n_jobs = batch
        with _threads(self._threads), joblib.parallel_config(backend=backend, n_jobs=n_jobs):
            return [
                function(
                    *[self._argument(value) for value in args],
                    **{name: self._argument(value) for name, value in kwargs.items()},
                )
                for function, args, kwargs in items
            ]

    def _argument(self, value: Any) -> Any:
        if isinstance(value, _MappedFile):
            return value.array()
        if not _is_array(value) or value.nbytes < 4096 or value.flags.writeable:
            return value
        # Only what is large is read-only by agreement; the rest may be changed, as with joblib.
        return value if self._shared is not None and value.nbytes >= self._shared else value.copy()


@contextlib.contextmanager
def _threads(limit: int | None) -> Iterator[None]:
    """Bounds the threads of numerical libraries, where threadpoolctl is there to do it."""
    if limit is None:
        yield
        return
    try:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
    except ImportError:
        yield
        return
    with threadpool_limits(limit):
        yield


def register() -> None:
    """Makes ``"manyhands"`` a backend of joblib. Importing this module does it."""
    register_parallel_backend("manyhands", ManyhandsBackend)


register()
