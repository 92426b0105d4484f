"""Many hands make light work: plain functions, over every core of a laptop or of a thousand
machines.

`Client` is a `concurrent.futures.Executor`; `task` makes functions compose into graphs.

>>> import manyhands as mh
>>> def square(x):
...     return x * x
>>> with mh.Client(workers=2) as executor:
...     print(list(executor.map(square, range(5))))
[0, 1, 4, 9, 16]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._client import Client, Explanation, Parts, View, client, current
from ._core import Future, Lazy, Options, __version__
from ._errors import (
    ConnectFailed,
    CycleError,
    DeadlinePassed,
    ExecutorDied,
    Infeasible,
    LostInput,
    ManyhandsError,
    MemoryLimit,
    NotPortable,
    ObjectUnreadable,
    Refused,
    RemoteError,
    RemoteTraceback,
    SessionClosed,
    StoreFull,
    TaskCancelled,
    TaskError,
    TimeLimit,
    WorkerLost,
)
from ._futures import AsCompleted, as_completed, gather, gather_async, wait
from ._progress import progress
from ._stream import Stream
from ._task import (
    Delayed,
    Graph,
    Task,
    compute,
    compute_async,
    delayed,
    persist,
    task,
    visualize,
)

if TYPE_CHECKING:
    from .pool import Pool

__all__ = [
    "AsCompleted",
    "Client",
    "ConnectFailed",
    "CycleError",
    "DeadlinePassed",
    "Delayed",
    "ExecutorDied",
    "Explanation",
    "Future",
    "Graph",
    "Infeasible",
    "Lazy",
    "LostInput",
    "ManyhandsError",
    "MemoryLimit",
    "NotPortable",
    "ObjectUnreadable",
    "Options",
    "Parts",
    "Pool",
    "Refused",
    "RemoteError",
    "RemoteTraceback",
    "SessionClosed",
    "StoreFull",
    "Stream",
    "Task",
    "TaskCancelled",
    "TaskError",
    "TimeLimit",
    "View",
    "WorkerLost",
    "__version__",
    "as_completed",
    "client",
    "compute",
    "compute_async",
    "current",
    "delayed",
    "gather",
    "gather_async",
    "persist",
    "progress",
    "put",
    "task",
    "visualize",
    "wait",
]


def put(value: Any) -> Future[Any]:
    """Puts a value into the cluster of the default client, once, to be an argument of many tasks.

    >>> numbers = put([1, 2, 3])
    >>> client.submit(sum, numbers).result()
    6
    """
    return client().put(value)


def __getattr__(name: str) -> Any:
    # What takes the place of other libraries is imported when it is asked for.
    if name == "Pool":
        from .pool import Pool

        return Pool
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
