"""What a client requires, as lines for pip: files are read here, and what lies on this machine is
named by its place and its content."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote

from . import _archive

_PACKED = ("", ".gz", ".bz2", ".xz", ".lz", ".lzma")
_ARCHIVES = (".whl", ".zip", ".tgz", ".tbz", ".txz", ".tlz", *(f".tar{end}" for end in _PACKED))

_BUILT = {"build", "dist"}
"""Directories of a project that an installation may write."""

_LINE = re.compile(
    r"(?P<name>[^@/]*@\s*)?(?P<place>[^;\[]+)(?P<extras>\[[^\]]*\])?\s*(?P<rest>;.*)?"
)

_OPTION = re.compile(
    r"(?P<option>--[\w-]+|-[a-zA-Z])(?:\s*=\s*|\s*)(?P<value>.*)",
)


def lines(requirements: Sequence[str] | str | os.PathLike[str], remote: bool) -> list[str]:
    """The lines, from the list or the requirements file that was given.

    >>> lines(["numpy>=1  # arrays", "", "# nothing"], remote=True)
    ['numpy>=1']
    """
    here = Path.cwd()
    if isinstance(requirements, str | os.PathLike):
        if not os.path.isfile(requirements):
            raise TypeError(
                f"requirements: there is no file {os.fspath(requirements)!r}; packages are given "
                f"as a list: requirements=[{os.fspath(requirements)!r}]"
            )
        return list(_read(here / requirements, remote, ()))
    return list(_each(requirements, here, remote, ()))


def _read(file: Path, remote: bool, within: tuple[Path, ...]) -> Iterator[str]:
    file = file.resolve()
    if file in within:
        raise ValueError(f"requirements: {file} includes itself")
    try:
        text = file.read_text("utf-8")
    except OSError as error:
        raise ValueError(f"requirements: {file} cannot be read: {error.strerror}") from error
    text = text.replace("\\\n", " ")
    return _each(text.splitlines(), file.parent, remote, (*within, file))


def _each(
    given: Iterable[object], base: Path, remote: bool, within: tuple[Path, ...]
) -> Iterator[str]:
    for each in given:
        if not isinstance(each, str):
            raise TypeError(f"requirements: {each!r} is no string; a line for pip is one")
        line = re.sub(r"(^|\s+)#.*$", "", each).strip()
        if not line:
            continue
        option = _OPTION.fullmatch(line)
        if option is None:
            yield _line(line, base, remote)
            continue
        match option["option"]:
            case "-r" | "--requirement":
                yield from _read(base / _value(line, option), remote, within)
            case "-e" | "--editable":
                raise ValueError(
                    f"requirements: {line}: an environment is not changed once it is made; give "
                    "the directory without -e, and it is installed again when its files change"
                )
            case "-c" | "--constraint":
                raise ValueError(
                    f"requirements: {line}: constraints are not sent; write the versions "
                    "beside the packages"
                )
            case "-f" | "--find-links" if "://" not in line:
                if not os.path.isabs(_value(line, option)):
                    raise ValueError(f"requirements: {line}: the directory's path is not absolute")
                yield line
            case _:
                yield line


def _value(line: str, option: re.Match[str]) -> str:
    if not option["value"]:
        raise ValueError(f"requirements: {line}: its value is written in the same string")
    return option["value"]


def _line(line: str, base: Path, remote: bool) -> str:
    """A requirement; one that lies on this machine is named by its place and its content."""
    parts = _LINE.fullmatch(line)
    if parts is None:
        return line
    place, is_url = _local(parts["place"].strip(), named=parts["name"] is not None)
    if place is None:
        return line
    path = Path(os.path.normpath(base / place))
    if remote:
        raise ValueError(
            f"requirements: {line} lies on this machine, and the workers are elsewhere: send "
            "modules by py_modules, or put the package into an index that the workers reach"
        )
    if not path.exists():
        raise ValueError(f"requirements: {line}: there is no {path}")
    name, written = parts["name"] or "", path.as_uri() if is_url else str(path)
    rest = f" {parts['rest']}" if parts["rest"] else ""
    # A comment to pip, and part of what tells environments apart.
    return f"{name}{written}{parts['extras'] or ''}{rest}  # content {_content(path)}"


def _local(place: str, named: bool) -> tuple[str | None, bool]:
    """The path that a requirement is, if it is one, as pip decides it; and whether it is an URL."""
    if place.startswith("file:"):
        path = place.removeprefix("file:").partition("#")[0]
        if path.startswith("//"):
            path = "/" + path[2:].partition("/")[2]
        return unquote(path), True
    if named or "://" in place:
        return None, False
    is_path = "/" in place or place.startswith(".") or place.lower().endswith(_ARCHIVES)
    return (place if is_path else None), False


def _content(path: Path) -> str:
    """A hash of a file, or of the files of a directory that are not made by building it."""
    found = [path] if path.is_file() else sorted(_files(path))
    hasher = hashlib.blake2b(digest_size=16)
    size = 0
    for file in found:
        size += file.stat().st_size
        if file != path and size > _archive.LIMIT:
            raise ValueError(
                f"requirements: {path} has more than {_archive.LIMIT >> 20} MiB of files: build "
                "a wheel of it, and give that"
            )
        with file.open("rb") as source:
            digest = hashlib.file_digest(source, "blake2b").hexdigest()
        hasher.update(f"{file.relative_to(path)}\0{digest}\0".encode("utf-8", "surrogateescape"))
    return hasher.hexdigest()


def _files(project: Path) -> Iterator[Path]:
    for directory, within, files in os.walk(project):
        top = directory == str(project)
        within[:] = [name for name in within if not _is_made(Path(directory, name), top)]
        paths = (Path(directory, name) for name in files if not name.endswith(".pyc"))
        yield from (path for path in paths if path.is_file())


def _is_made(directory: Path, top: bool) -> bool:
    """Whether it is no part of a project's source."""
    name = directory.name
    return (
        name in _archive.SKIPPED
        or name.endswith(".egg-info")
        or (top and name in _BUILT)
        or (directory / "pyvenv.cfg").exists()
    )
