"""The native module. Private: `manyhands` has what is meant for users."""

import concurrent.futures
import datetime
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import Any, Generic, NoReturn, Self, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

__version__: str

class Client:
    """A session with a cluster. Not open until one of the `_open` methods has succeeded."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    def _open_local(
        self,
        *,
        slots: int | None = None,
        store_limit: int | None = None,
        spill_dir: str | None = None,
        resources: Mapping[str, float] | None = None,
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
        environment: Mapping[str, Any] | None = None,
        interpreter: str | None = None,
    ) -> None: ...
    def _open_remote(
        self,
        address: str,
        *,
        name: str | None = None,
        environment: Mapping[str, Any] | None = None,
    ) -> None: ...
    def _open_current(self) -> bool: ...
    def _stop_accepting(self) -> None: ...
    def _notifier(self) -> Any: ...
    @property
    def is_local(self) -> bool:
        """Whether the cluster is part of this process."""

    @property
    def is_open(self) -> bool:
        """Whether the session lives."""

    @property
    def job(self) -> str:
        """The id of its job, as the command line takes it."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Begins a call, and returns its result as a future. Arguments that are futures arrive as
        their values, also where they lie in lists, dicts and other objects."""

    def call(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        options: Options | None,
        nout: int | None,
    ) -> Any:
        """As `submit`, with all that can be said of a call. A list of futures with `nout`."""

    def _submit_rows(
        self,
        fn: Callable[..., T],
        rows: Iterable[tuple[Any, ...]],
        options: Options | None = None,
    ) -> list[Future[T]]:
        """A call for each tuple of arguments."""

    def open_stream(
        self,
        fn: Callable[..., Iterator[T]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        options: Options | None,
    ) -> StreamSource:
        """A call of a generator function."""

    def rust(self, path: str | os.PathLike[str]) -> RustProgram:
        """A program in Rust on this machine, whose `#[manyhands::task]` functions this client can
        submit from now on. It is started once, to list them, and ends before its `main`."""

    def put(self, value: T) -> Future[T]:
        """Puts a value into the cluster, once, to be an argument of many tasks."""

    def gather(self, futures: Iterable[Future[T]], timeout: float | None = None) -> list[T]:
        """The values of futures, in their order. Raises what the first of them that failed raised,
        and `TimeoutError` after `timeout` seconds."""

    def wait(self, futures: list[Future[Any]], need: int, timeout: float | None = None) -> int:
        """Waits until `need` of these have ended: how many have."""

    def watch(self) -> Watch:
        """Ends of futures, in their order."""

    def output(self) -> Output:
        """What tasks print. Has to be taken by somebody."""

    def compute(self, lazies: list[Lazy[Any]]) -> list[Future[Any]]:
        """Sends graphs whose results are wanted here."""

    def persist(self, lazies: list[Lazy[Any]]) -> list[Future[Any]]:
        """Sends graphs whose results stay in the cluster."""

    def cancel(self, futures: list[Future[Any]] | None, reason: str = ...) -> None:
        """Cancels these, or all that this client has submitted."""

    def drain(self, timeout: float | None = None) -> bool:
        """Waits until all that this client has submitted has ended. False when the time is over."""

    def _unended(self) -> int: ...
    def explain(self, future: Future[Any]) -> tuple[str, str]:
        """The state of the future's task, and the reason in words."""

    def progress(self) -> dict[str, int]:
        """How many of the job's tasks were submitted, are assigned, done, failed."""

    def stats(self) -> dict[str, Any]:
        """How full a cluster in this process is; empty of others."""

    def ask_cluster(self) -> dict[str, Any]:
        """The cluster in numbers."""

    def close(self) -> None:
        """Ends the session."""

class Watch:
    """Futures in the order in which they end."""

    def add(self, future: Future[Any]) -> None: ...
    def next(self, timeout: float | None, keep: bool = False) -> list[Future[Any]] | None: ...
    def close(self) -> None: ...

class Output:
    """What tasks have printed: task, its number, its function's name, stream, bytes. What there is
    to say of the connection is of no task, and has the stream ``notice``."""

    def next(self, timeout: float | None) -> list[tuple[str, int, str, str, bytes]] | None: ...

class RustProgram:
    """The tasks of a program in Rust. Made by `Client.rust`."""

    def names(self) -> list[str]:
        """The paths of its functions: ``"my_crate::add"``."""

    def function(self, name: str) -> RustFunction:
        """One of them, by its path, or by the end of that where only one ends so. Raises
        `LookupError` if there is none, or several."""

