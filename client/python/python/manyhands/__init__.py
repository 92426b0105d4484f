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

if TYPE_CHECKING:
    from ._client import Client, Explanation, Parts, View, client, current, put
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
    from ._futures import AsCompleted, DoneAndNotDone, as_completed, gather, gather_async, wait
    from ._map import Results
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
    from .pool import Pool

__all__ = [
    "AsCompleted",
    "Client",
    "ConnectFailed",
    "CycleError",
    "DeadlinePassed",
    "Delayed",
    "DoneAndNotDone",
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
    "Results",
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


_PLACES = {
    "_client": ("Client", "Explanation", "Parts", "View", "client", "current", "put"),
    "_core": ("Future", "Lazy", "Options", "__version__"),
    "_futures": (
        *("AsCompleted", "DoneAndNotDone", "as_completed", "gather", "gather_async", "wait"),
    ),
    "_map": ("Results",),
    "_progress": ("progress",),
    "_stream": ("Stream",),
    "_task": (
        *("Delayed", "Graph", "Task", "compute", "compute_async", "delayed", "persist", "task"),
        "visualize",
    ),
    "pool": ("Pool",),
}


def __getattr__(name: str) -> Any:
    """What is asked for is imported then: executors need little of it."""
    import importlib

    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    places = [place for place, names in _PLACES.items() if name in names]
    found = getattr(importlib.import_module(f".{(places or ['_errors'])[0]}", __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
