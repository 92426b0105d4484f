"""Sends what some keys need of a graph, and fetches their values."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from dask._task_spec import DataNode, GraphNode

from .. import _core
from . import _groups, _run
from ._groups import Group, Key, Needed
from ._steps import Passed, Writer, Written

if TYPE_CHECKING:
    from .._client import Client
    from .._core import Future, Lazy, Options


@contextlib.contextmanager
def _no_garbage() -> Iterator[None]:
    """Does not look for garbage meanwhile: of the thousands of things that are made nothing is."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class Failed(Exception):
    """A task of the graph raised."""

    def __init__(self, key: Key, error: BaseException) -> None:
        self.key = key
        """None if it is not known which one it was."""
        self.error = error


class Sending:
    """The part of a graph that some keys need, as nodes that have not been sent."""

    def __init__(
        self,
        client: Client,
        nodes: dict[Key, GraphNode],
        asked: Iterable[Key],
        options: Options | None,
        *,
        alone: bool = False,
        marks: bool = False,
    ) -> None:
        """`alone`: every task on its own. `marks`: each group has a further result that says only
        that it has run."""
        self.client = client
        self.asked = list(dict.fromkeys(asked))
        self.lazies: dict[Key, Lazy[Any]] = {}
        self.marks: list[Lazy[Any]] = []
        self._order: list[Lazy[Any]] = []
        """One of each group."""
        with _no_garbage():
            self.graph = Needed(nodes, self.asked)
            self.written = self._write(alone, marks)
            for written in self.written:
                self._add(written, options, marks)

    def _write(self, alone: bool, marks: bool) -> list[Written]:
        graph, client = self.graph, self.client
        if alone:
            groups = _groups.alone(graph)
        else:
            actual = {graph.actual(key) for key in self.asked}
            groups = _groups.together(graph, actual, _executors(client))
        writer = Writer(graph, client.put)
        self._program = _run.Program(writer.table.entries, "dask")
        return [writer.write(number, group, marks) for number, group in enumerate(groups)]

    def _add(self, written: Written, options: Options | None, marks: bool) -> None:
        lazies, results = self.lazies, written.group.results
        inputs = [i.value if type(i) is Passed else lazies[i] for i in written.inputs]
        args = (written.work(), *inputs)
        several = len(results) + marks if len(results) > 1 or marks else None
        try:
            made = _core.lazy(self._program, args, None, options, several)
        except Exception as error:
            error.add_note(f"in Dask's task {written.group.keys[-1]!r}")
            raise
        if several is None:
            lazies[results[0]] = made
            self._order.append(made)
            return
        self._order.append(made[0])
        lazies.update(zip(results, made, strict=False))
        if marks:
            self.marks.append(made[-1])

    @property
    def groups(self) -> list[Group]:
        """The groups, in the order in which they are to run."""
        return [written.group for written in self.written]

    def tasks(self) -> list[Key]:
        """The tasks behind the keys that were asked for: without those that are data."""
        actual = dict.fromkeys(map(self.graph.actual, self.asked))
        return [key for key in actual if key in self.lazies]

    def futures(self) -> dict[Key, Any]:
        """Sends it, and leaves the results in the cluster: a future by key, or data."""
        tasks = self.tasks()
        futures = self.begin([self.lazies[key] for key in tasks], keep=True)
        return self.by_asked(dict(zip(tasks, futures, strict=True)))

    def values(self) -> dict[Key, Any]:
        """Sends it, waits, and fetches: the values by key."""
        tasks = self.tasks()
        futures = self.begin([self.lazies[key] for key in tasks])
        return self.by_asked(dict(zip(tasks, self.fetched(futures), strict=True)))

    def begin(self, lazies: list[Lazy[Any]], keep: bool = False) -> list[Future[Any]]:
        """Sends it, to run in the order of the groups: futures of these."""
        return _core.run_in_order(self.client, lazies, self._order, keep)

    def fetched(self, futures: list[Future[Any]]) -> list[Any]:
        """The values of futures. If there is no such value, nothing of the graph runs on."""
        try:
            return self.client.gather(futures)
        except BaseException as error:
            self.client.cancel(futures, "another part of the graph has failed")
            if not isinstance(error, Exception):
                raise
            raise Failed(self.culprit(error), error) from None

    def culprit(self, error: BaseException) -> Key | None:
        """The task that raised an error, which is also noted there."""
        place = error.__dict__.pop(_run.FAILED, None)
        if place is None:
            return None
        group, step = place
        key: Key = self.written[group].keys[step]
        error.add_note(f"in Dask's task {key!r}")
        return key

    def by_asked(self, values: dict[Key, Any]) -> dict[Key, Any]:
        """What was asked for, with the data of the graph."""
        actual, nodes = self.graph.actual, self.graph.nodes
        found = {}
        for key in self.asked:
            task = actual(key)
            node = nodes[task]
            value = node.value if type(node) is DataNode else values[task]
            if type(value) is _core.Future and type(node) is DataNode:
                value = value.result()
            found[key] = value
        return found


def _executors(client: Client) -> int:
    """How many executors there may be."""
    return (os.cpu_count() or 1) if client.is_local else MANY


MANY = 64
"""Executors that a cluster of other machines is taken to have."""
