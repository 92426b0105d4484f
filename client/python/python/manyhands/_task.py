"""Functions as tasks: `task`, `delayed`, and the graphs that their nodes make."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, Unpack, overload

from . import _client, _code, _core, _functions, _options
from ._progress import wait_with_bar

if TYPE_CHECKING:
    from ._core import Future, Lazy, Options
    from ._map import Results
    from ._options import Asked

__all__ = ["Delayed", "Graph", "Task", "compute", "delayed", "persist", "task", "visualize"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Task(Generic[P, R]):
    """A function that can also be run as a task. Calling it is calling the function; see `task`."""

    __wrapped__: Callable[P, R]
    _options: Options | None
    _nout: int | None

    def __init__(
        self, function: Callable[P, R], options: Options | None = None, nout: int | None = None
    ) -> None:
        functools.update_wrapper(self, function)
        self._options = options
        self._nout = _options.outputs(nout)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.__wrapped__(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<task {getattr(self, '__qualname__', self.__wrapped__)}>"

    def lazy(self, *args: Any, **kwargs: Any) -> Lazy[R]:
        """The call as a node of a graph; runs nothing. Arguments may be other nodes and futures, in
        lists and dicts too. A list of nodes with `nout`."""
        function = for_graphs(self)
        node: Lazy[R] = _core.lazy(function, args, kwargs or None, self._options, self._nout)
        return node

    def submit(self, *args: Any, **kwargs: Any) -> Future[R]:
        """The call, begun at once by the default client (`manyhands.client`), as a future. A list
        of futures with `nout`."""
        client = _client.client()
        if self._nout is not None:
            _code.refuse_generator(self.__wrapped__, _code.NOUT)
        future: Future[R] = client.call(self, args, kwargs or None, self._options, self._nout)
        return future

    def map(self, *iterables: Iterable[Any], timeout: float | None = None) -> Results[R]:
        """A call for each item, by the default client: the results, in order."""
        return _client.client().map(self, *iterables, timeout=timeout)

    def options(self, *, nout: int | None = None, **asked: Unpack[Asked]) -> Task[P, R]:
        """The same function with other options (`Client.options` lists them)."""
        options = _options.changed(self._options, asked)
        return Task(self.__wrapped__, options, self._nout if nout is None else nout)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """As a method: the object comes first, as for any function."""
        if instance is None:
            return self
        return Task(MethodType(self.__wrapped__, instance), self._options, self._nout)

    def __reduce__(self) -> tuple[Any, ...] | str:
        if _functions.importable(self.__wrapped__, _functions.is_remote()) is self:
            return str(self.__wrapped__.__qualname__)
        # In two steps, since the function may refer to its own task.
        return (_blank, (), (self.__wrapped__, self._options, self._nout))

    def __setstate__(self, state: tuple[Callable[P, R], Options | None, int | None]) -> None:
        Task.__init__(self, *state)


def for_graphs(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function as graphs know it: as another object once other machines are used, where it has to
    travel in another way than before."""
    if not _functions.is_remote() or not isinstance(function, Task | FunctionType):
        return function
    return _elsewhere(function)


@functools.lru_cache(maxsize=1024)
def _elsewhere(function: Callable[..., Any]) -> Task[..., Any]:
    if isinstance(function, Task):
        return Task(function.__wrapped__, function._options, function._nout)
    return Task(function)


def _blank() -> Task[..., Any]:
    return Task.__new__(Task)


