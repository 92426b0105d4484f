"""Values: what is written and read again is the same, whatever it is."""

from __future__ import annotations

import copyreg
import dataclasses
import enum
import functools
import math
import multiprocessing
import pickle
import random
import struct
import sys
import threading
import types

import pytest
from manyhands import _codec, _core

numpy = pytest.importorskip("numpy")

MSGPACK, POD, PICKLE5, RAW, PICKLE5_BUFFERS = 1, 2, 3, 4, 5
INLINE_LIMIT = 64 << 10


def again(value):
    return _core.decode(*_core.encode(value))


def same(one, other):
    if isinstance(one, float) and math.isnan(one):
        return isinstance(other, float) and math.isnan(other)
    if isinstance(one, list | tuple):
        pairs = zip(one, other, strict=True)
        return type(one) is type(other) and all(same(a, b) for a, b in pairs)
    if isinstance(one, dict):
        return type(one) is type(other) and all(same(one[key], other[key]) for key in one)
    return type(one) is type(other) and one == other


def random_value(random, depth=3):
    kinds = [
        lambda: None,
        lambda: random.random() < 0.5,
        lambda: random.randint(-40, 140),
        lambda: random.choice([1, -1]) * random.getrandbits(random.randint(1, 70)),
        lambda: random.choice([0.0, -0.0, math.inf, math.nan, random.uniform(-1e300, 1e300)]),
        lambda: "".join(random.choices("aé漢\U0001f600\0", k=random.randint(0, 300))),
        lambda: random.randbytes(random.choice([0, 1, 255, 256, 65_535, 65_536, 70_000])),
        lambda: bytearray(random.randbytes(random.randint(0, 100_000))),
        lambda: complex(random.random(), random.random()),
    ]
    if depth > 0:
        kinds += [
            lambda: [random_value(random, depth - 1) for _ in range(random.randint(0, 5))],
            lambda: tuple(random_value(random, depth - 1) for _ in range(random.randint(0, 5))),
            lambda: {random.randint(0, 99): random_value(random, depth - 1) for _ in range(4)},
        ]
    return random.choice(kinds)()


@pytest.mark.parametrize("seed", range(20))
def test_whatever_it_is_it_comes_back(seed):
    source = random.Random(seed)
    for _ in range(50):
        value = random_value(source)
        assert same(value, again(value))


@pytest.mark.parametrize(
    ("value", "codec"),
    [
        (None, MSGPACK),
        (True, MSGPACK),
        (-33, MSGPACK),
        (2**64 - 1, MSGPACK),
        (-(2**63), MSGPACK),
        (2**64, PICKLE5),
        (1.5, MSGPACK),
        ("x" * 100_000, MSGPACK),
        ("\ud800", PICKLE5),
        (b"x" * 1000, MSGPACK),
        (b"x" * 100_000, RAW),
        ([1], PICKLE5),
    ],
)
def test_plain_values_are_plain(value, codec):
    written = _core.encode(value)
    assert written[0] == codec
    assert same(value, _core.decode(*written))


@pytest.mark.parametrize(
    "number", [0, 127, 128, -32, -33, 2**15, -(2**15) - 1, 2**31, -(2**31) - 1]
)
def test_integers_at_the_edges_of_their_forms(number):
    for near in (number - 1, number, number + 1):
        assert again(near) == near


def test_plain_data_that_is_too_long_for_its_form_is_refused():
    try:
        # The system gives out pages of zeros when they are used, and nobody does.
        long = bytes(1 << 32)
    except MemoryError:
        pytest.skip("there is no room for 4 GiB that nobody uses")
    with pytest.raises(TypeError, match=r"at most 2\*\*32 - 1"):
        _core.encode(long, foreign=True)
    with pytest.raises(TypeError, match=r"at most 2\*\*32 - 1"):
        _core.encode({"a": [long]}, foreign=True)


def test_subclasses_of_plain_types_keep_their_class():
    class Number(int):
        pass

    assert type(again(Number(3))).__name__ == "Number"
    assert type(again(types.SimpleNamespace(a=1))) is types.SimpleNamespace


def test_large_arrays_are_views_of_what_lies_there_and_small_ones_are_copies():
    large, small = numpy.arange(100_000.0), numpy.arange(1000.0)
    codec, written = _core.encode({"large": large, "small": small})
    assert codec == PICKLE5_BUFFERS
    read = _core.decode(codec, written)
    assert (read["large"] == large).all() and (read["small"] == small).all()
    assert not read["large"].flags.writeable
    offset = struct.unpack_from("<Q", written, 8)[0]
    assert offset % 64 == 0 and written[offset : offset + 800_000] == large.tobytes()
    inline = again(small)
    assert inline.flags.writeable and (inline == small).all()


