"""How functions travel: by reference where the executor can import them, by value elsewhere.

By reference means ``module:qualname``. By value means a pickle, which the native module writes: for
functions of ``__main__``, closures and lambdas, and, on a cluster of other machines, for functions
of modules that only this program has (neither the standard library's nor in a ``site-packages``
directory, nor in the client's ``py_modules``). A short pickle is the function's code, which each
executor is told of once. A long one, or one of many, is an object: large arrays that the function
closes over are mapped read-only there, as those of arguments are.

A function is pickled when it is first submitted: what it closes over is taken as it was then.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
import weakref
from collections.abc import Callable, Iterable
from types import FunctionType, MethodType
from typing import Any

from ._code import BY_REFERENCE, BY_VALUE, PICKLED, PYTHON, Code, is_stream, refuse_coroutine

CODE_LIMIT = (64 << 10) - 64
"""Bytes of a pickled function that is its own code at most; a longer one travels as an object."""

CLOSURE_LIMIT = 100
"""Functions of the same code that the cluster is told of; further ones travel as objects, so that a
lambda in a loop, or a `partial`, does not grow its tables."""

TOLD_LIMIT, TOLD_BYTES = 16 << 10, 64 << 20
"""Functions that the cluster is told of by one client, or in its graphs, and bytes of their code;
further ones travel as objects. It takes four times as many of each session."""

_remote = False
"""Whether this program uses a cluster of other machines, which do not have its own modules."""
_paths: frozenset[str] | None = None
"""The part of `sys.path` that every local cluster of this program knows; None before the first."""
_archived: frozenset[str] = frozenset()
"""Top-level modules that travel as `py_modules`."""
_by_value: dict[str, bool] = {}
_families: weakref.WeakKeyDictionary[object, int] = weakref.WeakKeyDictionary()
"""How many functions of the same code the cluster was told of."""


def describe(
    function: Callable[..., Any], remote: bool | None = None
) -> tuple[Callable[..., Any], str, bool, Code | None]:
    """What is known of a function before it is pickled: the plain function, its name, whether a
    call gives a stream of items, and its code if executors find it in a module. Called by the
    native module, once for each function.

    >>> import math
    >>> describe(math.sqrt)[1:]
    ('sqrt', False, (1, 'math:sqrt', '', '', 0))
    """
    if remote is None:
        remote = is_remote()
    target = unwrapped(function)
    name = display_name(target)
    refuse_coroutine(target, name)
    reference = reference_of(target, remote)
    return target, name, is_stream(target), None if reference is None else by_reference(reference)


def by_reference(reference: str) -> Code:
    """The code of a function that executors find in a module."""
    return (BY_REFERENCE, reference, "", "", PICKLED)


def by_value(pickled: bytes) -> Code:
    """The code of a function that was pickled. The versions are compared before it is unpickled; a
    pickle of nothing but references, as that of a pool's call of an importable function, is for
    all of them."""
    versions = ("", "")
    if codec().holds_code(pickled):
        versions = (PYTHON, cloudpickle().__version__)
    return (BY_VALUE, pickled, *versions, PICKLED)


def as_object() -> Code:
    """The code of a function that takes as its first argument the one to be called, which was
    pickled, with the versions of its code."""
    return by_reference("manyhands._run:call")


def is_crowded(function: Callable[..., Any] | None, told: int, size: int) -> bool:
    """Whether a function that is new to the cluster travels as an object, where that was told of so
    many by now, with so many bytes of code. None stands for one that is found in a module."""
    if told >= TOLD_LIMIT or size > TOLD_BYTES:
        return True
    if function is None:
        return False
    if getattr(type(function), "travels_as_object", False):
        return True
    family = _family(function)
    count = _families[family] = _families.get(family, 0) + 1
    return count > CLOSURE_LIMIT


def _family(function: Any) -> object:
    """What a function has in common with those of the same code."""
    while isinstance(function, functools.partial | MethodType):
        function = function.func if isinstance(function, functools.partial) else function.__func__
    if isinstance(function, FunctionType):
        return function.__code__
    return function if isinstance(function, type) else type(function)


@functools.cache
def cloudpickle() -> Any:
    """The module, imported when something first travels by value: that takes a while."""
    return importlib.import_module("cloudpickle")


@functools.cache
def codec() -> Any:
    """The module with the picklers, which imports cloudpickle."""
    return importlib.import_module("manyhands._codec")


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
