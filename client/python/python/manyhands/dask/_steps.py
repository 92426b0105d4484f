"""Dask's tasks as steps (`_run`): what is sent to the cluster for a graph.

Constants and functions that a second task uses as well go into the table of the graph, which
executors read once. Large ones are inputs, put into the cluster once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

from dask._task_spec import (
    Alias,
    DataNode,
    Dict,
    GraphNode,
    List,
    Set,
    Task,
    TaskRef,
    Tuple,
    _execute_subgraph,
)
from dask.sizeof import sizeof

from .._core import Future
from . import _run
from ._groups import Group, Key, Needed

LARGE = 32 << 10
"""Bytes of a constant that is an input of its own."""

SHORT = 64
"""Characters of a text that is written wherever it is used."""

_SMALL = frozenset([type(None), bool, int, float, complex, slice, type, type(Ellipsis)])
"""Constants that are written wherever they are used."""

_MAKERS: dict[type, Callable[..., Any]] = {
    List: _run.make_list,
    Tuple: _run.make_tuple,
    Set: _run.make_set,
    Dict: _run.make_dict,
}

Scope = dict[Key, "int | tuple[Any]"]
"""Where a task finds what it refers to: a slot, or a constant."""


def _nbytes(value: Any) -> int:
    size = getattr(value, "nbytes", 0)
    return size if type(size) is int else 0


class Table:
    """What several tasks of a graph use."""

    def __init__(self) -> None:
        self.entries: list[Any] = []
        self._places: dict[int, int] = {}
        self._seen: dict[int, Any] = {}

    def is_new(self, thing: Any) -> bool:
        """Whether it was not asked for before: most things are needed once."""
        if id(thing) in self._seen:
            return False
        # It is kept, so that nothing else gets its identity.
        self._seen[id(thing)] = thing
        return True

    def has(self, thing: Any) -> bool:
        """Whether it is in the table."""
        return id(thing) in self._places

    def place(self, thing: Any) -> int:
        """Where it is in the table, into which it comes now if it is not there."""
        found = self._places.get(id(thing))
        if found is None:
            found = self._places[id(thing)] = len(self.entries)
            self.entries.append(thing)
        return found


class Writer:
    """Writes the groups of a graph, one after the other."""

    def __init__(self, graph: Needed, put: Callable[[Any], Any]) -> None:
        self.graph = graph
        self.table = Table()
        self._put = put
        self._large: dict[int, tuple[Any, Any]] = {}
        """By identity: a large constant, and how it is passed."""

    def write(self, number: int, group: Group, mark: bool = False) -> Written:
        """A group as what is sent for it. With a `mark` it has a further result, which is None."""
        return Written(self, number, group, mark)

    def is_large(self, value: Any) -> bool:
        """Whether a constant that is used again is to be an input of its own."""
        if isinstance(value, Future) or id(value) in self._large:
            return True
        return not self.table.has(value) and sizeof(value) >= LARGE

    def passed(self, value: Any) -> Any:
        """A large constant as an argument. What can be watched is put once for all graphs that use
        it, while it lives; the rest once for this one."""
        if isinstance(value, Future):
            return value
        found = self._large.get(id(value))
        if found is None:
            watched = getattr(type(value), "__weakrefoffset__", 0) > 0
            found = self._large[id(value)] = (value, value if watched else self._put(value))
        return found[1]


class Written:
    """A group as steps."""

    def __init__(self, writer: Writer, number: int, group: Group, mark: bool) -> None:
        self.number = number
        self.group = group
        self.inputs: list[Key | Passed] = []
        """What it gets from outside: the results of other tasks by their keys, and constants."""
        self.keys: list[Key] = []
        """By step: the task that it belongs to."""
        self._writer = writer
        self._steps: list[list[Any]] = []
        self._outside: list[int] = []
        self._slots: Scope = {}
        self._key: Key = None
        nodes = writer.graph.nodes
        for key in group.keys:
            self._key = key
            self._slots[key] = self._slot(self._operand(nodes[key], None))
        results = [self._slots[key] for key in group.results]
        self._results = (*results, self._slot((None,))) if mark else tuple(results)

    def work(self) -> tuple[Any, ...]:
        """What executors get, as `_run.Work`."""
        needed = set(self._results)
        for step in reversed(self._steps):
            fill = step[2]
            if fill:
                drop = {slot for slot in fill[1::2] if slot >= 0} - needed
                if drop:
                    needed |= drop
                    step[4] = tuple(drop)
        outside = self._outside
        plain = all(place < 0 for place in outside)
        steps = tuple(map(tuple, self._steps))
        return (self.number, steps, None if plain else tuple(outside), self._results)

    # Operands: a slot as a number, or a constant in a tuple.

    def _operand(self, node: Any, scope: Scope | None) -> int | tuple[Any]:
        kind = type(node)
        if kind is TaskRef:
            return self._found(node.key, scope)
        if kind is Alias:
            return self._found(node.target, scope)
        if kind is Task:
            if node.func is _execute_subgraph and not node.kwargs:
                return self._subgraph(node.args, scope)
            return self._call(node.func, node.args, node.kwargs, scope)
        if kind is DataNode:
            return self._constant(node.value)
        if kind in _MAKERS:
            return self._call(_MAKERS[kind], node.args, None, scope)
        if isinstance(node, GraphNode):
            keys = tuple(node.dependencies)
            refs = tuple([TaskRef(key) for key in keys])
            return self._call(functools.partial(_run.call_node, node, keys), refs, None, scope)
        if isinstance(node, TaskRef):
            return self._found(node.key, scope)
        return self._constant(node)

    def _found(self, key: Key, scope: Scope | None) -> int | tuple[Any]:
        if scope is not None:
            return scope[key]
        graph = self._writer.graph
        key = graph.actual(key)
        found = self._slots.get(key)
        if found is None:
            node = graph.nodes[key]
            found = self._constant(node.value) if type(node) is DataNode else self._input(key)
            self._slots[key] = found
        return found

    def _call(
        self, function: Any, args: Iterable[Any], kwargs: dict[str, Any] | None, scope: Scope | None
    ) -> int:
        filled = [*args, *kwargs.values()] if kwargs else list(args)
        fill: list[int] = []
        for place, arg in enumerate(filled):
            if type(arg) in _SMALL:
                continue
            operand = self._operand(arg, scope)
            if isinstance(operand, tuple):
                filled[place] = operand[0]
            else:
                fill += (place, operand)
                filled[place] = None
        table = self._writer.table
        self._steps.append(
            [
                function if table.is_new(function) else table.place(function),
                tuple(filled),
                tuple(fill) if fill else None,
                tuple(kwargs) if kwargs else None,
                None,
            ]
        )
        self.keys.append(self._key)
        return len(self._steps) - 1

    def _subgraph(self, args: tuple[Any, ...], scope: Scope | None) -> int | tuple[Any]:
        """A task that Dask has fused, as the tasks that it consists of."""
        inner, out, names, *values = args
        own: Scope = {}
        for name, value in zip(names, values, strict=True):
            own[name] = self._operand(value, scope)
        stack = [out]
        while stack:
            key = stack[-1]
            if key in own:
                stack.pop()
                continue
            node = inner[key]
            left = [need for need in node.dependencies if need not in own]
            if left:
                stack += left
                continue
            own[key] = self._operand(node, own)
            stack.pop()
        return own[out]

    def _slot(self, operand: int | tuple[Any]) -> int:
        """A constant becomes a step."""
        if isinstance(operand, tuple):
            return self._call(_run.as_is, operand, None, {})
        return operand

    # Constants, and what comes from outside.

    def _constant(self, value: Any) -> int | tuple[Any]:
        kind = type(value)
        if kind in _SMALL:
            return (value,)
        if kind in (str, bytes) and len(value) < SHORT:
            return (value,)
        if kind is Future or _nbytes(value) >= LARGE:
            return self._pass_in(value)
        if self._writer.table.is_new(value):
            return (value,)
        if self._writer.is_large(value):
            return self._pass_in(value)
        return self._from_outside(self._writer.table.place(value))

    def _input(self, key: Key) -> int:
        self.inputs.append(key)
        return self._from_outside(-1)

    def _pass_in(self, value: Any) -> int:
        self.inputs.append(Passed(self._writer.passed(value)))
        return self._from_outside(-1)

    def _from_outside(self, place: int) -> int:
        self._outside.append(place)
        return -len(self._outside)


class Passed:
    """An input that is not another task's result."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value
