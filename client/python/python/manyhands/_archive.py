"""Modules of this machine as a zip that travels to others."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

LIMIT = 512 << 20
"""Bytes of files at most, as they lie here."""

SKIPPED = {
    "__pycache__",
    ".git",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".ipynb_checkpoints",
}
"""Directories that are no source of a module."""


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
    found = [
        (file, file.relative_to(place.parent)) for place in set(places) for file in _files(place)
    ]
    # Before anything is read: a directory may hold data that nobody wants to send.
    _check(sum(file.stat().st_size for file, _ in found))
    handle, name = tempfile.mkstemp(".zip", dir=_scratch())
    try:
        with os.fdopen(handle, "wb") as raw, zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as to:
            left = LIMIT
            for file, inside in sorted(found, key=lambda each: str(each[1])):
                left -= _add(to, file, str(inside), left)
    except BaseException:
        os.unlink(name)
        raise
    return Path(name)


def _add(archive: zipfile.ZipFile, file: Path, inside: str, left: int) -> int:
    """Adds a file, which may have grown meanwhile to more than the bytes that are `left`. Gives its
    size."""
    entry = zipfile.ZipInfo(inside)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = (file.stat().st_mode & 0o777) << 16
    size = 0
    with file.open("rb") as source, archive.open(entry, "w") as target:
        while part := source.read(1 << 20):
            size += len(part)
            _check(LIMIT - left + size)
            target.write(part)
    return size


def _check(size: int) -> None:
    if size > LIMIT:
        raise ValueError(
            f"py_modules: {size >> 20} MiB of files, and {LIMIT >> 20} may be sent: put data "
            "into files that the machines share, or into values by `put`"
        )


def _files(place: Path) -> Iterable[Path]:
    if place.is_file():
        yield place
        return
    for directory, within, files in os.walk(place):
        within[:] = [name for name in within if name not in SKIPPED]
        paths = (Path(directory, name) for name in files if not name.endswith(".pyc"))
        # Neither links that lead nowhere nor pipes, which would be waited for.
        yield from (path for path in paths if path.is_file())


def _scratch() -> str:
    """The directory where archives lie until this program ends."""
    global _directory
    with _lock:
        if _directory is None:
            _directory = tempfile.TemporaryDirectory(prefix="manyhands-")
        return _directory.name


_directory: tempfile.TemporaryDirectory[str] | None = None
_lock = threading.Lock()