class RustFunction:
    """A function in Rust: clients submit and map it as they do those of Python, and `lazy` makes
    nodes of graphs.

    Arguments are None, bool, int, float, str, bytes, lists and dicts of these, arrays of
    numbers, and futures. The numbers of an array have to be of the type of the function's
    vector (``float64`` for ``Vec<f64>``): another one of the same size is not noticed.
    Results are plain data too; a vector of numbers comes as a memoryview of its bytes, to be
    read by ``numpy.frombuffer(result, "f8")``."""

    __name__: str
    def __call__(self, *args: Any) -> Any:
        """For type checkers: it raises `TypeError`, since it cannot run here."""

    def lazy(self, *args: Any) -> Lazy[Any]:
        """The call as a node of a graph."""

    def submit(self, *args: Any) -> Future[Any]:
        """The call, begun at once by the default client."""

class StreamSource:
    """The items of a generator that runs as a task."""

    @property
    def end(self) -> Future[int]: ...
    def room(self, first: int, upto: int) -> list[Future[Any]]: ...

class Future(concurrent.futures.Future[T]):
    """A result that may not be there yet: a reference to an object of the cluster.

    It is let go of when nobody refers to it any more. Its task runs all the same.
    """

    _extra: Any
    @property
    def id(self) -> str:
        """The object's id."""

    @property
    def task(self) -> str:
        """The task's id, as the command line takes it."""

    @property
    def name(self) -> str:
        """The name of its function."""

    @property
    def client(self) -> Any:
        """The client that it came from."""

    def result(self, timeout: float | None = None) -> T:
        """Waits for the value. Raises what the task raised, and `TimeoutError` after `timeout`
        seconds."""

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Waits for the end: what the task raised, or None."""

    def done(self) -> bool:
        """Whether it has ended, well or badly."""

    def running(self) -> bool:
        """Whether an executor runs the task now. It asks the cluster: a message there and back."""

    def cancelled(self) -> bool:
        """Whether it was cancelled."""

    def cancel(self) -> bool:
        """Stops the task, whether it has begun or not. False if it had ended."""

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        """Has `fn` called when it ends, on the client's thread for callbacks; here and at once if
        it has ended."""

    def release(self) -> None:
        """Lets go of the object now. The future cannot be used any more."""

    def _status(self) -> str: ...
    def __await__(self) -> Generator[Any, None, T]: ...

class Lazy(Generic[T_co]):
    """A call as a node of a graph."""

    @property
    def name(self) -> str:
        """The name of its function."""

    def compute(self, *, client: Any = None, progress: bool | str = False) -> T_co:
        """Runs the graph, and waits for this node's result."""

    def persist(self, *, client: Any = None) -> Future[T_co]:
        """Runs the graph, and keeps this node's result in the cluster."""

    def submit(self, *, client: Any = None) -> Future[T_co]:
        """As `persist`."""

    def visualize(self, filename: str | None = None) -> Any:
        """Draws the graph."""

    def after(self, *lazies: Lazy[Any]) -> Lazy[T_co]:
        """This node, which runs when these have ended."""

    def _repr_svg_(self) -> str: ...
    def __bool__(self) -> NoReturn: ...

class Options:
    """What a task may ask for. Cannot be changed; `replace` makes another."""

    def __new__(
        cls,
        *,
        retries: int | None = None,
        crash_retries: int | None = None,
        time_limit: float | None = None,
        deadline: float | datetime.datetime | None = None,
        priority: int | None = None,
        cores: float | None = None,
        memory: int | None = None,
        resources: Mapping[str, float] | None = None,
        labels: Mapping[str, str] | None = None,
        memory_limit: int | None = None,
    ) -> Self: ...
    def replace(self, **given: Any) -> Options: ...

def lazy(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None,
    options: Options | None,
    nout: int | None,
) -> Any: ...
def run_in_order(
    client: Client, lazies: list[Lazy[Any]], order: list[Lazy[Any]], keep: bool
) -> list[Future[Any]]: ...
def dot(lazies: list[Lazy[Any]]) -> str: ...
def svg(lazies: list[Lazy[Any]]) -> str: ...
def encode(value: object, foreign: bool = False) -> tuple[int, bytes]: ...
def decode(codec: int, data: bytes) -> Any: ...
def serve_template() -> NoReturn: ...
def template_begin() -> None: ...
def _forked() -> None: ...
def _retire() -> None: ...
def _reduce(obj: Any, /) -> Any: ...
def cli(arguments: list[str]) -> int: ...
