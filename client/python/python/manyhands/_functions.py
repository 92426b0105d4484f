"""How functions travel: by reference where the executor can import them, by value elsewhere.

By reference means ``module:qualname``. By value means the bytes of cloudpickle: for functions of
``__main__``, closures and lambdas, and, on a cluster of other machines, for functions of modules
that only this program has (neither the standard library's nor in a ``site-packages`` directory, nor
in the client's ``py_modules``).

A function is pickled when it is first submitted: what it closes over is taken as it was then.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
import weakref
from collections.abc import Callable, Iterable
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from ._code import BY_REFERENCE, BY_VALUE, PICKLED, PYTHON, is_stream, refuse_coroutine

ORDINARY, STREAM = 0, 1
"""What a call of the function gives: a value, or items one after the other."""

CODE_LIMIT = 64 << 10
"""Bytes of a function's code at most; more than that travels as an object."""

CLOSURE_LIMIT = 100
"""Functions of one code object that are made known to the cluster; further ones travel as objects,
so that a lambda in a loop does not grow its tables."""

_CALL = "manyhands._run:call"

_remote = False
"""Whether this program uses a cluster of other machines, which do not have its own modules."""
_paths: frozenset[str] | None = None
"""The part of `sys.path` that every local cluster of this program knows; None before the first."""
_archived: frozenset[str] = frozenset()
"""Top-level modules that travel as `py_modules`."""
_by_value: dict[str, bool] = {}
_closures: weakref.WeakKeyDictionary[CodeType, int] = weakref.WeakKeyDictionary()

Description = tuple[str, bytes, int, "bytes | None"]


def describe(function: Callable[..., Any], remote: bool | None = None) -> Description:
    """What the cluster needs to know of a function: its name, its code, whether it is a generator
    function, and its pickle if that travels as an object (the code is then that of a function which
    takes it as its first argument). Called by the native module, once for each function.

    >>> import math
    >>> name, code, kind, body = describe(math.sqrt)
    >>> name, b"math:sqrt" in code, kind, body
    ('sqrt', True, 0, None)
    """
    if remote is None:
        remote = is_remote()
    target = unwrapped(function)
    name, kind = display_name(target), STREAM if is_stream(target) else ORDINARY
    refuse_coroutine(target, name)
    reference = reference_of(target, remote)
    if reference is not None:
        return name, _code(BY_REFERENCE, reference), kind, None
    body = _pickled(target, name)
    as_object = getattr(type(target), "travels_as_object", False)
    if as_object or len(body) > CODE_LIMIT - 64 or _is_crowded(target):
        return name, _code(BY_REFERENCE, _CALL, is_pickled=True), kind, body
    return name, _code(BY_VALUE, body), kind, None


@functools.cache
def cloudpickle() -> Any:
    """The module, imported when something first travels by value: that takes a while."""
    return importlib.import_module("cloudpickle")


def unwrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """The plain function of a `manyhands.task`."""
    from ._task import Task

    return function.__wrapped__ if isinstance(function, Task) else function


def display_name(function: Callable[..., Any]) -> str:
    """A function's name for people.

    >>> display_name(functools.partial(max, 1))
    'max'
    """
    if isinstance(function, functools.partial):
        return display_name(function.func)
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return name.rpartition("<locals>.")[2]


def reference_of(function: Callable[..., Any], remote: bool = False) -> str | None:
    """``module:qualname`` if an executor finds the function there."""
    found = importable(function, remote)
    if found is None or (found is not function and unwrapped(found) is not function):
        return None
    return f"{function.__module__}:{function.__qualname__}"


