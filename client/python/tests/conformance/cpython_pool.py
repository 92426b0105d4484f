"""CPython's own tests of `multiprocessing.Pool`, against `manyhands.Pool`.

    python tests/conformance/cpython_pool.py        # every test and its outcome, and the numbers

The tests are those of the interpreter that runs this (`test._test_multiprocessing`); nothing of
them is copied. What cannot apply to a pool whose processes are no children of this one is listed
below, with the reason, and is run all the same: a test of the list that passes is told of.
"""

from __future__ import annotations

import multiprocessing
import sys
import unittest
from typing import Any
from unittest import mock

import manyhands
from test import _test_multiprocessing as theirs

CANNOT_APPLY = {
    "_TestPoolWorkerErrors.test_unpickleable_result": (
        "the result that the test holds to be impossible to pickle is a lambda, and lambdas travel "
        "here; test_pool.py has the same with a lock"
    ),
    "_TestPoolWorkerLifetime.test_pool_worker_lifetime": (
        "looks into private parts: `Process` objects in `Pool._pool`, and `Pool._repopulate_pool`; "
        "executors are processes of the cluster's workers, maybe of another machine, and no "
        "children of this one"
    ),
}


class Ours(theirs.BaseMixin):
    """What the tests find in place of `multiprocessing`."""

    TYPE = "processes"
    Pool = staticmethod(manyhands.Pool)

    def setUp(self) -> None:
        super().setUp()
        # Some of the tests take the pool from where users take it.
        patch = mock.patch("multiprocessing.Pool", manyhands.Pool)
        patch.start()
        self.addCleanup(patch.stop)


class _TestPool(theirs._TestPool, Ours, unittest.TestCase):
    pass


class _TestPoolWorkerErrors(theirs._TestPoolWorkerErrors, Ours, unittest.TestCase):
    pass


class _TestPoolWorkerLifetime(theirs._TestPoolWorkerLifetime, Ours, unittest.TestCase):
    pass


CASES = (_TestPool, _TestPoolWorkerErrors, _TestPoolWorkerLifetime)


def suite() -> unittest.TestSuite:
    """All of them."""
    load = unittest.defaultTestLoader.loadTestsFromTestCase
    return unittest.TestSuite(load(case) for case in CASES)


def label(test: unittest.TestCase) -> str:
    """``class.method`` of a test."""
    return ".".join(test.id().split(".")[-2:])


class Outcomes(unittest.TestResult):
    """What became of each test: ``passed``, ``skipped: why``, or the traceback."""

    def __init__(self) -> None:
        super().__init__()
        self.of: dict[str, str] = {}

    def addSuccess(self, test: unittest.TestCase) -> None:
        self.of[label(test)] = "passed"

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self.of[label(test)] = f"skipped: {reason}"

    def addFailure(self, test: Any, err: Any) -> None:
        super().addFailure(test, err)
        self.of[label(test)] = self.failures[-1][1]

    def addError(self, test: Any, err: Any) -> None:
        super().addError(test, err)
        self.of[label(test)] = self.errors[-1][1]


def outcomes() -> dict[str, str]:
    """Runs all tests."""
    found = Outcomes()
    before = multiprocessing.get_start_method(allow_none=True)
    try:
        suite().run(found)
    finally:
        multiprocessing.set_start_method(before, force=True)
    return found.of


def main() -> int:
    """Prints what became of each test, and the numbers; 1 if one failed that should not."""
    found = outcomes()
    unexpected = 0
    for test, came in found.items():
        reason = CANNOT_APPLY.get(test)
        passed = came == "passed" or came.startswith("skipped")
        if reason is None:
            unexpected += not passed
            print(f"{test}: {came}")
        else:
            print(f"{test}: cannot apply: {reason}" + (" (and yet it passed)" if passed else ""))
    passed = sum(came == "passed" for came in found.values())
    skipped = sum(came.startswith("skipped") for came in found.values())
    listed = sum(found[test] != "passed" for test in CANNOT_APPLY if test in found)
    version = sys.version.split()[0]
    print(
        f"CPython {version}: {len(found)} tests, {passed} passed, {skipped} skipped by themselves, "
        f"{listed} cannot apply, {unexpected} failed"
    )
    return 1 if unexpected else 0


if __name__ == "__main__":
    # Methods of the test cases are called in executors, which find them by the module's name.
    import cpython_pool

    sys.exit(cpython_pool.main())
