"""joblib's own tests of `Parallel`, with our backend in the place of loky, its default.

    python tests/conformance/joblib_parallel.py     # the numbers, and what failed that should not
    python tests/conformance/joblib_parallel.py -v  # every test

The tests are those of the joblib that is installed (`joblib.test.test_parallel`); nothing of them
is copied. Tests of joblib's other backends are left out. What cannot apply to ours is listed below,
with the reason, and is run all the same: a test of the list that passes is told of.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import joblib
import joblib._parallel_backends
import joblib.parallel
import manyhands
import pytest
from manyhands.joblib import ManyhandsBackend

_NESTED = (
    "asserts that nested calls use threads of one process; here they run on the cluster where they "
    "ask for n_jobs"
)
_DEFAULT = (
    "asserts that n_jobs is 1 where nobody has asked for a backend; ours is never the default, and "
    "where it is asked for it means all executors, as joblib's backend for Dask does"
)
_MAPPED = (
    "asserts that large arguments are numpy.memmap objects over files of a temporary folder; here "
    "they are read-only arrays over the object store"
)

CANNOT_APPLY = {
    "test_effective_n_jobs_None": (
        "takes -1 of this backend for the cores of this machine; it is all executors of the cluster"
    ),
    "test_nested_parallel_warnings[loky-multiprocessing-True]": (
        "asserts the warning that multiprocessing cannot be used within loky; within a task it can"
    ),
    "test_nested_parallel_warnings[threading-loky-True]": (
        "asserts the warning that loky cannot be used within threads; this backend can"
    ),
    "test_nested_backend_context_manager": _NESTED,
    "test_nested_parallelism_limit": _NESTED,
    "test_nested_backend_in_sequential": _DEFAULT,
    "test_auto_memmap_on_arrays_from_generator[loky]": _MAPPED,
    "test_memmapping_leaks[loky]": _MAPPED,
    "test_threadpool_limitation_in_child_override": (
        "sets variables of this process's environment and looks for them in the workers; executors "
        "have the environment that their cluster was started with (`Client(env=...)`)"
    ),
    "test_initializer_not_reused": (
        "asserts that other processes are started for another initializer; here executors are used "
        "again, and each use runs its own initializer"
    ),
}
"""Reasons by the name of a test, or by a name with its
    parameters."""

INDEPENDENT = "test_multiple_generator_call_separated_gc"
"""What this test expects of joblib's threads, and not of loky, is so here: two generators do not
disturb each other. It is run as for threads."""

OTHERS = {"threading", "multiprocessing", "sequential"}
"""Backends of joblib that are not tested here."""


def install() -> None:
    """Puts our backend where joblib has loky. Before its tests are imported."""
    joblib.parallel.BACKENDS["loky"] = ManyhandsBackend
    joblib._parallel_backends.LokyBackend = ManyhandsBackend


class Outcomes:
    """A plugin of pytest that picks the tests, and notes what became of each."""

    def __init__(self) -> None:
        self.of: dict[str, str] = {}
        self.left_out = 0

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        ours = [item for item in items if is_ours(item)]
        self.left_out = len(items) - len(ours)
        items[:] = ours
        for item in ours:
            if item.name.startswith(INDEPENDENT):
                item.callspec.params["error"] = False

    def pytest_runtest_logreport(self, report: Any) -> None:
        test = report.nodeid.partition("::")[2]
        if report.skipped:
            self.of[test] = "expected to fail" if hasattr(report, "wasxfail") else "skipped"
        elif report.failed:
            self.of[test] = str(report.longrepr)
        elif report.when == "call":
            self.of.setdefault(test, "passed")


def is_ours(item: Any) -> bool:
    """Whether a test uses our backend: by default, or in the place of loky."""
    parameters = getattr(item, "callspec", None)
    values = [] if parameters is None else list(parameters.params.values())
    if any(value == "loky" for value in values if isinstance(value, str)):
        return True
    return not any(is_other(value) for value in values)


def is_other(value: object) -> bool:
    if isinstance(value, str):
        return value in OTHERS or value == "spawn"
    if hasattr(value, "Pool") and hasattr(value, "Lock"):
        return True
    backend = joblib._parallel_backends.ParallelBackendBase
    return isinstance(value, backend) and not isinstance(value, ManyhandsBackend)


def reason(test: str) -> str | None:
    """Why a test cannot apply, if it is of those that cannot."""
    return CANNOT_APPLY.get(test) or CANNOT_APPLY.get(test.partition("[")[0])


def outcomes(*options: str) -> Outcomes:
    """Runs all tests on a cluster of this machine."""
    install()
    found = Outcomes()
    tests = Path(joblib.__file__).parent / "test" / "test_parallel.py"
    arguments = [str(tests), "-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--tb=short"]
    # As many executors as the largest of the tests asks for.
    manyhands.Client("local", workers=4, preload=["joblib", "numpy"]).__enter__()
    pytest.main([*arguments, *options], plugins=[found])
    return found


def main() -> int:
    """Prints the numbers; 1 if a test failed that should not."""
    found = outcomes("--no-header", "-r", "N", *[o for o in sys.argv[1:] if o != "-v"])
    every = "-v" in sys.argv[1:]
    failed = {test: came for test, came in found.of.items() if came not in FINE}
    unexpected = {test: came for test, came in failed.items() if reason(test) is None}
    for test, came in found.of.items():
        why = reason(test)
        if why is not None:
            print(f"{test}: cannot apply: {why}" + ("" if test in failed else " (yet it passed)"))
        elif every or test in unexpected:
            print(f"{test}: {came}")
    count = list(found.of.values()).count
    print(
        f"joblib {joblib.__version__}: {len(found.of)} tests, {count('passed')} passed, "
        f"{count('skipped')} skipped by themselves, {count('expected to fail')} expected to fail, "
        f"{len(failed) - len(unexpected)} cannot apply, {len(unexpected)} failed; "
        f"{found.left_out} of other backends left out"
    )
    return 1 if unexpected else 0


FINE = ("passed", "skipped", "expected to fail")

if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # Processes that tests which failed have left behind are not waited for.
    os._exit(code)
