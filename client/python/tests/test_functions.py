"""How functions travel."""

import functools
import importlib
import json
import math
import re
import subprocess
import sys
import textwrap
import threading
import types
import weakref

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


def adder(n):
    return lambda x: x + n


def closures(n):
    return adder(n)


def partials(n):
    return functools.partial(lambda a, b: a + b, n)


def partials_of_methods(n):
    return functools.partial(Point(n).moved)


def methods(n):
    return Point(n).moved


def instances(n):
    return Point(n)


@pytest.mark.parametrize("kind", [closures, partials, partials_of_methods, methods, instances])
def test_many_functions_of_the_same_code_travel_as_objects(kind, monkeypatch):
    monkeypatch.setattr(_functions, "_families", weakref.WeakKeyDictionary())
    made = [kind(n) for n in range(_functions.CLOSURE_LIMIT + 1)]
    crowded = [_functions.is_crowded(function, 0, 0) for function in made]
    assert crowded == [False] * _functions.CLOSURE_LIMIT + [True]


def test_so_many_different_functions_that_further_ones_travel_as_objects(monkeypatch):
    def made(n):
        names = {}
        exec(f"def f{n}(x):\n    return x + {n}", names)
        return names[f"f{n}"]

    assert _functions.is_crowded(plain, _functions.TOLD_LIMIT, 0)
    assert _functions.is_crowded(plain, 0, _functions.TOLD_BYTES + 1)
    assert _functions.is_crowded(None, _functions.TOLD_LIMIT, 0), "those of modules count too"
    monkeypatch.setattr(_functions, "TOLD_LIMIT", 20)
    with mh.Client("local", workers=2) as client:
        functions = [made(n) for n in range(60)]
        futures = [client.submit(function, 1) for function in functions * 2]
        assert client.gather(futures, timeout=LIMIT_S) == list(range(1, 61)) * 2
        assert client.submit(abs, -1).result(LIMIT_S) == 1
        assert list(client.map(plain, [1, 2])) == [2, 3]


def test_a_large_closure_travels_as_an_object(client):
    table = list(range(100_000))
    assert client.submit(lambda n: table[n], 5).result(LIMIT_S) == 5
    assert list(client.map(lambda n: table[n], range(3))) == [0, 1, 2]


def test_a_large_array_that_a_function_closes_over_is_mapped(client):
    array = numpy.arange(1_000_000)

    def look(n):
        # Writable memory would be a copy.
        return int(array[n]), array.flags.writeable

    def items(count):
        yield from array[:count].tolist()

    assert list(client.map(look, range(3))) == [(n, False) for n in range(3)]
    assert (
        client.submit(functools.partial(numpy.dot, array), array).result(LIMIT_S) == array @ array
    )
    assert list(client.submit(items, 3)) == [0, 1, 2]
    assert look(5) == (5, True)


def test_a_large_array_that_a_function_closes_over_is_taken_as_it_was(client):
    array, grown = numpy.zeros(100_000), bytearray(100_000)
    call = functools.partial(lambda a, b, n: (a[n], len(b)), array, grown)
    assert client.submit(call, 1).result(LIMIT_S) == (0, 100_000)
    node = mh.delayed(call)(1)
    array[1] = 1
    grown.append(1)
    assert client.submit(call, 1).result(LIMIT_S) == (0, 100_000)
    assert node.compute(client=client) == (0, 100_000)


def test_executors_keep_functions_that_are_long_to_read():
    class Counted:
        """Made anew each time it is read."""

        read = 0

        def __init__(self, words):
            self.words = words

        def __reduce__(self):
            return counted, (type(self), self.words)

        def __call__(self, other):
            return len(self.words), type(self).read

    def counted(class_, words):
        class_.read += 1
        return class_(words)

    with mh.Client("local", workers=1) as client:
        many = Counted([f"word {n}" for n in range(200_000)])
        assert client.gather([client.submit(many, n) for n in range(4)]) == [(200_000, 1)] * 4
        assert client.submit(Counted(["few"] * 20_000), 1).result(LIMIT_S)[0] == 20_000
        assert client.submit(many, 1).result(LIMIT_S) == (200_000, 1)


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


class Service:
    def __init__(self):
        self.config = {"lock": threading.Lock()}

    def call(self, x):
        return x


def test_what_cannot_be_pickled_is_named(client):
    lock, service = threading.Lock(), Service()

    def closes_over():
        return lock

    def of_default(x=lock):
        return x

    def names(part):
        return pytest.raises(TypeError, match=rf"^{re.escape(part)}: cannot pickle '_thread.lock'")

    with names("argument 1 of plain: ['config'][0]"):
        client.submit(plain, {"config": [lock]})
    with names("argument x of plain: .config['lock']"):
        client.submit(plain, x=service)
    with names("argument 2 of max: [1].config['lock']"):
        client.submit(max, 1, (2, service))
    with names("argument 1 of plain: closes over lock"):
        client.submit(plain, closes_over)
    with names("argument 1 of plain: [0]"):
        list(client.map(plain, [1, [lock]]))
    with names("argument 1 of plain: .config['lock']"):
        mh.delayed(plain)(service)
    with names("the value to put: [0].config['lock']"):
        client.put([service])
    with names("function closes_over: closes over lock"):
        client.submit(closes_over)
    with names("function of_default: default 0"):
        client.map(of_default, [1])
    with names("function Service.call: .__self__.config['lock']"):
        mh.delayed(service.call)(1)
    with names("function plain: .args[0].config['lock']"):
        client.submit(functools.partial(plain, service))


def test_a_future_that_a_function_closes_over_is_refused_in_words(client):
    future = client.submit(abs, -1)
    with pytest.raises(TypeError, match=r"closes over future: .*get its result\(\) first"):
        client.submit(lambda: future)


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
