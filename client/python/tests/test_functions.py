"""How functions travel."""

import functools
import importlib
import json
import math
import subprocess
import sys
import textwrap
import types

import manyhands as mh
import numpy
import pytest
from conftest import LIMIT_S
from manyhands import _functions


class Point:
    """A class of this module."""

    def __init__(self, x):
        self.x = x

    def moved(self, by):
        return Point(self.x + by)

    @classmethod
    def origin(cls):
        return cls(0)

    @staticmethod
    def double(x):
        return 2 * x

    def __call__(self, x):
        return self.x + x


def plain(x):
    return x + 1


def by_reference(function, remote=False):
    return _functions.reference_of(function, remote)


def test_what_can_be_imported_travels_by_reference(local):
    assert by_reference(math.sqrt) == "math:sqrt"
    assert by_reference(json.dumps) == "json:dumps"
    assert by_reference(numpy.linalg.norm) == "numpy.linalg:norm"
    assert by_reference(len) == "builtins:len"
    assert by_reference(plain) == f"{__name__}:plain"
    assert by_reference(Point) == f"{__name__}:Point"
    assert by_reference(Point.double) == f"{__name__}:Point.double"


def test_what_cannot_be_imported_travels_by_value(local):
    def closure():
        pass

    assert by_reference(lambda: 1) is None
    assert by_reference(closure) is None
    assert by_reference(functools.partial(plain, 1)) is None
    assert by_reference(Point(1)) is None
    assert by_reference([].append) is None
    hidden = types.FunctionType(plain.__code__, globals(), "plain")
    assert by_reference(hidden) is None, "another function of that name is what would be found"


def test_modules_of_this_program_are_not_on_other_machines(local):
    assert by_reference(plain, remote=True) is None
    assert by_reference(json.dumps, remote=True) == "json:dumps"
    assert by_reference(numpy.linalg.norm, remote=True) == "numpy.linalg:norm"


def test_a_module_without_a_file_is_nowhere_else():
    module = types.ModuleType("made_up_module")
    exec("def f(x):\n    return x", module.__dict__)
    sys.modules["made_up_module"] = module
    try:
        assert by_reference(module.f) is None
        assert _functions.travels_by_value("made_up_module")
    finally:
        del sys.modules["made_up_module"]


def test_many_closures_of_one_function_travel_as_objects():
    def adder(n):
        return lambda x: x + n

    bodies = [_functions.describe(adder(n))[3] for n in range(_functions.CLOSURE_LIMIT + 1)]
    assert bodies[:-1] == [None] * _functions.CLOSURE_LIMIT
    assert bodies[-1] is not None


def test_a_large_closure_travels_as_an_object(client):
    table = list(range(100_000))
    body = _functions.describe(lambda n: table[n])[3]
    assert body is not None and len(body) > _functions.CODE_LIMIT
    assert client.submit(lambda n: table[n], 5).result(LIMIT_S) == 5
    assert list(client.map(lambda n: table[n], range(3))) == [0, 1, 2]


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        (lambda x: x * 2, (4,), 8),
        (functools.partial(pow, 2), (3,), 8),
        (plain, (1,), 2),
        (Point(3), (1,), 4),
        (Point.double, (4,), 8),
        (str.upper, ("a",), "A"),
        ("-".join, (["a", "b"],), "a-b"),
        (len, ([1],), 1),
        (numpy.add, (1, 2), 3),
        (int, ("12",), 12),
    ],
)
def test_kinds_of_functions(client, function, arguments, expected):
    assert client.submit(function, *arguments).result(LIMIT_S) == expected


def test_methods_and_classes(client):
    assert client.submit(Point(3).moved, 2).result(LIMIT_S).x == 5
    assert client.submit(Point.origin).result(LIMIT_S).x == 0
    made = client.submit(Point, 7).result(LIMIT_S)
    assert type(made) is Point and made.x == 7


def test_many_closures_run(client):
    futures = [client.submit(lambda n=n: n) for n in range(300)]
    assert client.gather(futures) == list(range(300))
    closures = [functools.partial(lambda a, b: a + b, n) for n in range(150)]
    assert client.gather([client.submit(f, 1) for f in closures]) == list(range(1, 151))


def test_a_function_is_taken_as_it_was_when_it_was_first_submitted(client):
    step = 1

    def add(x):
        return x + step

    assert client.submit(add, 1).result(LIMIT_S) == 2


def test_a_class_made_here_comes_back_as_itself(client):
    class Made:
        def __init__(self, x):
            self.x = x

    value = client.submit(Made, 3).result(LIMIT_S)
    assert type(value) is Made and value.x == 3
    assert client.submit(lambda made: made.x, value).result(LIMIT_S) == 3


def test_recursive_functions_and_tasks(client):
    def factorial(n):
        return 1 if n < 2 else n * factorial(n - 1)

    @mh.task
    def fib(n):
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    assert client.submit(factorial, 5).result(LIMIT_S) == 120
    assert client.submit(fib, 10).result(LIMIT_S) == 55


def test_what_cannot_be_pickled_is_named(client):
    import threading

    lock = threading.Lock()

    def closes_over():
        return lock

    with pytest.raises(TypeError, match=r"closes_over.*'lock'"):
        client.submit(closes_over)
    with pytest.raises(TypeError, match="lock"):
        client.submit(plain, {"config": [lock]})


def test_modules_that_only_this_program_has_travel_along(remote, tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text(
        textwrap.dedent("""
            import only_here_too

            class Kept:
                def __init__(self, x):
                    self.x = x

            def twice(x):
                return Kept(only_here_too.double(x))
        """)
    )
    (tmp_path / "only_here_too.py").write_text("def double(x):\n    return 2 * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    only_here = importlib.import_module("only_here")
    value = remote.submit(only_here.twice, 4).result(LIMIT_S)
    assert type(value) is only_here.Kept and value.x == 8
    assert remote.submit(lambda kept: kept.x, value).result(LIMIT_S) == 8


def test_a_path_that_was_added_after_the_start(local, tmp_path, monkeypatch):
    (tmp_path / "added_later.py").write_text("def three():\n    return 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    added = importlib.import_module("added_later")
    assert by_reference(added.three) is None
    assert local.submit(added.three).result(LIMIT_S) == 3


def test_functions_of_main_travel(script):
    done = script("""
import manyhands as mh
from dataclasses import dataclass

@dataclass
class Pair:
    a: int
    b: int

@mh.task
def swap(pair):
    return Pair(pair.b, pair.a)

factor = 10
def scaled(x):
    return x * factor

with mh.Client(workers=2) as client:
    print(client.submit(swap, Pair(1, 2)).result() == Pair(2, 1))
    print(list(client.map(scaled, [1, 2])), swap.lazy(swap.lazy(Pair(3, 4))).compute())
""")
    assert done.stdout.split("\n")[:2] == ["True", "[10, 20] Pair(a=3, b=4)"]


def test_a_script_from_stdin():
    program = """
import manyhands as mh
with mh.Client(workers=1) as client:
    print(client.submit(lambda: 5).result())
"""
    done = subprocess.run(
        [sys.executable, "-"], input=program, capture_output=True, text=True, timeout=LIMIT_S
    )
    assert done.stdout == "5\n", done.stderr


def test_async_functions_are_refused_in_words(client):
    async def later():
        return 1

    async def items():
        yield 1

    for function in (later, items):
        with pytest.raises(TypeError, match=r"asyncio\.run"):
            client.submit(function)
    assert client.submit(abs, -1).result() == 1
