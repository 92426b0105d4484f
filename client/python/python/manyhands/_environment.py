"""What the interpreters of executors are set up with."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from . import _functions

ARCHIVE_LIMIT = 512 << 20
"""Bytes of `py_modules` at most, packed."""

_SKIPPED = {
    "__pycache__",
    ".git",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".ipynb_checkpoints",
}


def describe(
    *,
    preload: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
    directory: str | os.PathLike[str] | None = None,
    py_modules: Sequence[object] = (),
    requirements: Sequence[str] | str = (),
    remote: bool = False,
) -> dict[str, Any]:
    """The environment as the native module takes it. On this machine executors import what this
    program can import; to others `py_modules` travel as a zip, whose name is its content.

    >>> describe(preload=["json"], variables={"A": "1"})["preload"]
    ['json']
    """
    if isinstance(preload, str):
        raise TypeError("preload is a list of names of modules")
    places = [_place(module) for module in py_modules]
    path = [] if remote else [*import_path(), *(str(place.parent) for place in places)]
    archive = None
    if remote:
        _functions.use_remote(place.stem for place in places)
        archive = str(_pack(places)) if places else None
    return {
        "preload": [str(name) for name in preload],
        "variables": _texts(variables or {}),
        "directory": None if directory is None else os.path.abspath(os.fspath(directory)),
        "path": list(dict.fromkeys(path)),
        "archive": archive,
        "requirements": _requirements(requirements),
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


def _requirements(requirements: Sequence[str] | str) -> list[str]:
    """The lines of a requirements file, or the list that was given."""
    if isinstance(requirements, str | os.PathLike):
        requirements = Path(requirements).read_text().splitlines()
    lines = (line.partition(" #")[0].strip() for line in requirements)
    return [line for line in lines if line and not line.startswith("#")]


def _place(module: object) -> Path:
    """The file or directory of a module, which may be given as itself, by its name or by its
    path."""
    if isinstance(module, ModuleType):
        return _origin(module.__name__)
    if not isinstance(module, str | os.PathLike):
        raise TypeError(f"py_modules: {module!r} is neither a module nor its name or path")
    place = Path(module).absolute()
    if place.is_dir() or (place.is_file() and place.suffix == ".py"):
        return place
    if isinstance(module, str) and module.isidentifier():
        return _origin(module)
    raise ValueError(
        f"py_modules: {module} is neither a package's directory, nor a .py file, nor the "
        "name of a module"
    )


def _origin(name: str) -> Path:
    found = sys.modules.get(name)
    spec = found.__spec__ if found is not None else importlib.util.find_spec(name)
    if spec is None or spec.origin is None or not os.path.isfile(spec.origin):
        raise ValueError(f"py_modules: there is no file of a module {name}")
    origin = Path(spec.origin)
    return origin.parent if origin.name == "__init__.py" else origin


def _pack(places: Iterable[Path]) -> Path:
    """A zip of modules. The same files make the same bytes, so that a machine that has them already
    knows them."""
    path = Path(_scratch().name) / f"{len(os.listdir(_scratch().name))}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for place in sorted(set(places)):
            for file in sorted(_files(place)):
                entry = zipfile.ZipInfo(str(file.relative_to(place.parent)))
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = (file.stat().st_mode & 0o777) << 16
                archive.writestr(entry, file.read_bytes())
    size = path.stat().st_size
    if size > ARCHIVE_LIMIT:
        path.unlink()
        raise ValueError(
            f"py_modules: {size >> 20} MiB packed, and {ARCHIVE_LIMIT >> 20} may be sent: put data "
            "into files that the machines share, or into values by `put`"
        )
    return path


def _files(place: Path) -> Iterable[Path]:
    if place.is_file():
        yield place
        return
    for directory, within, files in os.walk(place):
        within[:] = [name for name in within if name not in _SKIPPED]
        yield from (Path(directory, name) for name in files if not name.endswith(".pyc"))


@functools.cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    """Where archives lie until this program ends."""
    return tempfile.TemporaryDirectory(prefix="manyhands-")
