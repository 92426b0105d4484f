"""Functions as tasks, and graphs of them."""

import inspect
import operator
import xml.etree.ElementTree as ElementTree

import cloudpickle
import manyhands as mh
import pytest
from conftest import LIMIT_S, pass_gate


@mh.task
def add(a, b=1):
    """Adds."""
    return a + b


@mh.task(retries=1, nout=2)
def split(x):
    return x // 10, x % 10


def test_a_task_is_its_function():
    assert add(1, b=2) == 3
    assert add.__doc__ == "Adds." and add.__name__ == "add"
    assert inspect.signature(add) == inspect.signature(lambda a, b=1: None)
    assert "add" in repr(add)


def test_lazy_and_compute(client):
    three = add.lazy(1, 2)
    assert mh.compute(add.lazy(three, b=three), client=client) == 6
    assert three.compute(client=client) == 3


def test_targets_in_collections(client):
    one, two = add.lazy(0), add.lazy(1)
    found = mh.compute({"a": one, "b": [two, (one, 5)]}, two, client=client)
    assert found == ({"a": 1, "b": [2, (1, 5)]}, 2)
    assert mh.compute(7, client=client) == 7


def test_a_shared_node_runs_once(client, tmp_path):
    seen = tmp_path / "seen"

    def once(x):
        with seen.open("a") as file:
            file.write("x")
        return x

    node = mh.delayed(once)(3)
    total = mh.delayed(sum)([node, node, mh.delayed(operator.neg)(node)])
    assert mh.compute(total, node, client=client) == (3, 3)
    assert seen.read_text() == "x"


def test_persist_keeps_results(client, tmp_path):
    seen = tmp_path / "seen"

    def once():
        with seen.open("a") as file:
            file.write("x")
        return 4

    node = mh.delayed(once)()
    future = mh.persist(node, client=client)
    assert isinstance(future, mh.Future) and future.result(LIMIT_S) == 4
    assert mh.compute(add.lazy(node), client=client) == 5
    assert seen.read_text() == "x"


def test_parts(client):
    tens, ones = split.lazy(42)
    assert mh.compute(add.lazy(tens, ones), client=client) == 6
    futures = client.submit(split, 42)
    assert client.gather(futures) == [4, 2]


def test_submit_uses_the_default_client(local):
    with mh.Client("local", workers=1) as client:
        future = add.submit(2)
        assert future.client is client and future.result(LIMIT_S) == 3
        assert list(add.map([1, 2], [3, 4])) == [4, 6]


def test_futures_in_graphs(client):
    future = client.submit(abs, -4)
    assert mh.compute(add.lazy(future, client.put(1)), client=client) == 5


def test_nodes_in_values_that_are_large(client):
    nodes = [add.lazy(n) for n in range(10_000)]
    total = mh.delayed(lambda value: (sum(value["nodes"]), len(value["bytes"])))
    node = total({"nodes": nodes, "bytes": b"x" * 70_000})
    assert node.compute(client=client) == (sum(range(10_001)), 70_000)


def test_options_of_a_task(client, gate):
    limited = add.options(time_limit=30, retries=2)
    assert limited(1) == 2 and limited.lazy(2).compute(client=client) == 3
    with pytest.raises(TypeError):
        add.options(retrys=2)
    slow = mh.task(time_limit=0.05)(pass_gate)
    with pytest.raises(mh.TimeLimit):
        client.submit(slow, gate).result(LIMIT_S)


class Account:
    def __init__(self, balance):
        self.balance = balance

    @mh.task
    def plus(self, amount):
        return self.balance + amount


def test_methods(client):
    account = Account(10)
    assert account.plus(5) == 15
    assert account.plus.lazy(5).compute(client=client) == 15
    assert isinstance(Account.plus, mh.Task)


def test_a_task_of_a_module_is_pickled_by_its_name(script, tmp_path):
    (tmp_path / "tasks.py").write_text("import manyhands as mh\n\n@mh.task\ndef f(): pass\n")
    done = script("import pickle, tasks; print(pickle.loads(pickle.dumps(tasks.f)) is tasks.f)")
    assert done.stdout == "True\n"


