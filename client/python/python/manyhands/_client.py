"""The client: a `concurrent.futures.Executor` over a cluster."""

from __future__ import annotations

import _thread
import atexit
import contextlib
import os
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Never, Self, TypeVar, Unpack, overload

from . import _code, _core, _environment, _functions, _options
from ._errors import ManyhandsError, SessionClosed
from ._futures import Notifier, gather_async
from ._map import Chunks, Results
from ._output import Printer

if TYPE_CHECKING:
    from ._core import Future, Lazy, Options
    from ._options import Asked

__all__ = ["Client", "Explanation", "Parts", "View", "client", "current", "put"]

T = TypeVar("T")

_entered: list[Client] = []
"""Clients within their `with`, innermost last."""
_made: list[weakref.ref[Client]] = []
"""All that were made here and not ended, those within their `with` too, the last one last. Those
that were dropped are taken out when another one ends."""
_lists_lock = threading.RLock()
"""Guards changes of both. The garbage collector may end a client under it: hence it can be taken
again."""
_dropped: dict[Client, _thread.LockType] = {}
"""Those to which nobody refers any more while what was submitted has not ended. Each has a thread
that waits for that, ends the client, and then lets go of the lock."""
_default_lock = threading.Lock()
"""Held while the default client is looked for and made."""
LAST_WORDS_S = 3.0
"""Seconds that tasks which are stopped by Ctrl-C have to end before their client does."""


class Explanation(NamedTuple):
    """Where a task is, and why."""

    state: str
    """``waiting``, ``ready``, ``assigned``, ``running``, ``done``, ``failed`` or ``unknown``."""
    reason: str
    """The reason in words."""

    def __str__(self) -> str:
        return f"{self.state}: {self.reason}" if self.reason else self.state


