"""Each example, in local mode and over daemons, against a computation in one process."""

import csv
from collections import Counter
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "python"
FLIGHTS = EXAMPLES.parents[1] / "data" / "flights"

needs_flights = pytest.mark.skipif(
    not FLIGHTS.is_dir(), reason=f"{FLIGHTS} is not there: `make data` sets it up"
)


@needs_flights
def test_flights_with_pandas(client):
    pandas = pytest.importorskip("pandas")
    import flights_pandas

    found, expected = flights_pandas.analyse(client), flights_pandas.alone()
    assert list(found) == list(expected)
    for by, groups in expected.items():
        pandas.testing.assert_frame_equal(found[by], groups)
    # A plain pass over the table, which shares no code with the example.
    carriers = Counter(row["carrier"] for row in departures())
    airlines = {row["carrier"]: row["name"] for row in table("airlines")}
    assert dict(found["carriers"].scheduled) == {
        airlines[carrier]: count for carrier, count in carriers.items()
    }
    assert found["hours"].scheduled.sum() == 336_776
    assert found["weather"].cancelled.sum() == 8_255


@needs_flights
def test_flights_with_dask(client):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("dask.dataframe")
    import flights_dask

    found, expected = flights_dask.analyse(client), flights_dask.alone()
    for by, groups in expected.items():
        pandas.testing.assert_frame_equal(
            found[by], groups, check_dtype=False, check_index_type=False
        )
    origins = Counter(row["origin"] for row in departures())
    assert dict(found["origin"].flights) == dict(origins)


def departures():
    """Every row of the table of departures."""
    for path in sorted((FLIGHTS / "parts").glob("*.csv")):
        with open(path) as part:
            yield from csv.DictReader(part)


def table(name):
    """Every row of one of the other tables."""
    with open(FLIGHTS / f"{name}.csv") as rows:
        yield from csv.DictReader(rows)


def test_images(client):
    numpy = pytest.importorskip("numpy")
    pytest.importorskip("skimage")
    import images

    found, outlines = images.analyse(client)
    expected, expected_outlines = images.alone()
    assert found == expected
    for name, outline, alone in zip(images.IMAGES, outlines, expected_outlines, strict=True):
        assert numpy.array_equal(outline, alone), name
    # The coins on the photograph can be counted.
    coins = next(image for image in found if image["name"] == "coins")
    assert coins["pixels"] == 303 * 384
    assert coins["regions"] >= 24


def test_random_search(client):
    pytest.importorskip("sklearn")
    import hyperparameters

    better = []
    scores = hyperparameters.random_search(client, 12, lambda *found: better.append(found))
    assert scores == hyperparameters.random_search_alone(12)
    parameters, best = better[-1]
    assert best == max(scores) > 0.9
    assert parameters == hyperparameters.candidates(12)[scores.index(best)]


def test_grid_search(client):
    numpy = pytest.importorskip("numpy")
    pytest.importorskip("sklearn")
    import hyperparameters

    found, expected = hyperparameters.grid_search(client), hyperparameters.fitted(n_jobs=1)
    assert found.best_params_ == expected.best_params_
    scores = "mean_test_score"
    assert numpy.array_equal(found.cv_results_[scores], expected.cv_results_[scores])


@pytest.mark.parametrize("tasks", [1, 7, 300])
def test_cpu_bound(client, tasks):
    import cpu_bound

    assert cpu_bound.search(client, 3_000, tasks) == cpu_bound.longest(1, 3_000) == (217, 2_919)


def test_shared_array(client):
    numpy = pytest.importorskip("numpy")
    import shared_array

    array, asked = shared_array.vectors(8), shared_array.questions(6)
    found = shared_array.search(client, client.put(array), asked)
    expected = [shared_array.nearest(array, question) for question in asked]
    assert numpy.array_equal(found, expected)
    # Independently: nothing is nearer than the first one, by other arithmetic.
    distance = numpy.linalg.norm(array.astype("float64") - asked[0], axis=1)
    assert found[0][0] == distance.argmin()


def test_an_array_that_was_put_cannot_be_written_to(client):
    pytest.importorskip("numpy")
    import shared_array

    table = client.put(shared_array.vectors(8))
    _, writeable, _ = client.submit(shared_array.own_memory, table).result()
    assert not writeable


def weather(path, rows=400):
    """A small table of the same shape, with unknown figures and a wind that cannot be."""
    header = "origin,temp,wind_speed,precip,time_hour"
    lines = [
        f"{'EWR' if n % 3 else 'JFK'},{'NA' if n % 7 == 0 else 30 + n % 50},"
        f"{1048.36 if n == 5 else n % 30},{'NA' if n % 11 == 0 else n % 4 / 100},"
        f"2013-{1 + n % 12:02}-01T{n % 24:02}:00:00Z"
        for n in range(rows)
    ]
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


@pytest.mark.parametrize("chunk_bytes", [1, 500, 1 << 20])
def test_csv_pipeline(client, tmp_path, chunk_bytes):
    import csv_pipeline

    source, out = weather(tmp_path / "weather.csv"), tmp_path / "cleaned.csv"
    sums = csv_pipeline.run(client, source, out, chunk_bytes)
    rows, expected = csv_pipeline.alone(source)
    assert sums == expected
    with open(out) as cleaned:
        written = list(csv.DictReader(cleaned))
    as_text = [{name: "" if row[name] is None else str(row[name]) for name in row} for row in rows]
    assert written == as_text
    assert len(written) == sum(1 for n in range(400) if n % 7)
    assert written[4]["wind_kmh"] == "", "1,048 miles an hour"


@needs_flights
def test_csv_pipeline_on_the_real_table(client, tmp_path):
    import csv_pipeline

    out = tmp_path / "cleaned.csv"
    sums = csv_pipeline.run(client, csv_pipeline.TABLE, out)
    rows, expected = csv_pipeline.alone(csv_pipeline.TABLE)
    assert sums == expected
    assert len(out.read_text().splitlines()) == 1 + len(rows)
    assert sum(hours for hours, _, _ in sums.values()) == len(rows) == 26_114
