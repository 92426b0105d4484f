"""Modules of this machine as a zip that travels to others."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

LIMIT = 512 << 20
"""Bytes at most, packed."""

_SKIPPED = {
    "__pycache__",
    ".git",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".ipynb_checkpoints",
}


def place_of(module: object) -> Path:
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


def pack(places: Iterable[Path]) -> Path:
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
    if size > LIMIT:
        path.unlink()
        raise ValueError(
            f"py_modules: {size >> 20} MiB packed, and {LIMIT >> 20} may be sent: put data "
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
