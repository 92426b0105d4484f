"""A scheduler for Dask: its collections, and what is built on them, run on manyhands.

>>> import dask.array
>>> import manyhands.dask
>>> ones = dask.array.ones((100, 100), chunks=(50, 50))
>>> with dask.config.set(scheduler="manyhands"):
...     float(ones.sum().compute())
10000.0

``"manyhands"`` is known to Dask from the import of this module on, and stands for the default
client (`manyhands.client`). `Scheduler` is one that is bound to a client.

Intermediate results stay in the cluster, and go when nobody needs them any more. Those of
`dask.persist` stay there as well, and it returns at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask.base
from dask import config
from dask.callbacks import local_callbacks

from .. import _client, _options
from . import _groups, _observed
from ._submit import Failed, Sending

if TYPE_CHECKING:
    from dask._task_spec import GraphNode

    from .._client import Client
    from .._core import Options
    from ._groups import Key

__all__ = ["Scheduler", "get", "persist"]

_OPTIONS = ("retries", "crash_retries", "time_limit", "deadline", "priority", "memory", "resources")


def get(
    dsk: Any,
    keys: Any,
    *,
    client: Client | None = None,
    callbacks: Any = None,
    rerun_exceptions_locally: bool | None = None,
    **kwargs: Any,
) -> Any:
    """Runs the part of a graph that these keys need, and returns their values: of a list a tuple,
    nested as the lists are.

    :param client: whose cluster; the default one if None.
    :param callbacks: Dask's callbacks, in place of those that are active. If one of them wants to
        see results (``posttask``), all are fetched, and the graph runs task by task.
    :param rerun_exceptions_locally: let a task that raised run again in this process, where a
        debugger can be.
    :param kwargs: options of all tasks (`manyhands.Client.options`): ``retries``, ``priority`` and
        so on. What other schedulers take, such as ``num_workers``, changes nothing here.

    >>> get({"x": 1, "y": (abs, -2), "z": (sum, ["x", "y"])}, ["x", ["z"]])
    (1, (3,))
    """
    nodes = _groups.as_dict(dsk)
    asked = _asked(keys)
    client = _client.client() if client is None else client
    options = _options_of(kwargs)
    try:
        with local_callbacks(callbacks) as active:
            if active:
                values = _observed.run(client, nodes, asked, options, active)
            else:
                values = Sending(client, nodes, asked, options).values()
        return _nested(keys, values)
    except Failed as caught:
        failed = caught
    if rerun_exceptions_locally is None:
        rerun_exceptions_locally = config.get("rerun_exceptions_locally", False)
    if rerun_exceptions_locally and failed.key is not None:
        _run_here(client, nodes, failed.key)
    raise failed.error


def persist(
    collections: Any, *, client: Client | None = None, optimize_graph: bool = True, **kwargs: Any
) -> list[Any]:
    """Begins to compute collections and returns the same ones, whose graphs hold futures of the
    results. Called by `dask.persist`. Only this scheduler can go on with what it returns.
    """

    def keep(dsk: Any, keys: Any, **kwargs: Any) -> Any:
        on = _client.client() if client is None else client
        futures = Sending(on, _groups.as_dict(dsk), _asked(keys), _options_of(kwargs)).futures()
        return _nested(keys, futures)

    how = {"traverse": False, "optimize_graph": optimize_graph, "scheduler": keep}
    go: Any = dask.base.persist
    return list(go(*collections, **how, **kwargs))


class Scheduler:
    """Dask's scheduler on the cluster of one client: ``x.compute(scheduler=Scheduler(client))``.

    >>> dask.array.arange(8, chunks=4).sum().compute(scheduler=Scheduler(client))
    np.int64(28)
    """

    def __init__(self, client: Client) -> None:
        self.client = client

    def __call__(self, dsk: Any, keys: Any, **kwargs: Any) -> Any:
        return get(dsk, keys, client=self.client, **kwargs)

    def persist(self, collections: Any, **kwargs: Any) -> list[Any]:
        """As `persist`."""
        return persist(collections, client=self.client, **kwargs)


def _options_of(kwargs: dict[str, Any]) -> Options | None:
    asked: Any = {name: kwargs[name] for name in _OPTIONS if kwargs.get(name)}
    return _options.made(asked)


def _asked(keys: Any) -> list[Key]:
    if not isinstance(keys, list):
        return [keys]
    return [key for inner in keys for key in _asked(inner)]


def _nested(keys: Any, values: dict[Key, Any]) -> Any:
    if not isinstance(keys, list):
        return values[keys]
    return tuple([_nested(inner, values) for inner in keys])


def _run_here(client: Client, nodes: dict[Key, GraphNode], key: Key) -> None:
    """Runs one task in this process. It is expected to raise."""
    needs = list(nodes[key].dependencies)
    values = Sending(client, nodes, needs, None).values()
    nodes[key](values)


# `dask.persist` looks for it there.
get.persist = persist  # type: ignore[attr-defined]
dask.base.named_schedulers["manyhands"] = get
