"""What the interpreters of executors are set up with."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from . import _functions, _logging


def describe(
    *,
    preload: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
    directory: str | os.PathLike[str] | None = None,
    py_modules: Sequence[object] = (),
    requirements: Sequence[str] | str | os.PathLike[str] = (),
    remote: bool = False,
) -> dict[str, Any]:
    """The environment as the native module takes it. On this machine executors import what this
    program can import; to others `py_modules` travel as a zip, whose name is its content.

    >>> describe(preload=["json"], variables={"A": "1"})["preload"]
    ['json']
    """
    if isinstance(preload, str):
        raise TypeError("preload is a list of names of modules")
    if isinstance(py_modules, str | os.PathLike | ModuleType):
        raise TypeError(f"py_modules is a list: py_modules=[{py_modules!r}]")
    path = [] if remote else import_path()
    names: tuple[str, ...] = ()
    archive = None
    if py_modules:
        from . import _archive

        places = [_archive.place_of(module) for module in py_modules]
        if remote:
            names, archive = tuple(place.stem for place in places), str(_archive.pack(places))
        else:
            path += [str(place.parent) for place in places]
    required: list[str] = []
    if requirements:
        from . import _required

        required = _required.lines(requirements, remote)
    if remote:
        _functions.use_remote(names)
    return {
        "preload": [str(name) for name in preload],
        "variables": _texts({**_logging.described(), **(variables or {})}),
        "directory": None if directory is None else os.path.abspath(os.fspath(directory)),
        "path": list(dict.fromkeys(path)),
        "archive": archive,
        "requirements": required,
    }


def import_path() -> list[str]:
    """Where this program's own modules are: `sys.path` without what every interpreter has."""
    everywhere = _functions.installed()
    entries = (os.path.abspath(entry or os.getcwd()) for entry in sys.path)
    return [entry for entry in entries if entry not in everywhere and os.path.exists(entry)]


def _texts(variables: Mapping[str, str]) -> dict[str, str]:
    for name, value in variables.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"env: {name!r} is set to {value!r}; names and values are strings")
        if not name or "=" in name or "\0" in name + value:
            raise ValueError(f"env: {name!r} is not the name of a variable")
    return dict(sorted(variables.items()))
