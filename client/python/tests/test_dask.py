"""Dask's collections on manyhands."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import manyhands as mh
import pytest
from conftest import LIMIT_S

dask = pytest.importorskip("dask")
np = pytest.importorskip("numpy")

import dask.array as da  # noqa: E402
import dask.bag as db  # noqa: E402
import manyhands.dask  # noqa: E402
from dask._task_spec import Alias, DataNode, Dict, List, Task, TaskRef  # noqa: E402
from dask.callbacks import Callback  # noqa: E402
from dask.diagnostics import Profiler, ProgressBar  # noqa: E402
from dask.utils_test import GetFunctionTestMixin, add, inc  # noqa: E402
from manyhands.dask import _groups  # noqa: E402
from manyhands.dask._run import make_list  # noqa: E402
from manyhands.dask._submit import Sending  # noqa: E402


@pytest.fixture
def get(client):
    return manyhands.dask.Scheduler(client)


@pytest.fixture(autouse=True)
def scheduler(local):
    with dask.config.set(scheduler=manyhands.dask.Scheduler(local)):
        yield


class TestGet(GetFunctionTestMixin):
    """What Dask expects of a scheduler."""

    @pytest.fixture(autouse=True)
    def of_client(self, get):
        self.get = get


# Graphs.


def test_new_nodes(get):
    graph = {
        "a": DataNode("a", 1),
        "b": Task("b", add, TaskRef("a"), 10),
        "same": Alias("same", "b"),
        "list": Task("list", sum, List(TaskRef("a"), TaskRef("same"), 100)),
        "dict": Task("dict", sorted, Dict({"x": TaskRef("b"), "y": 2})),
        "inner": Task("inner", add, Task(None, inc, TaskRef("b")), 0),
        "named": Task("named", sorted, List(TaskRef("b"), TaskRef("a")), reverse=True),
    }
    assert get(graph, ["same", "list", ["dict", "inner"], "named", "a"]) == (
        11,
        112,
        (["x", "y"], 12),
        [11, 1],
        1,
    )


class Doubling(Task):
    def __call__(self, values=()):
        return 2 * super().__call__(values)


def test_nodes_of_other_classes_run_themselves(get):
    graph = {"a": Task("a", inc, 1), "b": Doubling("b", inc, TaskRef("a"))}
    assert get(graph, "b") == 6


def test_fused_tasks_are_taken_apart(get):
    a = Task("a", inc, TaskRef("outside"))
    b = Task("b", add, TaskRef("a"), TaskRef("a"))
    graph = {"outside": Task("outside", inc, 0), "c": Task.fuse(a, b, key="c")}
    assert get(graph, "c") == 4


def test_cycles_are_refused(get):
    graph = {"a": Task("a", inc, TaskRef("b")), "b": Task("b", inc, TaskRef("a"))}
    with pytest.raises(RuntimeError, match="Cycle"):
        get(graph, "a")
    with pytest.raises(RuntimeError, match="alias of itself"):
        get({"a": Alias("a", "b"), "b": Alias("b", "a")}, "a")


def test_missing_dependencies_are_refused(get):
    with pytest.raises(ValueError, match="Missing dependency 'b' of 'a'"):
        get({"a": Task("a", inc, TaskRef("b"))}, "a")


def pairs(count):
    """Tasks that need the same two, and no other does, so many times."""
    graph = {}
    for i in range(count):
        for name in "ab":
            graph[name, i] = Task((name, i), inc, i)
        for name in "cd":
            graph[name, i] = Task((name, i), add, TaskRef(("a", i)), TaskRef(("b", i)))
    return graph


def groups(graph, keys, executors=1):
    nodes = _groups.as_dict(graph)
    found = _groups.together(_groups.Needed(nodes, keys), set(keys), executors)
    return [(set(group.keys), set(group.results)) for group in found]


def test_chains_are_one_task():
    graph = {"x0": 0, **{f"x{i + 1}": (inc, f"x{i}") for i in range(4)}, "y": (inc, "x2")}
    assert groups(graph, ["x4", "y"]) == [
        ({"x1", "x2"}, {"x2"}),
        ({"y"}, {"y"}),
        ({"x3", "x4"}, {"x4"}),
    ] or groups(graph, ["x4", "y"]) == [
        ({"x1", "x2"}, {"x2"}),
        ({"x3", "x4"}, {"x4"}),
        ({"y"}, {"y"}),
    ]


def test_what_is_asked_for_in_a_chain_is_not_lost(get):
    graph = {"x0": 0, **{f"x{i + 1}": (inc, f"x{i}") for i in range(200)}}
    assert get(graph, ["x200", "x3", "x77"]) == (200, 3, 77)


def test_what_is_taken_apart_is_one_task(get):
    from operator import getitem

    graph = {"all": (divmod, 7, 3), "q": (getitem, "all", 0), "r": (getitem, "all", 1)}
    graph["sum"] = (add, "q", "r")
    assert groups(graph, ["sum"]) == [({"all", "q", "r"}, {"q", "r"}), ({"sum"}, {"sum"})]
    assert get(graph, ["sum", "r"]) == (3, 1)


def test_tasks_that_share_what_they_need_run_together_if_there_are_many():
    keys = [(name, i) for i in range(100) for name in "cd"]
    few, many = groups(pairs(100), keys, executors=100), groups(pairs(100), keys)
    assert len(few) == 400
    assert len(many) == 100
    assert all(len(results) == 2 for _, results in many)


def test_tasks_run_in_the_order_of_dask():
    with mh.Client("local", workers=1) as client:
        graph = {("leaf", i): Task(("leaf", i), time.monotonic_ns) for i in range(30)}
        graph |= {
            ("pair", i): Task(
                ("pair", i), make_list, TaskRef(("leaf", i)), TaskRef(("leaf", 29 - i))
            )
            for i in range(15)
        }
        sending = Sending(client, graph, list(graph), None)
        ordered = [group.head for group in sending.groups if group.head[0] == "leaf"]
        values = sending.values()
        assert sorted(ordered, key=values.__getitem__) == ordered


def test_shared_groups_give_the_right_values(get):
    keys = [("d", i) for i in range(2000)]
    assert get(pairs(2000), keys) == tuple(2 * (i + 1) for i in range(2000))


def test_constants_that_many_tasks_use_are_sent_once(local):
    shared = {"some": "constant" * 100}
    graph = {i: Task(i, len, shared) for i in range(50)}
    sending = Sending(local, graph, list(graph), None)
    sizes = [len(mh._core.encode(written.work())[1]) for written in sending.written]
    assert sizes[0] > 800 and max(sizes[1:]) < 100
    assert set(sending.values().values()) == {1}


def test_large_data_is_an_input(local):
    data = np.arange(100_000.0)
    graph = {"data": DataNode("data", data)}
    graph |= {i: Task(i, np.sum, TaskRef("data")) for i in range(20)}
    sending = Sending(local, graph, range(20), None)
    assert all(len(mh._core.encode(w.work())[1]) < 1000 for w in sending.written)
    assert set(sending.values().values()) == {data.sum()}


def test_lambdas_and_closures_travel(get):
    n = 5
    graph = {("k", i): ((lambda x: x + n), i) for i in range(10)}
    assert get(graph, list(graph)) == tuple(range(5, 15))


# Collections.


def test_arrays():
    x = da.arange(10_000, chunks=500).reshape(100, 100)
    expected = np.arange(10_000).reshape(100, 100)
    np.testing.assert_array_equal((x + x.T).compute(), expected + expected.T)
    assert x.sum(axis=1).std().compute() == expected.sum(axis=1).std()


def test_arrays_over_arrays_of_numpy(local):
    data = np.arange(1_000_000.0)
    x = da.from_array(data, chunks=100_000)
    assert x.sum().compute() == data.sum()
    assert (x[::2] * 2).max().compute() == data[::2].max() * 2


def test_random_arrays_repeat_themselves():
    one = da.random.default_rng(3).random((200, 200), chunks=50)
    assert one.sum().compute() == one.sum().compute(scheduler="sync")


def test_bags():
    words = db.from_sequence(["a", "b", "a", "c"] * 10, npartitions=4)
    assert dict(words.frequencies().compute()) == {"a": 20, "b": 10, "c": 10}
    assert words.groupby(lambda word: word).count().compute() == 3


def test_frames():
    pd = pytest.importorskip("pandas")
    import dask.dataframe as dd

    frame = pd.DataFrame({"k": np.arange(1000) % 7, "v": np.arange(1000.0)})
    parts = dd.from_pandas(frame, npartitions=5)
    pd.testing.assert_series_equal(
        parts.groupby("k").v.mean().compute().sort_index(), frame.groupby("k").v.mean()
    )
    shuffled = parts.shuffle("k", shuffle_method="tasks").compute()
    pd.testing.assert_frame_equal(shuffled.sort_values("v"), frame)


def test_delayed():
    double = dask.delayed(lambda x: 2 * x)
    assert dask.delayed(sum)([double(i) for i in range(10)]).compute() == 90
    assert dask.compute({"a": double(1)}, [double(2)], 3) == ({"a": 2}, [4], 3)


def test_xarray():
    xr = pytest.importorskip("xarray")
    values = np.arange(4 * 6 * 5.0).reshape(4, 6, 5)
    cube = xr.DataArray(values, dims=("time", "lat", "lon")).chunk({"time": 2, "lat": 3})
    anomaly = cube - cube.mean("time")
    np.testing.assert_allclose(anomaly.compute().values, values - values.mean(axis=0))
    days = xr.Dataset({"t": cube.assign_coords(time=[0, 0, 1, 1])})
    mean = days.groupby("time").mean().compute().t.sel(time=1)
    np.testing.assert_allclose(mean.values, values[2:].mean(axis=0))


def test_persisted_collections_stay_in_the_cluster(local):
    x = da.random.default_rng(1).random((400, 400), chunks=100)
    (kept,) = dask.persist(x)
    held = [value for value in kept.dask.values() if isinstance(value, mh.Future)]
    assert len(held) == 16
    np.testing.assert_array_equal(kept.compute(), x.compute(scheduler="sync"))
    assert (kept + 1).sum().compute() == pytest.approx(x.sum().compute(scheduler="sync") + 160_000)


def test_the_name_is_known_to_dask(local):
    with dask.config.set(scheduler="manyhands"):
        assert da.ones(10, chunks=5).sum().compute() == 10


# Errors.


class Odd(Exception):
    pass


def refuse(x):
    if x == 3:
        raise Odd(f"not {x}")
    return x


def test_errors_are_raised_and_name_the_task(get):
    graph = {("part", i): (refuse, i) for i in range(5)}
    graph["sum"] = (sum, list(graph))
    with pytest.raises(Odd, match="not 3") as caught:
        get(graph, "sum")
    assert "('part', 3)" in caught.value.__notes__[0]
    assert get({"x": (refuse, 1)}, "x") == 1


def test_what_raised_can_be_run_again_here(get):
    here = []

    def refused(x):
        here.append(x)
        raise Odd(f"not {x}")

    graph = {"a": (inc, 1), "b": (refused, "a"), "c": (inc, "b")}
    with pytest.raises(Odd, match="not 2"):
        get(graph, "c")
    assert not here
    with pytest.raises(Odd, match="not 2"):
        get(graph, "c", rerun_exceptions_locally=True)
    assert here == [2]


def test_what_cannot_be_pickled_is_named(get):
    lock = threading.Lock()
    with pytest.raises(TypeError, match="lock") as caught:
        get({"here": (repr, lock)}, "here")
    assert "in Dask's task 'here'" in caught.value.__notes__


def test_options_are_those_of_the_tasks(get, tmp_path):
    tried = tmp_path / "tried"

    def succeed_later():
        with tried.open("a") as file:
            file.write("x")
        if tried.stat().st_size < 3:
            raise Odd
        return 7

    with pytest.raises(Odd):
        get({"a": (succeed_later,)}, "a")
    assert get({"a": (succeed_later,)}, "a", retries=2) == 7


# Callbacks.


def test_a_bar_reaches_its_end(capsys):
    with ProgressBar():
        da.ones(100, chunks=10).sum().compute()
    assert "100% Completed" in capsys.readouterr().out


def test_a_bar_ends_when_a_task_fails(capsys, get):
    with pytest.raises(Odd), ProgressBar():
        get({"a": (refuse, 3)}, "a")
    assert not Callback.active


def test_callbacks_see_every_result(get):
    began, seen, ends = [], {}, []

    def posttask(key, value, graph, state, worker):
        seen[key] = value
        assert key in state["finished"]

    watching = Callback(
        pretask=lambda key, graph, state: began.append(key),
        posttask=posttask,
        finish=lambda graph, state, failed: ends.append(failed),
    )
    graph = {"x": 1, "y": (inc, "x"), "z": (add, "y", "y"), "other": (inc, 1)}
    with watching:
        assert get(graph, "z") == 4
    assert began == ["y", "z"]
    assert seen == {"y": 2, "z": 4}
    assert ends == [False]


def test_a_profiler_knows_every_task():
    with Profiler() as profiler:
        da.ones((100, 100), chunks=50).sum().compute()
    assert len(profiler.results) >= 5


# Dask's own tests, of which a fixed part runs here. `conformance_dask/run` runs all.

PART = {
    "array": "test_reductions or test_elemwise_on_scalars or "
    "test_concatenate or test_rechunk or test_slicing or test_blockwise",
    "bag": "test_fold or test_groupby or test_take or test_join or test_map",
    "delayed": "test_nout or test_kwargs or test_array or test_attributes or test_lists",
    "groupby": "test_groupby_dir or test_groupby_multilevel_getitem",
    "shuffle": "test_partitioning_index or test_rearrange",
}


@pytest.mark.parametrize("file", PART)
def test_a_part_of_dasks_own_tests(file):
    here = Path(__file__).parent / "conformance_dask"
    command = [sys.executable, str(here / "run"), "--schedulers", "manyhands"]
    done = subprocess.run(
        [*command, "--files", file, "-k", PART[file]],
        capture_output=True,
        text=True,
        timeout=20 * LIMIT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
