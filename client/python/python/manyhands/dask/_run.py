"""What executors run for a Dask graph: a group of its tasks, as a list of steps.

A step is a call whose arguments are constants, results of earlier steps, results of other groups,
or entries of a table that all groups of a graph share. Dask's own nodes do not travel: reading and
running them takes several times as long as this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

FAILED = "_manyhands_dask_step"
"""The attribute by which an exception says which step it comes from: group and number."""


class Step(NamedTuple):
    """A call. On the way it is a plain tuple, which is read fastest."""

    function: Any
    """What is called, or its place in the table."""
    args: tuple[Any, ...]
    """The arguments, None where a value is to be filled in."""
    fill: tuple[int, ...] | None
    """Places among the arguments and the slots of their values, by turns."""
    names: tuple[str, ...] | None
    """The last arguments are these keyword arguments."""
    drop: tuple[int, ...] | None
    """Slots whose values nobody needs afterwards."""


class Work(NamedTuple):
    """A group of tasks. Slots at the front are the results of the steps, those from the end the
    values that come from outside."""

    number: int
    """Of the group, in its graph."""
    steps: tuple[tuple[Any, ...], ...]
    outside: tuple[int, ...] | None
    """By number: a place in the table, or -1 for the next input. None: all are inputs."""
    results: tuple[int, ...]
    """The slots that are the results of the task."""


class Program:
    """The table of a graph, as the function that runs its groups.

    Executors keep it while they run tasks of the graph.
    """

    travels_as_object = True

    def __init__(self, table: list[Any], name: str) -> None:
        self.table = table
        self.__qualname__ = name

    def __call__(self, work: tuple[Any, ...], /, *inputs: Any) -> Any:
        group, steps, outside, results = work
        slots = _slots(len(steps), outside, inputs, self.table)
        del inputs
        number = 0
        try:
            for function, args, fill, names, drop in steps:
                slots[number] = _call(
                    self.table[function] if type(function) is int else function,
                    args if fill is None else _filled(args, fill, slots),
                    names,
                )
                number += 1
                for slot in drop or ():
                    slots[slot] = None
        except BaseException as error:
            error.__dict__[FAILED] = (group, number)
            raise
        if len(results) == 1:
            return slots[results[0]]
        return tuple([slots[slot] for slot in results])


def _slots(
    steps: int, outside: tuple[int, ...] | None, inputs: tuple[Any, ...], table: list[Any]
) -> list[Any]:
    if outside is None:
        return [None] * steps + [*inputs[::-1]]
    left = iter(inputs)
    values = [next(left) if place < 0 else table[place] for place in outside]
    return [None] * steps + values[::-1]


def _filled(args: tuple[Any, ...], fill: tuple[int, ...], slots: list[Any]) -> list[Any]:
    filled = list(args)
    places = iter(fill)
    for place, slot in zip(places, places, strict=True):
        filled[place] = slots[slot]
    return filled


def _call(function: Callable[..., Any], args: Any, names: tuple[str, ...] | None) -> Any:
    if names is None:
        return function(*args)
    first = len(args) - len(names)
    return function(*args[:first], **dict(zip(names, args[first:], strict=True)))


# What steps call for the nested parts of Dask's tasks.


def as_is(value: Any) -> Any:
    """A value that is a step of its own."""
    return value


def make_list(*items: Any) -> list[Any]:
    """A list of values."""
    return list(items)


def make_tuple(*items: Any) -> tuple[Any, ...]:
    """A tuple of values."""
    return items


def make_set(*items: Any) -> set[Any]:
    """A set of values."""
    return set(items)


def make_dict(*items: Any) -> dict[Any, Any]:
    """A dict of keys and values by turns."""
    left = iter(items)
    return dict(zip(left, left, strict=True))


def call_node(node: Any, keys: tuple[Any, ...], *values: Any) -> Any:
    """A node of a class that is not Dask's own runs itself."""
    return node(dict(zip(keys, values, strict=True)))
