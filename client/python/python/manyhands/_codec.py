"""The picklers of the native module, and what they say when they cannot write something.

`Fast` writes classes and functions by reference, and gives up at one that the other side cannot
import. `Full` is cloudpickle's, which writes those by value. Both take large buffers out of band.
"""

from __future__ import annotations

import copyreg
import functools
import io
import pickle
from collections.abc import Callable, Iterator
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any, cast

import cloudpickle

from . import _core
from ._code import PYTHON

DEPTH = 12
"""How deep a part of a value may lie that is named because it cannot be pickled."""

_is_executor = False


def be_executor() -> None:
    """From now on this process runs tasks. What it returns is read by programs that have their own
    modules: only what was defined in a program itself travels by value."""
    global _is_executor
    _is_executor = True


def travels_by_value(module: str) -> bool:
    """Whether what this module defines has to be written by value."""
    if _is_executor:
        return module in ("__main__", "__mp_main__")
    from . import _functions

    return _functions.travels_by_value(module)


class Fast(pickle.Pickler):
    """Pickles without cloudpickle. Used again and again: it must keep nothing."""

    # A function of the native module: found on the class, and not bound to the pickler.
    reducer_override = _core._reduce  # type: ignore[assignment]


class Full(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles what `Fast` cannot."""

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is memoryview:
            return reduce_view(obj)
        if type(obj).__name__ == "Connection":
            refuse_connection(obj)
        if type(obj) is CodeType:
            make, parts = self.dispatch_table[CodeType](obj)
            return (_of_versions, (PYTHON, cloudpickle.__version__, make, parts))
        if isinstance(obj, type | FunctionType | ModuleType):
            # If what the module defines travels by value, cloudpickle is told so.
            name = "__name__" if isinstance(obj, ModuleType) else "__module__"
            module = getattr(obj, name, None)
            if isinstance(module, str):
                travels_by_value(module)
        return super().reducer_override(obj)


def refuse_connection(value: Any) -> None:
    """Raises if it is a connection of `multiprocessing`: what it has is the number of an open file
    of this process. Those that a pool passes on are pickled otherwise."""
    from . import _shared

    if type(value).__module__ == "multiprocessing.connection" and not _shared.is_passing_on():
        raise TypeError(_shared.REFUSED_CONNECTION)


def holds_code(body: bytes) -> bool:
    """Whether there is the code of a function in what `Full` has written."""
    return _of_versions.__name__.encode() in body


def _of_versions(
    python: str, pickled_by: str, make: Callable[..., CodeType], parts: tuple[Any, ...]
) -> CodeType:
    """The code of a function. That of another version of Python would crash this one."""
    if (python, pickled_by) != (PYTHON, cloudpickle.__version__):
        from ._run import compare

        compare("a function in it", python, pickled_by)
    return make(*parts)


def reduce_view(view: memoryview) -> tuple[Any, ...]:
    """How a memoryview travels: its memory out of band if that is in one piece, and copied else."""
    if not view.contiguous:
        return (_view, (view.tobytes(), view.format, view.shape))
    if view.c_contiguous:
        return (_view, (pickle.PickleBuffer(view), view.format, view.shape))
    return (_view, (view.tobytes(), view.format, view.shape))


def _view(buffer: Any, code: str, shape: tuple[int, ...]) -> Any:
    view: Any = memoryview(buffer).cast("B")
    if code == "B" and shape == (view.nbytes,):
        return view
    if 0 in shape:
        return view.cast(code)
    return view.cast(code, shape)


class _Exceptions(Full):
    """Pickles exceptions, wherever they are in a value, so that they are made again without their
    ``__init__``: that may want other arguments than they have kept."""

    def reducer_override(self, obj: Any) -> Any:
        if not isinstance(obj, BaseException):
            return super().reducer_override(obj)
        class_ = type(obj)
        base = _built_in(class_)
        is_plain = class_.__reduce__ is base.__reduce__ and class_ not in copyreg.dispatch_table
        if not is_plain or class_.__reduce_ex__ is not object.__reduce_ex__:
            return super().reducer_override(obj)
        _, arguments, *state = cast("tuple[Any, ...]", base.__reduce__(obj))
        made = (rebuild_exception, (class_, arguments))
        return (*made, state[0], None, None, restore_exception) if state else made


def _built_in(class_: type[BaseException]) -> type[BaseException]:
    """The built-in exception that an exception is one of."""
    return next(base for base in class_.__mro__ if base.__module__ == "builtins")


def rebuild_exception(class_: type[BaseException], arguments: tuple[Any, ...]) -> BaseException:
    """An exception as the built-in one that it is makes it."""
    base = _built_in(class_)
    exception = base.__new__(class_, *arguments)
    base.__init__(exception, *arguments)
    return exception


def restore_exception(exception: BaseException, state: dict[str, Any]) -> None:
    """Gives an exception the attributes that it had."""
    for name, value in state.items():
        try:
            object.__setattr__(exception, name, value)
        except AttributeError:  # A property of its class stands before it.
            vars(exception)[name] = value


def rewritten(exception: BaseException) -> bytes:
    """The pickle of an exception that cannot be read as it is pickled usually, or of one that has
    such exceptions among its attributes or in its group."""
    with io.BytesIO() as file:
        _Exceptions(file, pickle.HIGHEST_PROTOCOL).dump(exception)
        return file.getvalue()


def explain(what: str, value: Any, error: BaseException) -> BaseException:
    """The error to raise where `value` cannot be pickled: it names the part which is the reason."""
    from . import _shared

    path, reason = _find(value, error)
    path = path.strip()
    text = str(reason) or type(reason).__name__
    if _shared.is_refusal(reason):
        text = f"{text} ({_shared.HINT})"
    message = f"{what}: {path}: {text}" if path else f"{what}: {text}"
    explained: BaseException
    if isinstance(reason, TypeError):
        explained = TypeError(message)
    else:
        explained = pickle.PicklingError(message)
    if not isinstance(reason, TypeError | pickle.PicklingError):
        explained.__cause__ = reason
    return explained


def _find(value: Any, error: BaseException) -> tuple[str, BaseException]:
    """The path to the innermost part that cannot be pickled, and why it cannot."""
    from . import _shared

    path, seen = "", {id(value)}
    while len(seen) <= DEPTH:
        if _shared.is_refusal(error) and type(value).__module__.startswith("multiprocessing."):
            break  # Its parts have reasons of their own.
        parts = [(step, part) for step, part in _parts(value) if id(part) not in seen]
        # The first half that cannot be pickled has it, again and again.
        while len(parts) > 1:
            half = parts[: len(parts) // 2]
            is_there = _refusal([part for _, part in half]) is not None
            parts = half if is_there else parts[len(half) :]
        reason = _refusal(parts[0][1]) if parts else None
        if reason is None:
            break
        ((step, value),) = parts
        path, error = path + step, reason
        seen.add(id(value))
    return path, error


def _refusal(value: Any) -> BaseException | None:
    try:
        Full(_Nowhere(), pickle.HIGHEST_PROTOCOL, lambda _: False).dump(value)
    except Exception as error:
        return error
    return None


class _Nowhere:
    def write(self, part: Any) -> int:
        return len(part)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What a value consists of, with the step from it to each part."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"[{_short(key)}]", item
            yield f" key {_short(key)}", key
    elif isinstance(value, list | tuple | set | frozenset):
        for number, item in enumerate(value):
            yield f"[{number}]", item
    elif isinstance(value, FunctionType):
        yield from _function_parts(value)
    elif type(value).__module__ == "manyhands._stream":
        # It says itself what to do.
        return
    elif isinstance(value, type):
        yield from ((f".{name}", item) for name, item in vars(value).items() if name[:2] != "__")
    else:
        yield from _object_parts(value)


def _function_parts(function: FunctionType) -> Iterator[tuple[str, Any]]:
    names = function.__code__.co_freevars
    for name, cell in zip(names, function.__closure__ or (), strict=False):
        if isinstance(cell, CellType):
            try:
                yield f" closes over {name}", cell.cell_contents
            except ValueError:  # It is empty.
                continue
    for name in sorted(_names(function.__code__)):
        if name in function.__globals__:
            yield f" uses {name}", function.__globals__[name]
    for number, default in enumerate(function.__defaults__ or ()):
        yield f" default {number}", default
    for name, default in (function.__kwdefaults__ or {}).items():
        yield f" default {name}", default
    yield from ((f".{name}", item) for name, item in vars(function).items())


def _names(code: CodeType) -> set[str]:
    """The names that a code object and those within it use."""
    within = (_names(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*within)


def _object_parts(value: Any) -> Iterator[tuple[str, Any]]:
    if getattr(value, "__func__", None) is not None:
        yield ".__self__", getattr(value, "__self__", None)
        yield ".__func__", value.__func__
    elif isinstance(value, functools.partial):
        yield from ((f".{name}", getattr(value, name)) for name in ("func", "args", "keywords"))
    state = getattr(value, "__dict__", None)
    if isinstance(state, dict):
        yield from ((f".{name}", item) for name, item in state.items())
    for class_ in type(value).__mro__:
        slots = class_.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name):
                yield f".{name}", getattr(value, name)
    yield f" class {type(value).__qualname__}", type(value)


def _short(key: Any) -> str:
    text = repr(key)
    return text if len(text) <= 40 else text[:37] + "..."
