"""Runs a script of `multiprocessing.Pool` and `ProcessPoolExecutor` on manyhands, unchanged.

    python -m manyhands [options] script.py [arguments]
    python -m manyhands [options] -m module [arguments]
    python -m manyhands [options] -c code [arguments]

options:
    --address ADDRESS   the cluster to use (as MANYHANDS_ADDRESS); without one, executors are
                        started here, as many as the script asks for
    --workers N         start N executors here, whatever the script asks for
    --preload MODULE    a module to import before executors are forked; may be repeated
    --help              this text
    --version           the version

What the names mean is changed before the script runs as `__main__`; see `manyhands._stdlib`.
Processes and managers of `multiprocessing` are what they were, and so are locks, queues and shared
values, which executors that are started here can use too.
"""

from __future__ import annotations

import builtins
import importlib.util
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from types import CodeType, ModuleType, TracebackType
from typing import Any, NamedTuple, NoReturn

from ._stdlib import Cluster, replace


class Order(NamedTuple):
    """What the command line says."""

    cluster: Cluster
    kind: str
    """``file``, ``-m`` or ``-c``."""
    what: str
    arguments: list[str]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line. Ends the interpreter when the script fails."""
    order = parse(list(sys.argv[1:] if arguments is None else arguments))
    replace(order.cluster)
    module = ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    try:
        code = _PREPARE[order.kind](module, order)
        # Functions of `__main__` are found, and travel, as in any script.
        sys.modules["__main__"] = module
        exec(code, module.__dict__)
    except SystemExit:
        raise
    except BaseException as error:
        _fail(error)


def parse(arguments: list[str]) -> Order:
    """Reads the command line. What follows the script belongs to it."""
    address: str | None = os.environ.get("MANYHANDS_ADDRESS")
    workers: int | None = None
    preload: list[str] = []
    rest = list(arguments)
    while True:
        if not rest:
            _refuse("a script is missing")
        option = rest.pop(0)
        name, is_given, value = option.partition("=")
        if option in ("-h", "--help"):
            print(__doc__)
            sys.exit(0)
        if option in ("-V", "--version"):
            from . import __version__

            print(f"manyhands {__version__}")
            sys.exit(0)
        if option in ("-m", "-c"):
            return Order(_cluster(address, workers, preload), option, _next(option, rest), rest)
        if name in ("--address", "--workers", "--preload"):
            value = value if is_given else _next(option, rest)
            if name == "--address":
                address = value
            elif name == "--workers":
                workers = _number(value)
            else:
                preload.append(value)
        elif option.startswith("-"):
            _refuse(f"unknown option {option}")
        else:
            return Order(_cluster(address, workers, preload), "file", option, rest)


def _cluster(address: str | None, workers: int | None, preload: list[str]) -> Cluster:
    if workers is not None and address not in (None, "local"):
        _refuse("--workers is of executors that are started here; a cluster has its own")
    return Cluster(address, workers, preload)


def _next(option: str, rest: list[str]) -> str:
    if not rest:
        _refuse(f"{option} needs a value")
    return rest.pop(0)


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        _refuse(f"--workers takes a number of at least 1, and not {text}")
    return int(text)


def _refuse(message: str) -> NoReturn:
    print(f"python -m manyhands: {message} (see --help)", file=sys.stderr)
    sys.exit(2)


def _prepare_file(module: ModuleType, order: Order) -> CodeType:
    path = order.what
    if os.path.isdir(path):
        # As Python does with a directory: its `__main__.py`.
        sys.path[0] = path
        path = os.path.join(path, "__main__.py")
    else:
        sys.path[0] = os.path.dirname(os.path.realpath(path))
    sys.argv[:] = [order.what, *order.arguments]
    path = os.path.abspath(path)
    try:
        with io.open_code(path) as file:
            source = file.read()
    except OSError as error:
        print(f"python -m manyhands: can't open file {path!r}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
    module.__file__ = path
    module.__dict__["__cached__"] = None
    return compile(source, path, "exec", dont_inherit=True)


def _prepare_module(module: ModuleType, order: Order) -> CodeType:
    sys.path[0] = os.getcwd()
    sys.argv[:] = ["-m", *order.arguments]
    name = order.what
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            name += ".__main__"
            spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        spec = None
    loader: Any = None if spec is None else spec.loader
    code = loader.get_code(name) if hasattr(loader, "get_code") else None
    if spec is None or code is None:
        print(f"python -m manyhands: No module named {order.what}", file=sys.stderr)
        sys.exit(1)
    sys.argv[0] = spec.origin or name
    module.__spec__, module.__loader__, module.__package__ = spec, loader, spec.parent
    module.__file__ = spec.origin
    result: CodeType = code
    return result


def _prepare_command(module: ModuleType, order: Order) -> CodeType:
    sys.path[0] = ""
    sys.argv[:] = ["-c", *order.arguments]
    return compile(order.what, "<string>", "exec", dont_inherit=True)


_PREPARE: dict[str, Callable[[ModuleType, Order], CodeType]] = {
    "file": _prepare_file,
    "-m": _prepare_module,
    "-c": _prepare_command,
}


def _fail(error: BaseException) -> NoReturn:
    """Ends as a script ends that has raised: with its traceback, without what called it."""
    error.__traceback__ = _of_script(error.__traceback__)
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__
    try:
        sys.excepthook(type(error), error, error.__traceback__)
    except Exception:
        traceback.print_exc()
    if isinstance(error, KeyboardInterrupt):
        # As Python itself: who has started us sees that Ctrl-C ended it.
        _end_clients()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    sys.exit(1)


def _of_script(found: TracebackType | None) -> TracebackType | None:
    while found is not None and found.tb_frame.f_code.co_filename == __file__:
        found = found.tb_next
    return found


def _end_clients() -> None:
    from ._client import _end_all

    _end_all()


if __name__ == "__main__":
    main()
