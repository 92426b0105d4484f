"""Functions of a pool as they travel, and the state that a pool's initializer leaves behind.

A pool's initializer sets up each executor before its first task of that pool, mostly by assigning
to globals that the pool's functions then use. Functions of `__main__` travel by value, and two that
are pickled apart from each other would not share their globals: the initializer would fill a
namespace that nobody reads. So all functions of a pool with an initializer share, within an
executor, one namespace for each module that travels by value. The first value of a global counts
there, as it counts in a process that was forked when the pool was made.
"""

from __future__ import annotations

import io
import multiprocessing.process
import os
import pickle
import sys
import weakref
from collections import OrderedDict
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType
from typing import TYPE_CHECKING, Any

from . import _core, _functions, _shared
from ._shapes import SHAPES

if TYPE_CHECKING:
    from ._core import Client

STATES = 16
"""Pools of which an executor remembers the namespaces and whether their initializer has run. One
that was forgotten is set up again."""

Parts = list[Any]
"""A pickle and the buffers that lie beside it."""

Limit = tuple[bytes, int]
"""The mark of a pool, and how many of its tasks an executor runs before another takes its place."""


class Initializer:
    """The initializer of a pool and its arguments, and the pool's mark on what it sends."""

    def __init__(
        self, call: Callable[..., object], arguments: tuple[Any, ...], client: Client
    ) -> None:
        self.token = os.urandom(16)
        # Locks and shared memory last as long as who has made them keeps them.
        self._kept = arguments
        buffers: list[pickle.PickleBuffer] = []
        with _shared.passed_on(local=client.is_local):
            body = _pickled((call, arguments), self.token, buffers.append)
        # Large arguments lie in the object store, and each executor maps them there.
        is_large = (
            len(body) + sum(buffer.raw().nbytes for buffer in buffers) > _functions.CODE_LIMIT
        )
        self.placed = (client.put([body, *buffers]),) if is_large else ()
        """What every call of the pool has as its first argument."""
        parts = None if is_large else [body, *(buffer.raw().tobytes() for buffer in buffers)]
        # What an initializer that is found by name sets is seen by all pools of its executor.
        self.setup = (self.token, parts, _functions.reference_of(call) is not None)


class Call:
    """A function as the tasks of a pool call it. It is pickled here and now, once."""

    def __init__(
        self,
        function: Callable[..., Any],
        shape: int,
        setup: Initializer | None,
        *,
        local: bool,
        limit: Limit | None = None,
    ) -> None:
        self.__name__ = self.__qualname__ = _functions.display_name(function)
        try:
            with _shared.passed_on(local=local):
                self._function = _pickled(function, None if setup is None else setup.token)
        except (TypeError, pickle.PicklingError) as error:
            from ._codec import explain

            raise explain(f"function {self.__name__}", function, error) from error
        self._shape = shape
        self._limit = limit
        self._setup = None if setup is None else setup.setup
        # Proxies of a `multiprocessing.Manager` of this machine ask for it when they are unpickled.
        self._authkey = bytes(multiprocessing.process.current_process().authkey) if local else b""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("this is the function of a pool; only executors call it")

    def __reduce__(self) -> tuple[Any, ...]:
        return arrived, (self._function, self._shape, self._setup, self._authkey, self._limit)


class Calls:
    """Functions as they travel for this pool. A function is pickled once for each pool, if it is
    one whose state nobody changes in between."""

    LIMIT = 256

    def __init__(self, setup: Initializer | None, *, local: bool, tasks: int | None = None) -> None:
        self._setup = setup
        self._local = local
        self._limit = None if tasks is None else (os.urandom(16), tasks)
        self._known: dict[tuple[int, int], tuple[weakref.ref[Any], Call]] = {}

    def of(self, function: Callable[..., Any], shape: int) -> Call:
        if not callable(function):
            raise TypeError(f"{function!r} is not callable")
        key = (id(function), shape)
        known = self._known.get(key)
        if known is not None and known[0]() is function:
            return known[1]
        call = Call(function, shape, self._setup, local=self._local, limit=self._limit)
        if isinstance(function, (FunctionType, BuiltinFunctionType, type)):
            if len(self._known) >= self.LIMIT:
                self._known.pop(next(iter(self._known)))
            self._known[key] = weakref.ref(function), call
        return call


# What runs in executors.


class _State:
    """What an executor knows of a pool."""

    def __init__(self, parts: Parts | None, is_shared: bool) -> None:
        self.namespaces: dict[str, dict[str, Any]] = {}
        self._parts = parts
        self._is_shared = is_shared
        self._is_ready = False

    def prepare(self, placed: Parts | None) -> None:
        """Runs the initializer, if it has not run, or if what it set may have been set anew by
        another pool's. Raises what it raises, each time."""
        global _last
        if self._is_ready and (_last is self or not self._is_shared):
            return
        body, *buffers = self._parts or placed or [b""]
        call, arguments = pickle.loads(body, buffers=buffers)
        call(*arguments)
        self._is_ready, _last = True, self
        if not self._is_shared:
            self._parts = None


