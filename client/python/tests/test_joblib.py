"""The backend of joblib: what `Parallel` and scikit-learn do on it."""

import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import manyhands as mh
import pytest
from conftest import LIMIT_S, pass_gate

joblib = pytest.importorskip("joblib")
numpy = pytest.importorskip("numpy")

import manyhands.joblib as backend  # noqa: E402
from joblib import Parallel, delayed  # noqa: E402

CONFORMANCE = Path(__file__).parent / "conformance"


@pytest.fixture
def parallel(client):
    """Within it joblib uses the cluster."""
    with joblib.parallel_config("manyhands", client=client):
        yield Parallel


def square(x):
    return x * x


def total(array, times):
    return float(array.sum()) * times


def is_writable(array):
    return array.flags.writeable


def fail(x):
    if x == 7:
        raise ValueError("seven")
    return x


def nested(n):
    return Parallel(n_jobs=2)(delayed(square)(x) for x in range(n))


def test_calls(parallel):
    assert parallel()(delayed(square)(x) for x in range(200)) == [x * x for x in range(200)]
    assert parallel()(delayed(lambda x: x + 1)(x) for x in range(3)) == [1, 2, 3]


def test_all_executors_are_meant_by_minus_one(client):
    found = backend.ManyhandsBackend(client=client)
    assert found.effective_n_jobs(-1) == 2
    assert found.effective_n_jobs(-2) == 1
    assert found.effective_n_jobs(5) == 5
    with pytest.raises(ValueError, match="no meaning"):
        found.effective_n_jobs(0)


def test_results_come_as_they_end(parallel, gate):
    def wait(x):
        return pass_gate(gate) if x == 0 else x

    results = parallel(n_jobs=2, return_as="generator_unordered", batch_size=1)(
        delayed(wait)(x) for x in range(6)
    )
    assert sorted(next(results) for _ in range(5)) == [1, 2, 3, 4, 5]
    gate.open()
    assert list(results) == [None]


def test_an_array_that_is_passed_to_many_is_put_once(local, monkeypatch):
    puts = []
    original = mh.Client.put
    monkeypatch.setattr(mh.Client, "put", lambda self, v: puts.append(id(v)) or original(self, v))
    array = numpy.ones(500_000)
    with joblib.parallel_config("manyhands", client=local):
        found = Parallel(batch_size=1)(delayed(total)(array, times=n) for n in range(50))
    assert found == [500_000.0 * n for n in range(50)]
    assert puts == [id(array)]


def test_only_large_arrays_are_read_only(parallel):
    arrays = [numpy.ones(10), numpy.ones(50_000), numpy.ones(500_000)]
    calls = [delayed(is_writable)(array) for array in arrays]
    assert parallel()(calls) == [True, True, False]
    assert parallel(max_nbytes=None)(calls) == [True] * 3
    assert parallel(mmap_mode="c")(calls) == [True] * 3


def test_arrays_over_files_are_shared(local, tmp_path):
    shared = numpy.memmap(tmp_path / "array", dtype=float, shape=200_000, mode="w+")

    def fill(array, at):
        array[at] = at

    with joblib.parallel_config("manyhands", client=local):
        Parallel()(delayed(fill)(shared, at) for at in range(10))
    assert list(shared[:10]) == list(range(10))


def test_an_error_ends_the_rest(parallel, gate):
    with pytest.raises(ValueError, match="seven"):
        parallel(batch_size=1, pre_dispatch="all")(
            [delayed(fail)(7)] + [delayed(pass_gate)(gate) for _ in range(20)]
        )
    assert parallel()(delayed(square)(x) for x in range(3)) == [0, 1, 4]


def test_what_cannot_be_pickled_fails(parallel):
    with pytest.raises(pickle.PicklingError, match=r"the task to send.*lock"):
        parallel()(delayed(square)(threading.Lock()) for _ in range(3))


def test_calls_within_calls(parallel):
    assert parallel()(delayed(nested)(n) for n in (3, 4)) == [[0, 1, 4], [0, 1, 4, 9]]


def test_no_more_batches_at_one_time_than_jobs(local, tmp_path):
    def alone(path):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        os.unlink(path)

    batches = backend._Batches(local, 1, None, (None, ()), None, {}, tells=True)
    done = threading.Semaphore(0)
    nested = joblib.parallel.SequentialBackend(nesting_level=1), None
    calls = [joblib.parallel.BatchedCalls([delayed(alone)(str(tmp_path / "x"))], nested)] * 20
    begun = [batches.submit(call, lambda _: done.release()) for call in calls]
    for _ in begun:
        assert done.acquire(timeout=LIMIT_S), "a batch has not ended"
    assert [batch.result() for batch in begun] == [[None]] * 20


def test_options_are_those_of_tasks(client):
    with (
        joblib.parallel_config("manyhands", client=client, time_limit=0.2),
        pytest.raises(mh.TimeLimit),
    ):
        Parallel()(delayed(spin)() for _ in range(2))


def spin():
    while True:
        pass


def test_scikit_learn(local):
    pytest.importorskip("sklearn")
    from sklearn.datasets import load_breast_cancer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = load_breast_cancer(return_X_y=True)
    grid = {"logisticregression__C": [0.1, 1.0]}
    model = make_pipeline(StandardScaler(), LogisticRegression())
    alone = GridSearchCV(model, grid, n_jobs=1).fit(x, y)
    forest = RandomForestClassifier(20, random_state=0, n_jobs=1).fit(x, y).predict_proba(x)
    with joblib.parallel_config("manyhands", client=local):
        found = GridSearchCV(model, grid, n_jobs=-1).fit(x, y)
        trees = RandomForestClassifier(20, random_state=0, n_jobs=-1).fit(x, y).predict_proba(x)
    assert found.best_params_ == alone.best_params_
    assert found.best_score_ == pytest.approx(alone.best_score_)
    assert numpy.allclose(trees, forest)


@pytest.mark.skipif(
    not os.environ.get("MANYHANDS_ALL_TESTS"),
    reason="joblib's own tests take minutes: set MANYHANDS_ALL_TESTS for them",
)
def test_the_tests_of_joblib():
    done = subprocess.run(
        [sys.executable, str(CONFORMANCE / "joblib_parallel.py")],
        capture_output=True,
        text=True,
        timeout=20 * LIMIT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 failed" in done.stdout
