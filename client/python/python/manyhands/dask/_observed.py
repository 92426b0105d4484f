"""Runs a graph with Dask's callbacks: progress bars, profilers, caches.

They are told of tasks as Dask's own schedulers tell them, with one difference: a task is announced
as begun when nothing hinders it from running, since when it does begin is known to its worker only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dask._task_spec import DataNode, convert_legacy_graph
from dask.callbacks import unpack_callbacks

from ._submit import Sending

if TYPE_CHECKING:
    from dask._task_spec import GraphNode

    from .._client import Client
    from .._core import Future, Options
    from ._groups import Group, Key

WORKER = "manyhands"
"""What callbacks are told as the worker of a task."""


def run(
    client: Client,
    nodes: dict[Key, GraphNode],
    asked: list[Key],
    options: Options | None,
    callbacks: Any,
) -> dict[Key, Any]:
    """As `Sending.values`."""
    started: list[Any] = []
    watched: _Watched | None = None
    succeeded = False
    try:
        for callback in callbacks:
            if callback[0]:
                callback[0](nodes)
            started.append(callback)
        # One that keeps results puts them into the graph.
        nodes = convert_legacy_graph(nodes)
        watched = _Watched(client, nodes, asked, options, callbacks)
        values = watched.values()
        succeeded = True
        return values
    finally:
        state = {} if watched is None else watched.state
        for callback in started:
            if callback[4]:
                callback[4](nodes, state, not succeeded)


class _Watched:
    """A graph whose tasks are watched."""

    def __init__(
        self,
        client: Client,
        nodes: dict[Key, GraphNode],
        asked: list[Key],
        options: Options | None,
        callbacks: Any,
    ) -> None:
        unpack: Any = unpack_callbacks
        _, start_state, self._before, self._after, _ = unpack(callbacks)
        every = bool(self._after)
        self._sending = Sending(client, nodes, asked, options, alone=every, marks=not every)
        self._nodes = nodes
        self.state = _state(self._sending)
        for tell in start_state:
            tell(nodes, self.state)

    def values(self) -> dict[Key, Any]:
        """Runs it."""
        sending, client = self._sending, self._sending.client
        tasks = sending.tasks()
        groups = sending.groups
        lazies = [sending.lazies[key] for key in tasks]
        ends = sending.marks or [sending.lazies[group.head] for group in groups]
        futures = sending.begin([*lazies, *ends])
        left = dict(zip(futures[len(lazies) :], groups, strict=True))
        self._announce()
        watch = client.watch()
        for future in left:
            watch.add(future)
        while left and (ended := watch.next(None)):
            for future in ended:
                self._on_end(future, left.pop(future))
            self._announce()
        values = sending.fetched(futures[: len(lazies)])
        return sending.by_asked(dict(zip(tasks, values, strict=True)))

    def _announce(self) -> None:
        """Tells of the tasks that can run now."""
        state = self.state
        for key in reversed(state["ready"]):
            state["running"].add(key)
            for tell in self._before:
                tell(key, self._nodes, state)
        state["ready"].clear()

    def _on_end(self, future: Future[Any], group: Group) -> None:
        (value,) = self._sending.fetched([future])
        for key in group.keys:
            self._pass(key)
            self._announce()
            if not self._after:
                continue
            self.state["cache"][key] = value
            for tell in self._after:
                tell(key, value, self._nodes, self.state, WORKER)
            self._release(key)

    def _pass(self, key: Key) -> None:
        state = self.state
        state["running"].discard(key)
        state["finished"].add(key)
        for user in state["dependents"][key]:
            waits = state["waiting"].get(user)
            if waits is not None:
                waits.discard(key)
                if not waits:
                    del state["waiting"][user]
                    state["ready"].append(user)

    def _release(self, key: Key) -> None:
        """Lets go of values that no other task needs."""
        state = self.state
        asked = set(self._sending.tasks())
        for need in state["dependencies"][key]:
            users = state["waiting_data"].get(need)
            if users is not None:
                users.discard(key)
                if not users and need not in asked:
                    state["released"].add(need)
                    state["cache"].pop(need, None)


def _state(sending: Sending) -> dict[str, Any]:
    """The state of Dask's own schedulers, which callbacks look at."""
    graph = sending.graph
    order = [key for group in sending.groups for key in group.keys]
    return {
        "dependencies": {key: set(needs) for key, needs in graph.needs.items()},
        "dependents": {key: set(users) for key, users in graph.users.items()},
        "waiting": {key: set(needs) for key, needs in graph.needs.items() if needs},
        "waiting_data": {key: set(users) for key, users in graph.users.items()},
        "cache": {k: node.value for k, node in graph.nodes.items() if type(node) is DataNode},
        "ready": [key for key in reversed(order) if not graph.needs[key]],
        "running": set(),
        "finished": set(),
        "released": set(),
    }