@overload
def task(function: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(
    *, nout: int | None = None, **asked: Unpack[Asked]
) -> Callable[[Callable[P, R]], Task[P, R]]: ...
def task(function: Any = None, /, *, nout: int | None = None, **asked: Unpack[Asked]) -> Any:
    """Lets a function be run as a task, and leaves `f(x)` as it was: it runs here and now.

    ``f.lazy(x)`` makes a node of a graph, ``f.submit(x)`` begins the call at once and gives a
    future. Options are those of `Client.options`; ``nout=2`` says that the function returns two
    values, and gives a list of two nodes or futures.

    >>> @task
    ... def square(x):
    ...     return x * x
    >>> @task(retries=2, nout=2)
    ... def parts(x):
    ...     return x // 10, x % 10
    >>> square(3), square.submit(3).result()
    (9, 9)
    >>> tens, ones = parts.lazy(square.lazy(6))
    >>> compute(square.lazy(tens), square.lazy(ones))
    (9, 36)
    """
    if function is None:
        options = _options.made(asked)
        return lambda decorated: Task(_callable(decorated), options, nout)
    return Task(_callable(function))


def _callable(function: Any) -> Any:
    if not callable(function):
        raise TypeError(
            f"{type(function).__name__} is not a function; a value is passed as it is, or by `put`"
        )
    return function.__wrapped__ if isinstance(function, Task) else function


class Delayed(Generic[R]):
    """A function whose calls are nodes of a graph. Made by `delayed`."""

    def __init__(self, function: Callable[..., R], nout: int | None = None) -> None:
        functools.update_wrapper(self, _callable(function))
        self._function = function
        self._nout = _options.outputs(nout)

    def __call__(self, *args: Any, **kwargs: Any) -> Lazy[R]:
        function = for_graphs(self._function)
        node: Lazy[R] = _core.lazy(function, args, kwargs or None, None, self._nout)
        return node


def delayed(function: Callable[..., R], nout: int | None = None) -> Delayed[R]:
    """For Dask's habit: `delayed(f)(x)` is the node that `task(f).lazy(x)` is.

    >>> delayed(sum)([delayed(abs)(-1), delayed(abs)(-2)]).compute()
    3
    """
    return Delayed(function, nout)


@overload
def compute(target: Lazy[T], /, *, client: Any = None, progress: bool | str = False) -> T: ...
@overload
def compute(*targets: Any, client: Any = None, progress: bool | str = False) -> Any: ...
def compute(*targets: Any, client: Any = None, progress: bool | str = False) -> Any:
    """Runs graphs and waits for their results: of one target its result, of several a tuple of
    them. Targets are nodes, or lists, tuples and dicts with nodes in them.

    :param client: whose cluster; the default one if None.
    :param progress: show a bar, with this text if it is one.

    >>> three = delayed(sum)([1, 2])
    >>> compute({"three": three, "six": [delayed(pow)(three, 2)]})
    {'three': 3, 'six': [9]}
    """
    client = _client.client() if client is None else client
    nodes = _Nodes()
    shapes = [nodes.find(target) for target in targets]
    before = client.progress()["submitted"] if progress else 0
    futures = client.compute(nodes.found)
    if progress and futures:
        label = progress if isinstance(progress, str) else ""
        wait_with_bar(client, futures, label, before)
    values = client.gather(futures, None)
    return _one_or_all([_filled(shape, values) for shape in shapes])


async def compute_async(*targets: Any, client: Any = None) -> Any:
    """As `compute`, awaited. The graph is sent when this is awaited first."""
    client = _client.client() if client is None else client
    nodes = _Nodes()
    shapes = [nodes.find(target) for target in targets]
    values = await client.gather_async(client.compute(nodes.found))
    return _one_or_all([_filled(shape, values) for shape in shapes])


def persist(*targets: Any, client: Any = None) -> Any:
    """As `compute`, but does not wait, and keeps the results in the cluster: futures in the places
    of the nodes. A graph that uses one of these nodes later uses its result.

    >>> persist(delayed(abs)(-5)).result()
    5
    """
    client = _client.client() if client is None else client
    nodes = _Nodes()
    shapes = [nodes.find(target) for target in targets]
    futures = client.persist(nodes.found)
    return _one_or_all([_filled(shape, futures) for shape in shapes])


class Graph:
    """A picture of a graph: shown by a notebook, and as text `svg` or `dot`."""

    def __init__(self, svg: str, dot: str) -> None:
        self.svg = svg
        self.dot = dot

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"<Graph, {len(self.svg)} bytes of SVG>"

    def save(self, filename: str | os.PathLike[str]) -> None:
        """Writes the picture: Graphviz's language if the name ends in ``.dot`` or ``.gv``, SVG if
        it ends in ``.svg`` or has no ending."""
        ending = os.path.splitext(os.fspath(filename))[1].lower()
        if ending not in ("", ".svg", ".dot", ".gv"):
            raise ValueError(
                f"a picture cannot be written as {ending}: give a name that ends in .svg or .dot "
                "(`dot -Tpng` of Graphviz makes other pictures of that)"
            )
        text = self.dot if ending in (".dot", ".gv") else self.svg
        with open(filename, "w", encoding="utf-8") as file:
            file.write(text)


def visualize(*targets: Any, filename: str | os.PathLike[str] | None = None) -> Graph:
    """Draws graphs, without another program. With a `filename` the picture is also written there.

    >>> visualize(delayed(pow)(2, delayed(abs)(-3))).svg.startswith("<svg")
    True
    """
    nodes = _Nodes()
    for target in targets:
        nodes.find(target)
    graph = Graph(_core.svg(nodes.found), _core.dot(nodes.found))
    if filename is not None:
        graph.save(filename)
    return graph


class _At:
    """In a shape: the place of a node's value."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index


class _Nodes:
    """Nodes in nested collections."""

    def __init__(self) -> None:
        self.found: list[Lazy[Any]] = []
        self._places: dict[int, int] = {}

    def find(self, target: Any) -> Any:
        """The target with places instead of nodes."""
        if isinstance(target, _core.Lazy):
            place = self._places.setdefault(id(target), len(self.found))
            if place == len(self.found):
                self.found.append(target)
            return _At(place)
        if type(target) in (list, tuple, set, frozenset):
            return type(target)([self.find(item) for item in target])
        if type(target) is dict:
            return {key: self.find(value) for key, value in target.items()}
        return target


def _filled(shape: Any, values: list[Any]) -> Any:
    if isinstance(shape, _At):
        return values[shape.index]
    if type(shape) in (list, tuple, set, frozenset):
        return type(shape)([_filled(item, values) for item in shape])
    if type(shape) is dict:
        return {key: _filled(value, values) for key, value in shape.items()}
    return shape


def _one_or_all(results: list[Any]) -> Any:
    return results[0] if len(results) == 1 else tuple(results)


# What the methods of nodes call.


def lazy_compute(node: Lazy[T], **how: Any) -> T:
    """`Lazy.compute`."""
    value: T = compute(node, **how)
    return value


def lazy_persist(node: Lazy[T], **how: Any) -> Future[T]:
    """`Lazy.persist` and `Lazy.submit`."""
    future: Future[T] = persist(node, **how)
    return future


def lazy_visualize(node: Lazy[Any], filename: str | None = None) -> Graph:
    """`Lazy.visualize`."""
    return visualize(node, filename=filename)


def lazy_svg(node: Lazy[Any]) -> str:
    """`Lazy._repr_svg_`."""
    return _core.svg([node])
