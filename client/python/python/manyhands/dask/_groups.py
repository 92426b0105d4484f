"""What part of a Dask graph is run, and which of its tasks run together.

Tasks of a chain, whose results nobody else wants, are one group: it runs in one place and nothing
between them is stored. So are a task and those that take its result apart, and tasks that are made
from the same things, which nobody else needs. A group is one task of manyhands.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dask._task_spec import Alias, DataNode, GraphNode, Task, convert_legacy_graph
from dask.order import order
from dask.utils import ensure_dict

Key = Any

CHAIN_LIMIT = 64
"""Tasks of a chain that run as one: more would be lost with an executor."""

SHARED_LIMIT = 8
"""Tasks that share what they are made from, and run as one: more would leave executors idle."""

PER_EXECUTOR = 16
"""Groups of such tasks that there have to be for each executor."""

PARTS_LIMIT = 4096
"""Results of a group."""

_NONE: frozenset[Key] = frozenset()


def as_dict(graph: Any) -> dict[Key, GraphNode]:
    """A graph of any kind, with its tasks as Dask's nodes."""
    if not isinstance(graph, Mapping):
        graph = graph.__dask_graph__()
    nodes: dict[Key, GraphNode] = convert_legacy_graph(ensure_dict(graph))
    return nodes


class Needed:
    """The part of a graph that some keys need, without aliases and data."""

    def __init__(self, nodes: dict[Key, GraphNode], keys: Iterable[Key]) -> None:
        self.nodes = nodes
        self.needs: dict[Key, frozenset[Key]] = {}
        """By task: the tasks whose results it takes."""
        self.users: dict[Key, list[Key]] = {}
        """By task: the tasks that take its result."""
        self._actual: dict[Key, Key] = {}
        self._walk(keys)

    def actual(self, key: Key) -> Key:
        """The key of what a key stands for: not that of an alias."""
        node = self.nodes.get(key)
        if type(node) is not Alias:
            if node is None:
                raise KeyError(key)
            return key
        found = self._actual.get(key)
        if found is None:
            found = self._actual[key] = self._followed(key)
        return found

    def _followed(self, key: Key) -> Key:
        seen = set()
        while type(node := self.nodes.get(key)) is Alias:
            if key in seen:
                raise RuntimeError(f"Cycle detected: {key!r} is an alias of itself")
            seen.add(key)
            key = node.target
        if node is None:
            raise KeyError(key)
        return key

    def _walk(self, keys: Iterable[Key]) -> None:
        nodes, needs, users, actual = self.nodes, self.needs, self.users, self.actual
        stack = [actual(key) for key in keys]
        while stack:
            key = stack.pop()
            if key in needs:
                continue
            node = nodes[key]
            if type(node) is DataNode:
                continue
            own = node.dependencies
            if own:
                try:
                    own = frozenset([actual(d) for d in own])
                except KeyError as error:
                    raise ValueError(f"Missing dependency {error} of {key!r}") from None
                data = [d for d in own if type(nodes[d]) is DataNode]
                own = own.difference(data) if data else own
            needs[key] = own
            users.setdefault(key, [])
            for need in own:
                users.setdefault(need, []).append(key)
            stack.extend(own)


class Group:
    """Tasks that run one after the other as one."""

    __slots__ = ("head", "keys", "results")

    def __init__(self, keys: list[Key]) -> None:
        self.head = keys[0]
        self.keys = keys
        """In an order in which they can run."""
        self.results: list[Key] = []
        """Those of the keys whose values are wanted elsewhere."""


def together(graph: Needed, asked: set[Key], executors: int) -> list[Group]:
    """All tasks in groups, in the order of the graph. So many executors are to be kept busy."""
    chains = _Chains(graph, asked)
    groups: list[Group] = []
    member: dict[Key, Group] = {}
    for keys in chains.all(least_shared=executors * PER_EXECUTOR):
        group = Group(keys)
        groups.append(group)
        member.update(dict.fromkeys(keys, group))
    if len(member) != len(graph.needs):
        left = [key for key in graph.needs if key not in member]
        raise RuntimeError(f"Cycle detected between these keys: {left[:8]}")
    users = graph.users
    for group in groups:
        group.results = [
            key
            for key in group.keys
            if key in asked or any(member[user] is not group for user in users[key])
        ]
    return _ordered(graph, groups, member)