def test_views_keep_the_memory_that_they_lie_in():
    first = again(numpy.full(100_000, 7))[5:10]
    others = [again(numpy.full(100_000, n)) for n in range(20)]
    assert first.tolist() == [7] * 5
    assert [int(other[99_999]) for other in others] == list(range(20))


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_either_order_and_views_that_are_in_pieces(order):
    array = numpy.asarray(numpy.random.default_rng(0).random((300, 400)), order=order)
    assert (again(array) == array).all()
    assert again(array).flags[f"{order}_CONTIGUOUS"]
    assert (again(array[::2, ::3]) == array[::2, ::3]).all()
    assert (again(array[:0]) == array[:0]).all()


@pytest.mark.parametrize("size", [0, 10, 5_000, 200_000])
def test_memoryviews_travel(size):
    view = memoryview(bytes(i % 251 for i in range(size)))
    read = again(view)
    assert type(read) is memoryview and read == view
    assert again([view, view])[1] == view


def test_memoryviews_keep_their_shape():
    array = numpy.arange(24_000.0).reshape(20, 30, 40)
    read = again(memoryview(array))
    assert read.shape == (20, 30, 40) and read.format == "d"
    assert read.tolist() == array.tolist()
    assert again(memoryview(array)[::2]).tolist() == array[::2].tolist()


def test_arrow_and_pandas_lie_where_they_lie():
    pandas, arrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    table = arrow.table({"a": list(range(50_000)), "b": ["x"] * 50_000})
    assert again(table).equals(table)
    codec, _ = _core.encode(table)
    assert codec == PICKLE5_BUFFERS
    frame = pandas.DataFrame({"a": range(50_000), "b": 0.5})
    read = again(frame)
    assert read.equals(frame)
    assert not read["b"].to_numpy().flags.writeable


def test_the_same_object_twice_is_one_object():
    array = numpy.zeros(50_000)
    read = again([array, array])
    assert read[0] is read[1]
    loop = []
    loop.append(loop)
    read = again(loop)
    assert read[0] is read


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: int
    y: object = None


def as_if_of_main(*classes):
    """Copies of classes as a script would define them."""
    made = []
    for class_ in classes:
        copy = types.new_class(class_.__name__, (class_,), {})
        copy.__module__ = "__main__"
        copy.__qualname__ = class_.__name__
        made.append(copy)
    return made


def test_what_a_script_defines_travels_by_value():
    (point,) = as_if_of_main(Point)
    read = again([point(1, 2), point(3)])
    assert type(read[0]) is type(read[1]) and (read[0].x, read[1].x) == (1, 3)
    # Here it is known, so it is the same class as ever.
    assert type(read[0]) is point
    assert again(Colour.RED) is Colour.RED


def test_functions_and_closures_travel():
    factor = 3
    assert again(lambda x: x * factor)(2) == 6
    assert again([math.sqrt, len]) == [math.sqrt, len]


sharing = threading.Lock()


class Holder:
    def __init__(self):
        self.config = {"lock": threading.Lock(), "fine": 1}

    def moved(self):
        pass


class Slotted:
    __slots__ = ("deep",)

    def __init__(self, deep):
        self.deep = deep


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (threading.Lock(), "the value: cannot pickle"),
        ([1, [threading.Lock()]], "the value: [1][0]: cannot pickle"),
        (Holder(), "the value: .config['lock']: cannot pickle"),
        (Slotted({"a": (sys._getframe(),)}), "the value: .deep['a'][0]: cannot pickle"),
        ({"gen": (x for x in ())}, "the value: ['gen']: cannot pickle"),
        ({"n": [*range(20_000), threading.Lock()]}, "the value: ['n'][20000]: cannot pickle"),
        (functools.partial(max, threading.Lock()), "the value: .args[0]: cannot pickle"),
        (functools.partial(max, key=threading.Lock()), "the value: .keywords['key']: cannot"),
        (Holder().moved, "the value: .__self__.config['lock']: cannot pickle"),
    ],
)
def test_what_cannot_be_written_is_named(value, path):
    with pytest.raises((TypeError, pickle.PicklingError)) as caught:
        _core.encode(value)
    assert str(caught.value).startswith(path)


def test_a_closure_that_cannot_be_written_is_named():
    lock = threading.Lock()
    for function, part in [
        (lambda: lock, "closes over lock"),
        (lambda: lambda: sharing, "uses sharing"),
        (lambda x=lock: x, "default 0"),
        (lambda *, x=lock: x, "default x"),
    ]:
        with pytest.raises(TypeError, match=rf"the value: {part}: cannot pickle '_thread.lock'"):
            _core.encode(function)