class Client(_core.Client, Executor):
    """Submits tasks to a cluster, and gets their results.

    Without an address it is a client of the cluster that the variable ``MANYHANDS_ADDRESS`` names,
    and if that is not set, of one that it starts on this machine, with an executor for each core.
    Within a task it is a client of that task's own job.

    It is a `concurrent.futures.Executor`:

    >>> with Client(workers=2) as executor:
    ...     executor.submit(pow, 2, 10).result(), list(executor.map(abs, [1, -2, 3]))
    (1024, [1, 2, 3])

    :param address: ``manyhands://TOKEN@HOST:PORT``, as the scheduler prints it for clients, or
        ``HOST:PORT`` with the token in ``MANYHANDS_TOKEN``; ``"local"`` starts a cluster here
        whatever ``MANYHANDS_ADDRESS`` says.
    :param workers: executors of a cluster that is started here.
    :param memory: bytes that its object store may have in memory; what is over it goes to disk.
    :param spill_dir: the directory on disk for that.
    :param resources: what it has besides cores, by name; tasks ask for it by ``resources``.
    :param labels: what its worker is called; tasks ask for it by ``labels``.
    :param preload: modules that are imported once, before executors are forked.
    :param env: variables of the environment of tasks.
    :param directory: their working directory.
    :param py_modules: modules and packages of this machine (paths, names or modules) to send along.
    :param requirements: packages to install once on each machine: a list of lines as a requirements
        file has them (``-r file`` among them), or the path of such a file. Directories and wheels
        of this machine are installed again when their files change; for a local cluster only.
    :param name: the name of the job.
    """

    _callbacks: Notifier | None
    _printer: Printer | None

    def __init__(
        self,
        address: str | None = None,
        *,
        workers: int | None = None,
        memory: int | None = None,
        spill_dir: str | os.PathLike[str] | None = None,
        resources: Mapping[str, float] | None = None,
        labels: Mapping[str, str] | None = None,
        preload: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        directory: str | os.PathLike[str] | None = None,
        py_modules: Sequence[object] = (),
        requirements: Sequence[str] | str | os.PathLike[str] = (),
        name: str | None = None,
        **unknown: Never,
    ) -> None:
        _check_settings(address, workers, unknown)
        if self._become_current(unless=address is not None):
            _warn_of_ignored(
                *(("workers", workers), ("memory", memory), ("spill_dir", spill_dir)),
                *(("resources", resources), ("labels", labels), ("preload", preload)),
                *(("env", env), ("directory", directory), ("py_modules", py_modules)),
                *(("requirements", requirements), ("name", name)),
            )
            return
        address = address or os.environ.get("MANYHANDS_ADDRESS") or "local"
        remote = address != "local"
        environment = _environment.describe(
            preload=preload,
            variables=env or {},
            directory=directory,
            py_modules=py_modules,
            requirements=requirements,
            remote=remote,
        )
        name = name or _program_name()
        if remote:
            _refuse_local_settings(workers, memory, spill_dir, resources, labels)
            self._open_remote(address, name=name, environment=environment)
        else:
            _functions.use_local(environment["path"])
            self._open_local(
                slots=workers,
                store_limit=memory,
                spill_dir=None if spill_dir is None else os.fspath(spill_dir),
                resources=dict(resources or {}),
                labels=dict(labels or {}),
                name=name,
                environment=environment,
                interpreter=sys.executable,
            )
        self._printer = Printer(self)
        with _lists_lock:
            _made.append(weakref.ref(self))

    def _become_current(self, *, unless: bool = False) -> bool:
        """Within a task: this becomes a client of its job. False elsewhere."""
        self._lock = threading.Lock()
        self._callbacks = None
        self._printer = None
        self._pid = os.getpid()
        self._thread = threading.get_ident()
        self._is_nested = not unless and self._open_current()
        if not unless and not self._is_nested and _is_executor():
            raise RuntimeError(
                "another thread of a task has no client of its job: submit and wait on the "
                "task's own thread, and give the threads the results"
            )
        return self._is_nested

    def __repr__(self) -> str:
        if not self.is_open:
            return "<manyhands.Client, closed>"
        return f"<manyhands.Client of job {self.job}, {'local' if self.is_local else 'remote'}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # A client that a task closes over is, there, a client of that task's job.
        return (_within_task, ())

    def submit_many(
        self, fn: Callable[..., T], /, *iterables: Iterable[Any], options: Options | None = None
    ) -> list[Future[T]]:
        """A call for each item, as `map` makes them, and their futures. The fastest way to submit.

        >>> [future.result() for future in client.submit_many(pow, [2, 3], [2, 2])]
        [4, 9]
        """
        return self._submit_rows(fn, _rows(iterables), options)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Results[T]:
        """Results of the calls, in the order of the items.

        :param timeout: seconds after which `TimeoutError` is raised for results that have not come.
        :param chunksize: how many items make one task. Its results come together, or not at all if
            one of its items fails. Worth it for items of a few microseconds.
        :param buffersize: how many calls may be under way whose results have not been taken; all
            are submitted at once without it. With it items may be endless.

        >>> list(client.map(pow, [1, 2, 3], [2, 2, 2]))
        [1, 4, 9]
        """
        return self._map(fn, iterables, None, timeout, chunksize, buffersize)

    def _map(
        self,
        fn: Callable[..., T],
        iterables: tuple[Iterable[Any], ...],
        options: Options | None,
        timeout: float | None,
        chunksize: int,
        buffersize: int | None,
    ) -> Results[T]:
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        _code.refuse_generator(
            _functions.unwrapped(fn),
            "its calls give streams of items, and not results; `submit_many` gives the stream of "
            "each call",
        )
        rows, chunks = _rows(iterables), None
        if chunksize > 1 and not isinstance(fn, _core.RustFunction):
            from ._initializer import Call
            from ._shapes import CHUNK
            from ._task import Task

            if options is None and isinstance(fn, Task):
                options = fn._options
            fn = Call(_functions.unwrapped(fn), CHUNK, None, local=self.is_local)
            rows = chunks = Chunks(rows, chunksize)
        if buffersize is None:
            return Results(self._submit_rows(fn, rows, options), timeout, None, chunks)
        calls = (self.call(fn, row, None, options, None) for row in rows)
        return Results.windowed(calls, max(buffersize // chunksize, 1), timeout, chunks)

    @overload
    def options(self, *, nout: None = None, **asked: Unpack[Asked]) -> View: ...
    @overload
    def options(self, *, nout: int, **asked: Unpack[Asked]) -> Parts: ...
    def options(self, *, nout: int | None = None, **asked: Unpack[Asked]) -> View | Parts:
        """This client, with options for what is submitted through it.

        :param retries: how often a task runs again after it raised (0).
        :param crash_retries: how often it runs again after its executor or machine died (2).
        :param time_limit: seconds that one attempt may take.
        :param deadline: the point by which the task must have ended: seconds since 1970
            (``time.time() + 60``), or a `datetime`.
        :param priority: larger runs earlier, within the job (0).
        :param cores: what it occupies (1.0); ``memory`` in bytes, and ``resources`` by name.
        :param labels: labels that its worker must carry (``worker`` and ``host`` are always there).
        :param memory_limit: bytes that its executor may own before it is stopped.
        :param nout: how many values the functions return: each is a future of its own.

        >>> client.options(retries=3, time_limit=60).submit(pow, 2, 5).result()
        32
        >>> [future.result() for future in client.options(nout=2).submit(divmod, 7, 3)]
        [2, 1]
        """
        options = _options.made(asked)
        return View(self, options) if nout is None else Parts(self, options, nout)

    def get(self, future: Future[T], timeout: float | None = None) -> T:
        """The value of a future.

        >>> client.get(client.put([1, 2, 3]))
        [1, 2, 3]
        """
        return future.result(timeout)

    async def gather_async(self, futures: Iterable[Future[T]]) -> list[T]:
        """As `gather`, awaited."""
        return await gather_async(futures)

    def explain(self, future: Future[Any]) -> Explanation:
        """Where the future's task is, and why: what it waits for, in words.

        >>> future = client.submit(pow, 2, 3)
        >>> future.result(), client.explain(future).state
        (8, 'done')
        """
        return Explanation(*super().explain(future))

    def status(self) -> dict[str, Any]:
        """The job's tasks by state, and the whole cluster in numbers.

        >>> client.submit(pow, 2, 3).result()
        8
        >>> client.status()["job"]["submitted"] > 0
        True
        """
        return {"job": self.progress(), "cluster": self.ask_cluster(), "here": self.stats()}

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the client, and the cluster if it was started for it. Nothing can be submitted any
        more.

        :param wait: return only when what was submitted has ended and its output is printed.
            Otherwise that goes on in the background.
        :param cancel_futures: cancel what has not ended, first.
        """
        if not self._begin_end():
            return
        if wait:
            self._end(cancel_futures)
        else:
            # Not a daemon: the interpreter waits for it, as it does for the executors of the
            # standard library.
            end = threading.Thread(
                target=_end_unattended, args=(self, cancel_futures), name="manyhands-shutdown"
            )
            end.start()

    def _begin_end(self) -> bool:
        """Nothing can be submitted any more. False if this is not the place to end the client."""
        if self._pid != os.getpid() or self._is_nested or not self.is_open:
            return False
        self._stop_accepting()
        _forget(self)
        return True

    def _end(self, cancel: bool, limit_s: float | None = None) -> None:
        try:
            if cancel:
                self.cancel(None, "the client was shut down")
            self.drain(limit_s)
        finally:
            self.close()

    def _interrupt(self) -> None:
        """Ends it soon, and stops what runs: somebody does not want to wait."""
        if self._begin_end():
            with contextlib.suppress(SessionClosed):
                self._end(cancel=True, limit_s=LAST_WORDS_S)

    def __del__(self) -> None:
        # What was submitted still runs, as with the executors of the standard library.
        if self.is_open and self._begin_end():
            ended = _thread.allocate_lock()
            ended.acquire()
            _dropped[self] = ended
            # This may run within anything, under whatever locks: it waits for nothing, as it would
            # to start a `threading.Thread`.
            try:
                _thread.start_new_thread(_end_dropped, (self, ended))
            except RuntimeError:
                # No thread can be had any more.
                del _dropped[self]

    def close(self) -> None:
        """Ends the client now. Whoever waits gets `SessionClosed`; tasks that run are stopped."""
        if self._pid != os.getpid():
            return
        _forget(self)
        super().close()
        with self._lock:
            callbacks, printer = self._callbacks, self._printer
        if callbacks is not None:
            callbacks.close()
        if printer is not None:
            printer.join()

    def __enter__(self) -> Self:
        if not self._is_nested:
            _entered.append(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._exit(error, interrupted=kind is KeyboardInterrupt)

    def _exit(self, error: BaseException | None, interrupted: bool) -> None:
        if interrupted:
            self._interrupt()
            return
        try:
            self.shutdown()
        except SessionClosed:
            # What the block has raised tells more.
            if error is None:
                raise

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        import asyncio

        _leave(self)
        run = asyncio.get_running_loop().run_in_executor
        # Ctrl-C cancels the task of `asyncio.run`.
        interrupted = isinstance(error, (KeyboardInterrupt, asyncio.CancelledError))
        exiting = run(None, self._exit, error, interrupted)
        try:
            await asyncio.shield(exiting)
        except asyncio.CancelledError:
            # Not with the loop's executor, which may have a single thread.
            threading.Thread(target=self._interrupt, name="manyhands-interrupt").start()
            await asyncio.wait([exiting])
            raise

    def _notifier(self) -> Notifier:
        """Who is told of the ends of this client's futures."""
        with self._lock:
            if self._callbacks is None:
                self._callbacks = Notifier(self)
            return self._callbacks


class View(Executor):
    """A client with options: what is submitted through it has them. Made by `Client.options`, and
    itself a `concurrent.futures.Executor`."""

    def __init__(self, client: Client, options: Options | None) -> None:
        self.client = client
        self._options = options

    def __repr__(self) -> str:
        return f"<{self.client!r} with {self._options!r}>"

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """As `Client.submit`."""
        future: Future[T] = self.client.call(fn, args, kwargs or None, self._options, None)
        return future

    def submit_many(self, fn: Callable[..., T], /, *iterables: Iterable[Any]) -> list[Future[T]]:
        """As `Client.submit_many`."""
        return self.client.submit_many(fn, *iterables, options=self._options)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Results[T]:
        """As `Client.map`."""
        return self.client._map(fn, iterables, self._options, timeout, chunksize, buffersize)

    def lazy(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Lazy[T]:
        """A node of a graph, with the options."""
        from ._task import for_graphs

        node: Lazy[T] = _core.lazy(for_graphs(fn), args, kwargs or None, self._options, None)
        return node

    def options(self, **asked: Unpack[Asked]) -> View:
        """This view, with some options changed."""
        return View(self.client, _options.changed(self._options, asked))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Shuts the client down."""
        self.client.shutdown(wait, cancel_futures=cancel_futures)


class Parts:
    """A client for functions that return several values. Made by `Client.options` with `nout`."""

    def __init__(self, client: Client, options: Options | None, nout: int) -> None:
        self.client = client
        self.nout = nout
        self._options = options
        _options.outputs(nout)

    def __repr__(self) -> str:
        return f"<{self.client!r} with {self._options!r} for {self.nout} values>"

    if not TYPE_CHECKING:

        def __getattr__(self, name):
            raise AttributeError(
                f"a client with `nout` has no {name!r}: a call gives several futures, and `submit` "
                "and `lazy` make lists of them"
            )

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> list[Future[Any]]:
        """As `Client.submit`: a future for each value."""
        _code.refuse_generator(_functions.unwrapped(fn), _code.NOUT)
        parts: list[Future[Any]] = self.client.call(
            fn, args, kwargs or None, self._options, self.nout
        )
        return parts

    def lazy(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> list[Lazy[Any]]:
        """A node of a graph for each value."""
        from ._task import for_graphs

        nodes: list[Lazy[Any]] = _core.lazy(
            for_graphs(fn), args, kwargs or None, self._options, self.nout
        )
        return nodes


def client() -> Client:
    """The client of this program: the innermost in a `with`, else the one that was made last;
    within a task that of its job. Made if there is none.

    >>> mh.client().submit(pow, 2, 4).result()
    16
    """
    with _default_lock:
        return existing() or _kept(Client())


def existing() -> Client | None:
    """As `client`, and None if there is none."""
    for found in reversed(_entered):
        if found.is_open:
            return found
    for reference in reversed(_made):
        made = reference()
        if made is not None and made.is_open:
            return made
    return current()


def keep_private(client: Client) -> None:
    """Nobody else comes to use this client by `client`, and whoever made it ends it."""
    _forget(client)


def put(value: T) -> Future[T]:
    """Puts a value into the cluster of the default client, once, to be an argument of many tasks.

    >>> numbers = mh.put([1, 2, 3])
    >>> client.submit(sum, numbers).result()
    6
    """
    return client().put(value)


def current() -> Client | None:
    """Within a task a client of its job, for nested work; None outside of tasks.

    >>> def total(n):
    ...     return sum(mh.current().map(abs, range(n)))
    >>> client.submit(total, 4).result()
    6
    >>> mh.current() is None
    True
    """
    found = Client.__new__(Client)
    return found if found._become_current() else None


def _is_executor() -> bool:
    # Executors have imported it, and nobody else needs it.
    run = sys.modules.get("manyhands._run")
    return run is not None and run.executor == os.getpid()


def _within_task() -> Client | None:
    return current() or client()


_default: list[Client] = []
"""Keeps the client that was made because there was none."""


def _kept(made: Client) -> Client:
    _default[:] = [made]
    return made


def _leave(client: Client) -> None:
    with _lists_lock:
        if client in _entered:
            _entered.remove(client)


def _forget(client: Client) -> None:
    with _lists_lock:
        _leave(client)
        _made[:] = [made for made in _made if made() not in (None, client)]
    if client in _default:
        _default.clear()


def _rows(iterables: tuple[Iterable[Any], ...]) -> Iterable[tuple[Any, ...]]:
    return zip(*iterables, strict=False)


def _check_settings(address: object, workers: object, unknown: Mapping[str, object]) -> None:
    if "max_workers" in unknown:
        raise TypeError(f"a client has no max_workers: write workers={unknown['max_workers']!r}")
    if unknown:
        raise TypeError(f"a client has no {next(iter(unknown))!r}")
    if isinstance(address, int):
        raise TypeError(
            f"the first argument is the address of a cluster: for executors on this machine write "
            f"workers={address!r}"
        )
    if workers is None:
        return
    if not isinstance(workers, int):
        raise TypeError(f"workers is a number, not {workers!r}")
    if workers < 1:
        raise ValueError("workers must be at least 1")


def _refuse_local_settings(*given: object) -> None:
    if any(setting is not None for setting in given):
        raise ValueError(
            "workers, memory, spill_dir, resources and labels are of a cluster that is started "
            "here; on one that is there already they belong to its `manyhands worker`"
        )


def _warn_of_ignored(*given: tuple[str, object]) -> None:
    names = [name for name, setting in given if setting]
    if names:
        warnings.warn(
            "within a task a client is one of the task's own job: ignored here: "
            f"{', '.join(names)}; give them to the client that submits the task, or start another "
            'cluster with Client("local", ..)',
            stacklevel=3,
        )


def _program_name() -> str:
    return os.path.basename(sys.argv[0]) if sys.argv and sys.argv[0] else "python"


def _end_unattended(client: Client, cancel: bool = False) -> None:
    """Ends a client where nobody can be told that its cluster is lost, but in the log."""
    try:
        client._end(cancel)
    except ManyhandsError as error:
        import logging

        logging.getLogger("manyhands").warning("not all that was submitted has run: %s", error)


def _end_dropped(client: Client, ended: _thread.LockType) -> None:
    try:
        _end_unattended(client)
    finally:
        _dropped.pop(client, None)
        ended.release()


@atexit.register
def _end_all() -> None:
    """At the end of the program: what was submitted still runs, as with the executors of the
    standard library, and after an exception too. Only Ctrl-C ends it at once."""
    made = [client for reference in list(_made) if (client := reference()) is not None]
    try:
        if _is_interrupted():
            _tell_of_stopped([*made, *_dropped])
        else:
            for client in made:
                if client._begin_end():
                    _end_unattended(client)
            _join_dropped()
    finally:
        for client in [*made, *_dropped]:
            client.close()
        _join_dropped()


def _is_interrupted() -> bool:
    """Whether the program ends by an uncaught `KeyboardInterrupt`. At a prompt `sys.last_type` is
    of something that was long ago."""
    last = getattr(sys, "last_type", None)
    return (
        not hasattr(sys, "ps1") and isinstance(last, type) and issubclass(last, KeyboardInterrupt)
    )


def _tell_of_stopped(clients: Iterable[Client]) -> None:
    count = sum(
        client._unended() for client in clients if client.is_open and client._pid == os.getpid()
    )
    if count:
        import logging

        logging.getLogger("manyhands").warning(
            "stopped by Ctrl-C: %d task%s had not ended", count, "" if count == 1 else "s"
        )


def _join_dropped() -> None:
    """Waits for those that end in the background."""
    for client, ended in list(_dropped.items()):
        if client._pid == os.getpid():
            ended.acquire()
            ended.release()


def _after_fork() -> None:
    """In the child: another thread of the parent may have held these, and is not here."""
    global _lists_lock, _default_lock
    _lists_lock, _default_lock = threading.RLock(), threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