def test_tasks_travel():
    changed = cloudpickle.loads(cloudpickle.dumps(add.options(retries=2)))
    assert changed(1) == 2 and changed is not add

    @mh.task
    def local_task(n):
        return n and local_task(n - 1) + 1

    assert cloudpickle.loads(cloudpickle.dumps(local_task))(3) == 3


def test_delayed(client):
    inc = mh.delayed(lambda x: x + 1)
    assert mh.delayed(sum)([inc(i) for i in range(4)]).compute(client=client) == 10
    assert mh.compute(*mh.delayed(divmod, nout=2)(7, 3), client=client) == (2, 1)
    with pytest.raises(TypeError, match="not a function"):
        mh.delayed(3)


def test_a_node_is_neither_true_nor_false():
    with pytest.raises(TypeError, match="whether <Lazy add> is true"):
        assert add.lazy(1, 2)


def test_a_number_of_parts_that_makes_no_sense_is_refused(client):
    for make in (
        lambda: mh.task(nout=0)(divmod),
        lambda: add.options(nout=0),
        lambda: mh.delayed(divmod, nout=-1),
        lambda: client.options(nout=0),
    ):
        with pytest.raises(ValueError, match="nout must be at least 1"):
            make()
    with pytest.raises(AttributeError, match="`nout` has no 'map'"):
        client.options(nout=2).map  # noqa: B018


def test_a_graph_that_fails(client):
    broken = mh.delayed(operator.truediv)(1, 0)
    with pytest.raises(ZeroDivisionError):
        mh.compute(add.lazy(broken), client=client)


def test_a_large_graph(client):
    leaves = [add.lazy(n) for n in range(2000)]
    while len(leaves) > 1:
        leaves = [mh.delayed(sum)(leaves[i : i + 10]) for i in range(0, len(leaves), 10)]
    assert leaves[0].compute(client=client) == sum(range(1, 2001))


def test_a_deep_graph(client):
    node = add.lazy(0)
    for _ in range(2000):
        node = add.lazy(node)
    assert node.compute(client=client) == 2001


def test_order_without_data(client, tmp_path):
    def note(text):
        with (tmp_path / "notes").open("a") as file:
            file.write(text)

    first = mh.delayed(note)("a")
    second = mh.delayed(note)("b").after(first)
    mh.compute(second, client=client)
    assert (tmp_path / "notes").read_text() == "ab"


def test_pictures(tmp_path):
    node = add.lazy(add.lazy(1), split.lazy(5)[0])
    graph = mh.visualize(node, filename=tmp_path / "graph.svg")
    assert ElementTree.fromstring(graph.svg).tag.endswith("svg")
    assert graph._repr_svg_() == graph.svg == (tmp_path / "graph.svg").read_text()
    assert graph.svg.count("add") >= 2 and "split" in graph.svg
    graph.save(tmp_path / "graph.dot")
    assert (tmp_path / "graph.dot").read_text().startswith("digraph")
    assert node._repr_svg_() == graph.svg
    assert "Graph" in repr(node.visualize())


def test_progress_of_a_graph(client, capsys):
    total = mh.delayed(sum)([add.lazy(n) for n in range(20)])
    assert mh.compute(total, client=client, progress="adding") == 210
    assert "adding" in capsys.readouterr().err


def test_a_generator_function_is_no_node():
    def items():
        yield 1

    with pytest.raises(TypeError, match="generator function"):
        mh.delayed(items)()


def test_a_picture_is_written_as_its_name_says(tmp_path):
    node = mh.delayed(abs)(-1)
    with pytest.raises(ValueError, match=r"\.svg or \.dot"):
        node.visualize(filename=str(tmp_path / "x.png"))
    assert not list(tmp_path.iterdir())
    mh.visualize(node, filename=tmp_path / "x.dot")
    mh.visualize(node, filename=tmp_path / "x.svg")
    assert (tmp_path / "x.dot").read_text().startswith("digraph")
    assert (tmp_path / "x.svg").read_text().startswith("<svg")