def importable(function: Callable[..., Any], remote: bool = False) -> Any:
    """What an executor finds under a function's name; None if it finds nothing."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or "<" in name:
        return None
    if module not in sys.modules or not _is_reachable(module, remote):
        return None
    found: Any = sys.modules[module]
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def travels_by_value(module: str) -> bool:
    """Whether what this module defines travels by value. If so cloudpickle has been told."""
    known = _by_value.get(module)
    if known is None:
        known = _by_value[module] = not _is_reachable(module, _remote)
        if known and module != "__main__" and module in sys.modules:
            cloudpickle().register_pickle_by_value(sys.modules[module])
    return known


def use_local(paths: Iterable[str]) -> None:
    """A local cluster was started, whose executors have these in their `sys.path`."""
    global _paths
    new = frozenset(paths)
    _paths = new if _paths is None else _paths & new
    _by_value.clear()


def use_remote(archived: Iterable[str]) -> None:
    """A cluster of other machines is used; these top-level modules are sent there."""
    global _remote, _archived
    _remote, _archived = True, _archived | frozenset(archived)
    _by_value.clear()


def is_remote() -> bool:
    """Whether this program uses a cluster of other machines, or will."""
    return _remote or (_paths is None and bool(os.environ.get("MANYHANDS_ADDRESS")))


def _is_reachable(module: str, remote: bool) -> bool:
    """Whether an executor can import the module."""
    top = module.partition(".")[0]
    if top in ("__main__", "__mp_main__"):
        return False
    if top in sys.stdlib_module_names or top == "manyhands":
        return True
    if remote and top in _archived:
        return True
    roots = _roots(top)
    if roots is None:
        return False
    if _paths is None and not remote:
        # There is no cluster yet that could not know it.
        return True
    places = installed() if remote or _paths is None else installed() | _paths
    return any(root in places for root in roots)


def _roots(top: str) -> list[str] | None:
    """The directories that a top-level module was imported from; None if it came from no file."""
    module = sys.modules.get(top)
    spec = getattr(module, "__spec__", None)
    if module is None or spec is None:
        return None
    locations = getattr(module, "__path__", None)
    if locations is not None:
        return [os.path.dirname(os.path.abspath(location)) for location in locations]
    origin = getattr(module, "__file__", None)
    return None if origin is None else [os.path.dirname(os.path.abspath(origin))]


@functools.cache
def installed() -> frozenset[str]:
    """The directories of the standard library and of installed packages."""
    import site
    import sysconfig

    places = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    places.update(site.getsitepackages(), [site.getusersitepackages()])
    places.update(path for path in sys.path if path.endswith(("site-packages", "dist-packages")))
    return frozenset(os.path.abspath(place) for place in places if place)


def _is_crowded(function: Callable[..., Any]) -> bool:
    """Whether there have been many functions of the same code."""
    if not isinstance(function, FunctionType):
        return False
    count = _closures.get(function.__code__, 0) + 1
    _closures[function.__code__] = count
    return count > CLOSURE_LIMIT


def _pickled(function: Callable[..., Any], name: str) -> bytes:
    for module in modules_of(function):
        travels_by_value(module)
    try:
        return bytes(cloudpickle().dumps(function, protocol=5))
    except Exception as error:
        raise TypeError(
            f"function {name} cannot be pickled: {_culprit(function) or error}"
        ) from error


def modules_of(function: Callable[..., Any]) -> Iterable[str]:
    """The modules that a function and what it uses by name come from: cloudpickle has to know of
    each whether it travels by value."""
    if isinstance(function, functools.partial):
        return modules_of(function.func)
    modules = {getattr(function, "__module__", None)}
    code = getattr(function, "__code__", None)
    if code is not None:
        known = getattr(function, "__globals__", {})
        for name in _names(code):
            used = known.get(name)
            modules.add(used.__name__ if isinstance(used, ModuleType) else _module_of(used))
    return [module for module in modules if isinstance(module, str) and module in sys.modules]


def _module_of(used: object) -> object:
    """The module of a function, a class, or of an object's class."""
    owner = used if isinstance(used, FunctionType | type) else type(used)
    return getattr(owner, "__module__", None)


def _names(code: CodeType) -> set[str]:
    """The names that a code object and those within it use."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names(constant)
    return names


def _culprit(function: Callable[..., Any]) -> str | None:
    """Which variable of a function cannot be pickled, in words."""
    for what, value in _variables(function):
        try:
            cloudpickle().dumps(value, protocol=5)
        except Exception as error:
            return f"{what}: {error}"
    return None


def _variables(function: Callable[..., Any]) -> Iterable[tuple[str, object]]:
    if isinstance(function, functools.partial):
        yield from _variables(function.func)
        yield from ((f"argument {i} of the partial", arg) for i, arg in enumerate(function.args))
        yield from ((f"argument {k!r} of the partial", v) for k, v in function.keywords.items())
        return
    if isinstance(function, MethodType):
        yield "the object that the method belongs to", function.__self__
        return
    code = getattr(function, "__code__", None)
    if code is None:
        return
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
        yield f"the variable {name!r} that it closes over", cell.cell_contents
    known = getattr(function, "__globals__", {})
    yield from ((f"the global {name!r}", known[name]) for name in _names(code) if name in known)
    yield from (("a default argument", v) for v in function.__defaults__ or ())


def _code(kind: int, payload: bytes | str, *, is_pickled: bool = False) -> bytes:
    """`FunctionSpec.code`, as `_code` tells. The versions are compared before a function is
    unpickled, whether it `is_pickled` here or in an object beside."""
    if kind == BY_VALUE or is_pickled:
        versions = _text(PYTHON) + _text(cloudpickle().__version__)
    else:
        versions = _text("") + _text("")
    packed = _binary(payload) if isinstance(payload, bytes) else _text(payload)
    return b"\x95" + bytes([kind]) + packed + versions + bytes([PICKLED])


def _text(text: str) -> bytes:
    raw = text.encode()
    if len(raw) < 32:
        return bytes([0xA0 | len(raw)]) + raw
    return b"\xda" + len(raw).to_bytes(2, "big") + raw


def _binary(raw: bytes) -> bytes:
    return b"\xc6" + len(raw).to_bytes(4, "big") + raw