def test_what_of_a_class_cannot_be_written_is_named():
    members = {"__module__": "__main__", "lock": threading.Lock(), "run": lambda self: None}
    value = type("Local", (), members)()
    with pytest.raises(TypeError, match=r"^the value: \.__self__ class Local\.lock: cannot pickle"):
        _core.encode(value.run)


def test_connections_are_refused():
    ends = multiprocessing.Pipe(duplex=False)
    for value, part in [(ends[0], "the value"), ({"ends": ends}, r"the value: \['ends'\]\[0\]")]:
        with pytest.raises(TypeError, match=f"^{part}: a connection of multiprocessing reaches"):
            _core.encode(value)
    with pytest.raises(TypeError, match="closes over ends"):
        _core.encode(lambda: ends)


def test_a_pickler_that_has_failed_leaves_nothing_behind():
    for _ in range(3):
        with pytest.raises(TypeError):
            _core.encode([numpy.zeros(10_000), threading.Lock()])
        assert again([1, 2]) == [1, 2]


class Nosy:
    """Something that uses the pickler while it is pickled."""

    def __reduce__(self):
        return (again, (["inner"],))


def test_picklers_within_picklers():
    assert again([Nosy(), [1], Nosy()]) == [["inner"], [1], ["inner"]]


def test_picklers_of_many_threads():
    failed = []

    def work(number):
        for _ in range(200):
            value = [number, {"a": "b" * number}, numpy.full(2000, number)]
            read = again(value)
            if read[:2] != value[:2] or not (read[2] == number).all():
                failed.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert failed == []


@pytest.mark.parametrize("seed", range(10))
def test_what_is_malformed_is_refused_and_never_worse(seed):
    source = random.Random(seed)
    array = numpy.arange(20_000.0)
    for value in (12345678, "text" * 20, b"x" * 300, array):
        codec, written = _core.encode(value)
        for _ in range(30):
            cut = written[: source.randrange(len(written))]
            if codec == MSGPACK:
                with pytest.raises(ValueError, match="malformed"):
                    _core.decode(codec, cut)
            else:
                with pytest.raises((ValueError, EOFError, pickle.UnpicklingError, TypeError)):
                    _core.decode(codec, cut)
    with pytest.raises(TypeError, match="codec 99"):
        _core.decode(99, b"")
    with pytest.raises(ValueError, match="nested too deeply"):
        _core.decode(MSGPACK, b"\x91" * 1000)


class Odd(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")
        self.a = a


class OddFile(OSError):
    def __init__(self, path):
        super().__init__(2, "not there", path)


class OddFinder(ImportError):
    def __init__(self, name, /, *, path):
        super().__init__(f"no {name}", name=name, path=path)


class OddMade(ValueError):
    def __new__(cls, *, code):
        made = super().__new__(cls, f"code {code}")
        made.code = code
        return made

    def __init__(self, **_):
        pass


class OddProperty(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")
        vars(self)["code"] = a

    @property
    def code(self):
        return vars(self)["code"]


@pytest.fixture
def rewritten(monkeypatch):
    """What comes back of an exception. A library may have told `copyreg` how to pickle all."""
    monkeypatch.setattr(copyreg, "dispatch_table", {})
    return lambda exception: pickle.loads(_codec.rewritten(exception))


def test_exceptions_whose_arguments_are_not_those_of_init(rewritten):
    read = rewritten(Odd(1, 2))
    assert type(read) is Odd and str(read) == "1 and 2" and read.a == 1
    read = rewritten(OddFile("a/b"))
    assert (type(read), read.errno, read.filename) == (OddFile, 2, "a/b")
    read = rewritten(OddFinder("x", path="y"))
    assert (str(read), read.name, read.path) == ("no x", "x", "y")
    read = rewritten(OddMade(code=7))
    assert (str(read), read.args, read.code) == ("code 7", ("code 7",), 7)
    read = rewritten(OddProperty(1, 2))
    assert (str(read), read.code) == ("1 and 2", 1)


def test_exceptions_within_exceptions(rewritten):
    inner = ExceptionGroup("inner", [Odd(1, 2), ValueError("plain")])
    inner.add_note("a note")
    read = rewritten(ExceptionGroup("outer", [inner, OddFile("a")]))
    assert str(read) == "outer (2 sub-exceptions)"
    assert [type(e) for e in read.exceptions] == [ExceptionGroup, OddFile]
    assert read.exceptions[0].exceptions[0].a == 1
    assert read.exceptions[0].__notes__ == ["a note"]
    odd = Odd(3, 4)
    holder = KeyError("k")
    holder.others, odd.holder = {"odd": odd}, holder
    read = rewritten(holder)
    assert type(read) is KeyError and read.args == ("k",)
    assert read.others["odd"].holder is read, "a circle"
