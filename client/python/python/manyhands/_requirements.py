"""Requirements of a job: installed once on a machine, into a virtual environment that is named by
their hash."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
from typing import Any, NoReturn

DONE = "done"
"""A file in an environment that is complete."""

WORDS_LIMIT = 2_000
"""Characters of what pip said that a failure tells: the last ones."""

_LOOK_MS = 100
"""How often a template that waits for another's installation looks whether it can go on."""

_WORKER = 0
"""The descriptor of the socket to the worker; its end is the worker's."""


def use(spec: dict[str, Any]) -> NoReturn:
    """Goes on in an interpreter that has the requirements of a template. Installs them first if
    nobody has. What is told to that interpreter has none left, so that it knows what it is."""
    python = _prepared(spec["requirements"], spec["cache"])
    *arguments, _ = sys.orig_argv[1:]
    os.execv(python, [python, *arguments, json.dumps({**spec, "requirements": []})])


def _prepared(requirements: list[str], cache: str) -> str:
    """The interpreter of their environment."""
    directory = os.path.join(cache, _name(requirements))
    python = os.path.join(directory, "bin", "python")
    if _is_done(directory):
        return python
    os.makedirs(cache, exist_ok=True)
    # The lock goes with the process, however it ends.
    lock = os.open(f"{directory}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _wait_for(lock)
        if not _is_done(directory):
            _install(requirements, directory, python)
    finally:
        os.close(lock)
    return python


def _is_done(directory: str) -> bool:
    return os.path.exists(os.path.join(directory, DONE))


def _name(requirements: list[str]) -> str:
    """What tells environments apart: the requirements, the interpreter and where its packages are,
    and this package."""
    from . import __version__

    told = [sys.version, sys.prefix, __version__, _home(), *sorted(requirements)]
    return hashlib.blake2b("\0".join(told).encode(), digest_size=16).hexdigest()


def _home() -> str:
    """The directory that this package was imported from."""
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def _wait_for(lock: int) -> None:
    """Takes the lock, which another template may hold for minutes."""
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if _watch().poll(_LOOK_MS):
                sys.exit("the worker is no more")


def _install(requirements: list[str], directory: str, python: str) -> None:
    """Makes the environment, or leaves nothing of it. One whose template was killed meanwhile is
    not done, and made again."""
    shutil.rmtree(directory, ignore_errors=True)
    try:
        base = [sys.executable, "-m", "venv", "--system-site-packages", directory]
        _run(base, "a virtual environment cannot be made")
        _inherit(directory)
        lines = os.path.join(directory, "requirements.txt")
        with open(lines, "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in requirements)
        pip = [python, "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
        told = ", ".join(line.partition("  # ")[0] for line in requirements)
        _run([*pip, "--quiet", "-r", lines], f"the requirements {told} cannot be installed")
        with open(os.path.join(directory, DONE), "w", encoding="utf-8"):
            pass
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def _inherit(directory: str) -> None:
    """Lets it see the packages of an interpreter that is in a virtual environment itself."""
    places = {sysconfig.get_path(name) for name in ("purelib", "platlib")} | {_home()}
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    target = os.path.join(directory, "lib", version, "site-packages", "_manyhands_base.pth")
    with open(target, "w", encoding="utf-8") as file:
        file.writelines(f"{place}\n" for place in sorted(places))


def _run(command: list[str], failed: str) -> None:
    """Runs a command quietly; the words of one that fails are the template's last. Ends it, and
    this process, when the worker is no more."""
    # It is no template.
    variables = {k: v for k, v in os.environ.items() if k != "MANYHANDS_PYTHON_TEMPLATE"}
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=variables,
    )
    assert process.stdout is not None
    words, output, watch = b"", process.stdout.fileno(), _watch()
    watch.register(output, select.POLLIN)
    while True:
        ready = [descriptor for descriptor, _ in watch.poll()]
        if _WORKER in ready:
            _end(process)
        part = os.read(output, 1 << 16)
        if not part:
            break
        words = (words + part)[-4 * WORDS_LIMIT :]
    if process.wait() != 0:
        text = words.decode("utf-8", "replace").strip()[-WORDS_LIMIT:]
        sys.exit(f"{failed}: {text}")


def _watch() -> select.poll:
    """Tells the end of the worker, and not that it has written something."""
    watch = select.poll()
    watch.register(_WORKER, 0)
    return watch


def _end(process: subprocess.Popen[bytes]) -> NoReturn:
    """Ends a command with all that it has started: a template's process group is its own."""
    if os.getpgrp() == os.getpid():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(0, signal.SIGTERM)
    else:
        process.terminate()
    process.wait()
    sys.exit("the worker is no more")
