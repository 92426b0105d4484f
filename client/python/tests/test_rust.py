"""Functions of programs in Rust, by their names. The program is the example `montecarlo`."""

import os
import pickle
from pathlib import Path

import manyhands as mh
import pytest

ROOT = Path(__file__).resolve().parents[3]
NAME = "manyhands-example-montecarlo"


def built():
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    places = [target / profile / NAME for profile in ("debug", "release")]
    found = [place for place in places if place.exists()]
    return max(found, key=lambda place: place.stat().st_mtime, default=None)


@pytest.fixture(scope="module")
def path():
    if built() is None:
        pytest.skip(f"the program is not built: cargo build -p {NAME}")
    return built()


@pytest.fixture
def program(client, path):
    return client.rust(path)


def test_tasks_have_the_names_of_their_functions(program):
    names = program.names()
    assert names == sorted(names)
    assert {name.rpartition("::")[2] for name in names} >= {"throw", "sum", "area"}
    exact = next(name for name in names if name.endswith("::throw"))
    assert program.function(exact).__name__ == program.function("throw").__name__


def test_calls_of_all_kinds(client, program):
    throw, total = program.function("throw"), program.function("darts::sum")
    first = client.submit(throw, 3, 500)
    assert 0 < first.result() < 500
    assert next(client.map(throw, [3], [500])) == first.result()
    assert client.call(throw, (3, 500), None, None, None).result() == first.result()
    assert client.options(retries=1).submit(throw, 3, 500).result() == first.result()
    assert client.submit(total, [1, 2, 2**40]).result() == 3 + 2**40
    assert client.submit(total, (1, 2)).result() == 3


def test_graphs_of_both_languages(client, program):
    throw, total = program.function("throw"), program.function("darts::sum")
    node = throw.lazy(mh.delayed(abs)(-3), 500)
    text = mh.delayed(str)(node)
    assert text.compute(client=client) == str(client.submit(throw, 3, 500).result())
    numbers = client.options(retries=1).lazy(total, [4, 5])
    assert numbers.compute(client=client) == 9


def test_futures_are_values(client, program):
    throw = program.function("throw")
    seed = client.submit(abs, -3)
    assert client.submit(throw, seed, 500).result() == client.submit(throw, 3, 500).result()


def test_arrays_of_numbers_are_vectors(client, program):
    numpy = pytest.importorskip("numpy")
    total = program.function("darts::sum")
    small, large = numpy.arange(100, dtype="u8"), numpy.arange(100_000, dtype="u8")
    assert client.submit(total, small).result() == small.sum()
    assert client.submit(total, small[::3]).result() == small[::3].sum()
    assert [f.result() for f in client.submit_many(total, [large, large])] == [large.sum()] * 2
    assert client.submit(total, client.submit(pow, 2, 3)).exception() is not None
    assert client.submit(program.function("throw"), numpy.int64(3), 5).result() <= 5


def test_structures_are_lists_of_their_fields(client, program):
    integral, tasks = client.submit(program.function("area"), [0.0, 1.0, 1e-2, 40]).result()
    assert tasks >= 1
    assert isinstance(integral, float)


def test_what_does_not_fit_fails_in_words(client, program):
    throw = program.function("throw")
    with pytest.raises(mh.TaskError, match="throw"):
        client.submit(throw, "three", 500).result()
    with pytest.raises(TypeError, match=r"argument 1 of .*throw.*is not plain data"):
        client.submit(throw, object(), 500)
    with pytest.raises(TypeError, match="have no names"):
        client.submit(throw, 3, throws=500)
    with pytest.raises(TypeError, match="in Rust"):
        throw(3, 500)
    with pytest.raises(TypeError, match="in Rust"):
        pickle.dumps(throw)


def test_unknown_names_are_told_with_near_ones(program):
    with pytest.raises(LookupError, match=r"near thrown: .*::throw\)"):
        program.function("thrown")


def test_what_is_no_program_with_tasks(client, tmp_path):
    (tmp_path / "text").write_text("no program")
    with pytest.raises(OSError, match="no program with tasks"):
        client.rust(tmp_path / "text")
    with pytest.raises(OSError, match="missing"):
        client.rust(tmp_path / "missing")
