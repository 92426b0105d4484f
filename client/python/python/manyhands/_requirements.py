"""Requirements of a job: installed once on a machine, into a virtual environment that is named by
their hash."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig

DONE = "done"
"""A file in an environment that is complete."""


def use(requirements: list[str], cache: str) -> None:
    """Goes on in an interpreter that has them: this one if it is that already. Does not return
    else. Installs them first if nobody has."""
    directory = os.path.join(cache, _name(requirements))
    python = os.path.join(directory, "bin", "python")
    if os.path.realpath(sys.prefix) == os.path.realpath(directory):
        return
    os.makedirs(cache, exist_ok=True)
    # The lock goes with the process, however it ends.
    lock = os.open(f"{directory}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not os.path.exists(os.path.join(directory, DONE)):
        _install(requirements, directory, python)
    os.close(lock)
    os.execv(python, [python, *sys.orig_argv[1:]])


def _name(requirements: list[str]) -> str:
    """What tells environments apart: the requirements, the interpreter, and its own packages."""
    told = [sys.version, sys.prefix, *sorted(requirements)]
    return hashlib.blake2b("\0".join(told).encode(), digest_size=16).hexdigest()


def _install(requirements: list[str], directory: str, python: str) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    base = [sys.executable, "-m", "venv", "--system-site-packages", directory]
    _run(base, "a virtual environment cannot be made")
    _inherit(directory)
    pip = [python, "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--quiet"]
    _run([*pip, *requirements], f"the requirements {', '.join(requirements)} cannot be installed")
    with open(os.path.join(directory, DONE), "w", encoding="utf-8"):
        pass


def _inherit(directory: str) -> None:
    """Lets it see the packages of an interpreter that is in a virtual environment itself."""
    places = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    places.add(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    target = os.path.join(directory, "lib", version, "site-packages", "_manyhands_base.pth")
    with open(target, "w", encoding="utf-8") as file:
        file.writelines(f"{place}\n" for place in sorted(places))


def _run(command: list[str], failed: str) -> None:
    """Runs a command quietly; the words of one that fails are the template's last."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode != 0:
        words = done.stdout.decode("utf-8", "replace").strip()[-2000:]
        sys.exit(f"{failed}: {words}")
