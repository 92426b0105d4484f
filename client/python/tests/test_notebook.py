"""The notebook of the examples, run as Jupyter runs it: progress, a graph, an error."""

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

NOTEBOOK = Path(__file__).resolve().parents[3] / "examples" / "python" / "notebook.ipynb"


@pytest.fixture(scope="module")
def cells():
    """The cells that hold code, after they have run. The kernel is this interpreter."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(cells, source):
    """All that the one cell with `source` in it shows: its outputs, by kind and as text."""
    (cell,) = [cell for cell in cells if source in cell.source]
    return cell.outputs


def shown(found, mime):
    """The outputs that have something of this type to show."""
    return ["".join(output.data[mime]) for output in found if mime in output.get("data", {})]


def test_no_cell_fails_but_the_one_that_shall(cells):
    failed = [cell.source for cell in cells for o in cell.outputs if o.output_type == "error"]
    assert len(failed) == 1 and "reciprocal" in failed[0], failed


def test_progress_is_shown_and_ends_full(cells):
    (bar,) = shown(outputs(cells, "mh.progress("), "text/html")
    assert "<progress" in bar and "200/200" in bar


def test_what_was_computed_is_right(cells):
    (best,) = shown(outputs(cells, "max(zip("), "text/plain")
    numbers = range(20_000, 20_200)
    divisors = [sum(1 for d in range(1, n + 1) if n % d == 0) for n in numbers]
    assert best == str(max(zip(divisors, numbers, strict=True)))
    assert shown(outputs(cells, "total.compute()"), "text/plain") == ["4"]


def test_the_graph_is_a_picture(cells):
    pictures = shown(outputs(cells, "mh.visualize("), "image/svg+xml")
    assert len(pictures) == 1
    assert pictures[0].lstrip().startswith(("<svg", "<?xml"))
    assert pictures[0].count("count") >= 4 and pictures[0].count("add") >= 3


def test_the_error_is_shown_with_the_traceback_of_the_executor(cells):
    (error,) = [o for o in outputs(cells, "def reciprocal") if o.output_type == "error"]
    assert error.ename == "ZeroDivisionError"
    text = "\n".join(error.traceback)
    assert "reciprocal" in text
    assert "return 1 / number" in text, "the line that failed, from the executor"