_states: OrderedDict[bytes, _State] = OrderedDict()
_last: _State | None = None
"""The pool whose initializer ran last in this executor."""


def arrived(
    body: bytes,
    shape: int,
    setup: tuple[bytes, Parts | None, bool] | None,
    authkey: bytes,
    limit: Limit | None,
) -> Callable[..., Any]:
    """A `Call` when it is unpickled: a function that does what is to be done."""
    if authkey:
        process = multiprocessing.process.current_process()
        process.authkey = authkey  # Kept as what can only be pickled while a process is spawned.
    state = None if setup is None else _state(*setup)
    ready = SHAPES[shape](pickle.loads(body))
    if state is not None:
        ready = _prepared(ready, state, is_placed=setup is not None and setup[1] is None)
    return ready if limit is None else _counted(ready, *limit)


def _prepared(ready: Callable[..., Any], state: _State, *, is_placed: bool) -> Callable[..., Any]:
    def prepared(*args: Any, **kwargs: Any) -> Any:
        state.prepare(args[0] if is_placed else None)
        return ready(*args[is_placed:], **kwargs)

    return prepared


_ran: dict[bytes, int] = {}
"""How many tasks of pools with a limit this executor has run; of the pool that ran last at the
end."""


def _counted(ready: Callable[..., Any], token: bytes, limit: int) -> Callable[..., Any]:
    def counted(*args: Any, **kwargs: Any) -> Any:
        try:
            return ready(*args, **kwargs)
        finally:
            _ran[token] = _ran.pop(token, 0) + 1
            if _ran[token] >= limit:
                _core._retire()
            if len(_ran) > STATES:
                del _ran[next(iter(_ran))]

    return counted


def _state(token: bytes, parts: Parts | None, is_shared: bool) -> _State:
    state = _states.get(token)
    if state is None:
        state = _states[token] = _State(parts, is_shared)
    _states.move_to_end(token)
    while len(_states) > STATES:
        _states.popitem(last=False)
    return state


# How functions of one pool come to share their globals.


def _pickled(
    value: object,
    token: bytes | None,
    beside: Callable[[pickle.PickleBuffer], object] | None = None,
) -> bytes:
    """Pickled by reference where possible, else by value; with a token, so that functions share the
    namespaces of that pool."""
    with io.BytesIO() as file:
        pickler(file, token, beside).dump(value)
        return file.getvalue()


def pickler(
    file: io.BytesIO,
    token: bytes | None,
    beside: Callable[[pickle.PickleBuffer], object] | None = None,
) -> Any:
    """A cloudpickle pickler whose functions share the namespaces of a pool."""
    from ._codec import Full

    base: Any = _shared.adapted(Full)
    if token is None:
        return base(file, protocol=5, buffer_callback=beside)

    mark = token

    class Pickler(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(file, protocol=5, buffer_callback=beside)
            self.globals_ref = _Namespaces(mark)

        def reducer_override(self, value: object) -> Any:
            reduced = super().reducer_override(value)
            if isinstance(value, FunctionType) and isinstance(reduced, tuple) and len(reduced) == 6:
                return (*reduced[:5], set_function_state)
            return reduced

    return Pickler()


class _Namespaces(dict[int, Any]):
    """cloudpickle's table of the globals of functions, by their ids: those of modules become the
    namespaces of a pool, others are as they are with cloudpickle."""

    def __init__(self, token: bytes) -> None:
        self._token = token

    def setdefault(self, key: int, default: Any = None) -> Any:
        if key not in self:
            named = [name for name, m in list(sys.modules.items()) if id(vars(m)) == key]
            self[key] = _Namespace(self._token, named[0]) if named else default
        return self[key]


class _Namespace(dict[str, Any]):
    """Stands for a module's globals until it is unpickled. cloudpickle adds the module's name."""

    def __init__(self, token: bytes, module: str) -> None:
        self._of = (token, module)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return namespace, (*self._of, dict(self))


def namespace(token: bytes, module: str, names: dict[str, Any]) -> dict[str, Any]:
    """The globals of a module within a pool, in this executor."""
    state = _states.get(token)
    known: dict[str, Any] = {} if state is None else state.namespaces.setdefault(module, {})
    for name, value in names.items():
        known.setdefault(name, value)
    return known


def set_function_state(function: FunctionType, state: tuple[Any, dict[str, Any]]) -> None:
    """As cloudpickle's, but globals that are there already stay as they are."""
    attributes, slots = state
    known = function.__globals__
    slots["__globals__"] = {k: v for k, v in slots["__globals__"].items() if k not in known}
    _functions.cloudpickle().cloudpickle._function_setstate(function, (attributes, slots))
