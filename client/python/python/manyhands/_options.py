"""What can be asked of a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from . import _core

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

__all__ = ["Asked", "changed", "made", "outputs"]


class Asked(TypedDict, total=False):
    """The options of `Client.options` and `task`."""

    retries: int
    """How often a task runs again after it raised (0)."""
    crash_retries: int
    """How often it runs again after its executor or machine died (2)."""
    time_limit: float
    """Seconds that one attempt may take."""
    deadline: float | datetime
    """When the task must have ended: seconds since 1970 (``time.time() + 60``), or a `datetime`."""
    priority: int
    """Larger runs earlier, within the job (0)."""
    cores: float
    """What it occupies while it runs (1.0)."""
    memory: int
    """Bytes of memory that it occupies."""
    resources: Mapping[str, float]
    """What else it occupies, by the names that workers were given."""
    labels: Mapping[str, str]
    """Labels that its worker must carry; ``worker`` and ``host`` are always there."""
    memory_limit: int
    """Bytes that its executor may own before it is stopped."""


def made(asked: Asked) -> _core.Options | None:
    """Options as the native module takes them; None if nothing is asked for."""
    return _core.Options(**asked) if asked else None


def changed(options: _core.Options | None, asked: Asked) -> _core.Options | None:
    """Options of which some are others."""
    if options is None or not asked:
        return options or made(asked)
    return options.replace(**asked)


def outputs(nout: int | None) -> int | None:
    """How many values a function returns, if it is said at all."""
    if nout is not None and nout < 1:
        raise ValueError(f"nout must be at least 1, and not {nout}")
    return nout