def alone(graph: Needed) -> list[Group]:
    """All tasks, each one a group, in the order of the graph."""
    groups = {key: Group([key]) for key in graph.needs}
    for key, group in groups.items():
        group.results = [key]
    return _ordered(graph, list(groups.values()), groups)


class _Chains:
    """Which tasks are one behind the other."""

    def __init__(self, graph: Needed, asked: set[Key]) -> None:
        self.graph = graph
        self.asked = asked
        self.parts: set[Key] = set()
        """Tasks that take an item of a result, where all its users do."""
        for key, users in graph.users.items():
            if 1 < len(users) < PARTS_LIMIT and key not in asked and all(map(self._takes, users)):
                self.parts.update(users)

    def _takes(self, key: Key) -> bool:
        node = self.graph.nodes[key]
        return (
            type(node) is Task and node.func is operator.getitem and len(self.graph.needs[key]) == 1
        )

    def all(self, least_shared: int) -> Iterator[list[Key]]:
        """The tasks, each in one list. Those that share what they are made from are put together if
        there are so many sets of them: enough is left to run at the same time."""
        shared = list(self._shared())
        if len(shared) < least_shared:
            shared = []
        done: set[Key] = set()
        for makers, takers in shared:
            keys = list(makers)
            for taker in takers:
                first, *further = self._from(taker)
                keys += first
                yield from further
            done.update(makers, takers)
            yield keys
        for key in self.graph.needs:
            if key not in done and not self._follows(key):
                yield from self._from(key)

    def _shared(self) -> Iterator[tuple[frozenset[Key], list[Key]]]:
        """Tasks that need nothing, and those which need just them, all of them."""
        needs, users = self.graph.needs, self.graph.users
        seen: set[Key] = set()
        for key, own in needs.items():
            if own or key in seen or key in self.asked:
                continue
            takers = users[key]
            makers = needs[takers[0]]
            if len(makers) < 2 or len(makers) + len(takers) > SHARED_LIMIT:
                continue
            every = set(takers)
            if all(needs[taker] == makers for taker in takers) and all(
                not needs[maker] and maker not in self.asked and set(users[maker]) == every
                for maker in makers
            ):
                seen |= makers
                yield makers, takers

    def _follows(self, key: Key) -> bool:
        """Whether the task runs right behind one that it takes the result of."""
        needs = self.graph.needs[key]
        if len(needs) != 1:
            return False
        (before,) = needs
        if before in self.asked or before in self.parts:
            return False
        return key in self.parts or len(self.graph.users[before]) == 1

    def _from(self, key: Key) -> Iterator[list[Key]]:
        """The chain that begins here, in pieces. What is taken apart ends it."""
        keys = [key]
        while users := self.graph.users[key]:
            if not self._follows(users[0]):
                break
            if len(users) > 1:
                keys += users
                break
            if len(keys) == CHAIN_LIMIT:
                yield keys
                keys = []
            key = users[0]
            keys.append(key)
        yield keys


class _Place(GraphNode):
    """A group as Dask's order sees it."""

    __slots__ = ()

    def __init__(self, key: Key, dependencies: frozenset[Key]) -> None:
        self.key = key
        self._dependencies = dependencies


def _ordered(graph: Needed, groups: list[Group], member: Mapping[Key, Group]) -> list[Group]:
    places: dict[Key, _Place] = {}
    for group in groups:
        first = graph.needs[group.head]
        places[group.head] = _Place(
            group.head, frozenset([member[need].head for need in first]) if first else _NONE
        )
    rank = order(places)
    return sorted(groups, key=lambda group: rank[group.head])
