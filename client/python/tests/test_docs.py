"""The examples in docstrings and in the README run, and the types are right."""

import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path

import manyhands as mh
import pytest
from conftest import SOURCES

MODULES = ["", "_client", "_environment", "_errors", "_functions", "_futures", "_map", "_options"]
MODULES += ["_output", "_progress", "_stream", "_task"]


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name, local, monkeypatch):
    # The default client of the examples is theirs.
    monkeypatch.setattr("manyhands._client._entered", [local])
    module = importlib.import_module(f"manyhands.{name}".rstrip("."))
    known = {**vars(module), "client": local, "mh": mh}
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner()
    for test in finder.find(module, module.__name__, globs=known):
        runner.run(test)
    assert runner.summarize().failed == 0


def test_every_public_name_is_documented():
    bare = [name for name in mh.__all__ if name not in ("__version__", "Pool")]
    bare = [name for name in bare if not (getattr(mh, name).__doc__ or "").strip()]
    assert bare == []


def readme_programs():
    text = (SOURCES.parents[1] / "README.md").read_text()
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("number", range(len(readme_programs())))
def test_programs_of_the_readme(number, script):
    script(readme_programs()[number])


TYPED = """
from collections.abc import Iterator
from concurrent.futures import Executor, Future as StandardFuture

import manyhands as mh


@mh.task
def square(x: int) -> int:
    return x * x


@mh.task(retries=2, time_limit=1.5)
def text(x: int, *, width: int = 3) -> str:
    return str(x).rjust(width)


def halves(x: int) -> float:
    return x / 2


def run(executor: Executor) -> None:
    plain: StandardFuture[float] = executor.submit(halves, 3)


client = mh.Client(workers=2)
run(client)
reveal_type(square(2))
reveal_type(text(2, width=3))
reveal_type(square.lazy(2))
reveal_type(square.lazy(2).compute())
reveal_type(square.submit(2))
reveal_type(client.submit(halves, 1))
reveal_type(client.submit(halves, 1).result())
reveal_type(client.put("a"))
reveal_type(client.map(halves, [1, 2]))
reveal_type(client.options(retries=1).submit(halves, 1))
reveal_type(client.options(nout=2).submit(divmod, 7, 3))
reveal_type(mh.compute(square.lazy(2)))
reveal_type(mh.gather([client.submit(halves, 1)]))
reveal_type(mh.delayed(halves)(2))


async def main() -> None:
    reveal_type(await client.submit(halves, 1))
"""

REVEALED = [
    *("int", "str", "Lazy[int]", "int", "Future[int]", "Future[float]", "float", "Future[str]"),
    *("Results[float]", "Future[float]", "list[Future[Any]]", "int", "list[float]"),
    *("Lazy[float]", "float"),
]

WRONG = """
import manyhands as mh


@mh.task
def square(x: int) -> int:
    return x * x


square("2")
square(1, 2)
mh.Client().options(retrys=2)
number: str = square.lazy(2).compute()
"""


SETTINGS = SOURCES.parents[1] / "pyproject.toml"


def mypy(*arguments):
    pytest.importorskip("mypy")
    return subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file", str(SETTINGS), *arguments],
        capture_output=True,
        text=True,
    )


def test_the_package_is_typed():
    checked = mypy(str(SOURCES))
    assert checked.returncode == 0, checked.stdout


def test_types_that_users_see(tmp_path):
    file = tmp_path / "typed.py"
    file.write_text(TYPED)
    checked = mypy(str(file))
    assert ": error:" not in checked.stdout, checked.stdout
    shown = re.findall(r'Revealed type is "(.*)"', checked.stdout)
    assert [re.sub(r"[\w.]+\.(?=\w)", "", name) for name in shown] == REVEALED


def test_mistakes_that_are_found(tmp_path):
    file = tmp_path / "wrong.py"
    file.write_text(WRONG)
    found = [int(line) for line in re.findall(r"wrong\.py:(\d+): error", mypy(str(file)).stdout)]
    assert found == [10, 11, 12, 13]


def test_the_native_module_is_what_its_types_say():
    from manyhands import _core

    text = (SOURCES / "_core.pyi").read_text()
    missing = [
        name
        for name in re.findall(r"^(?:class|def) (\w+)", text, re.MULTILINE)
        if not hasattr(_core, name)
    ]
    for type_, body in re.findall(r"^class (\w+).*?:\n((?:    .*\n|\n)*)", text, re.MULTILINE):
        names = re.findall(r"^    def (\w+)", body, re.MULTILINE)
        known = getattr(_core, type_, object)
        # What the subclass in Python brings is not native.
        missing += [f"{type_}.{n}" for n in names if n != "_notifier" and not hasattr(known, n)]
    assert missing == []
    assert Path(_core.__file__).suffix == ".so"
