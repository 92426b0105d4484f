"""What comes back from tasks that fail."""

import concurrent.futures
import os
import pickle
import signal
import time
import traceback

import manyhands as mh
import pytest
from conftest import LIMIT_S, pass_gate
from manyhands import _errors


def rebuild(text, not_here):
    if os.getpid() == not_here:
        raise OSError("not on this machine")
    return Stubborn(text, not_here)


class Stubborn(Exception):
    """Can be unpickled in any process but one."""

    def __reduce__(self):
        return (rebuild, self.args)


class Rich(Exception):
    def __init__(self, code, detail=None):
        super().__init__(code)
        self.code, self.detail = code, detail


def raise_(error):
    raise error


def deep():
    try:
        {}["missing"]
    except KeyError as error:
        raise RuntimeError("could not") from error


def test_exceptions_come_back_as_themselves(client):
    error = client.submit(raise_, Rich(7, {"a": 1})).exception(LIMIT_S)
    assert type(error) is Rich
    assert (error.code, error.detail) == (7, {"a": 1})


def test_exceptions_whose_init_wants_more_than_they_keep_come_back_as_themselves(client):
    class Odd(Exception):
        def __init__(self, a, b):
            super().__init__(f"{a} and {b}")
            self.pair = a, b

    def group():
        failed = ValueError("with another one")
        failed.reason = Odd(1, 2)
        raise ExceptionGroup("several", [Odd(3, 4), failed]) from Odd(5, 6)

    def one():
        raise Odd(7, 8)

    error = client.submit(one).exception(LIMIT_S)
    assert type(error) is Odd and error.pair == (7, 8)
    error = client.submit(group).exception(LIMIT_S)
    assert type(error) is ExceptionGroup
    odd, failed = error.exceptions
    assert type(odd) is Odd and odd.pair == (3, 4)
    assert type(failed) is ValueError and failed.reason.pair == (1, 2)


def test_the_cause_is_the_traceback_of_the_executor(client):
    with pytest.raises(RuntimeError, match="could not") as caught:
        client.submit(deep).result(LIMIT_S)
    cause = caught.value.__cause__
    assert isinstance(cause, mh.RemoteTraceback)
    assert 'raise RuntimeError("could not") from error' in str(cause)
    assert "KeyError: 'missing'" in str(cause), "what it was raised from"
    assert cause.name == "deep" and cause.task and cause.pid != os.getpid()
    shown = "".join(traceback.format_exception(caught.value))
    assert "in deep" in shown and cause.task in shown


def test_exceptions_that_cannot_be_rebuilt_come_as_text(client):
    def fail(pid):
        raise Stubborn("no way", pid)

    error = client.submit(fail, os.getpid()).exception(LIMIT_S)
    assert type(error) is mh.RemoteError
    assert "Stubborn" in error.type_name and "no way" in str(error)
    assert "not on this machine" in error.__notes__[0]
    assert "raise Stubborn" in error.traceback


def test_exceptions_that_cannot_be_pickled_come_as_text(client):
    def fail():
        error = ValueError("with a lock")
        error.lock = __import__("threading").Lock()
        raise error

    error = client.submit(fail).exception(LIMIT_S)
    assert "with a lock" in str(error)


def test_results_that_cannot_be_pickled_say_so(client):
    def fail():
        return {"handle": __import__("threading").Lock()}

    with pytest.raises(TypeError, match=r"\['handle'\].*lock"):
        client.submit(fail).result(LIMIT_S)


def test_a_chain_fails_with_what_failed_first(client):
    first = client.submit(raise_, KeyError("root"))
    second = client.submit(abs, first)
    error = client.submit(abs, second).exception(LIMIT_S)
    assert type(error) is KeyError
    assert error.__cause__.name == "raise_"


def test_an_executor_that_dies(client):
    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    error = client.options(crash_retries=0).submit(die).exception(LIMIT_S)
    assert isinstance(error, mh.ExecutorDied)
    assert isinstance(error, concurrent.futures.BrokenExecutor)
    assert error.signal == signal.SIGKILL and error.name == "die"
    assert client.submit(abs, -1).result(LIMIT_S) == 1, "only that task is lost"


def test_the_last_words_of_an_executor(client):
    def die():
        import sys

        print("the last words", file=sys.stderr, flush=True)
        os._exit(3)

    error = client.options(crash_retries=0).submit(die).exception(LIMIT_S)
    assert isinstance(error, mh.ExecutorDied)
    assert error.exit_code == 3 and "the last words" in error.stderr


def test_a_time_limit(client, gate):
    error = client.options(time_limit=0.05).submit(pass_gate, gate).exception(LIMIT_S)
    assert isinstance(error, mh.TimeLimit) and isinstance(error, TimeoutError)
    assert error.limit == pytest.approx(0.05)


def test_a_deadline(client, gate):
    view = client.options(deadline=time.time() + 0.05)
    error = view.submit(pass_gate, gate).exception(LIMIT_S)
    assert isinstance(error, mh.DeadlinePassed) and isinstance(error, TimeoutError)


def test_what_can_never_run(client):
    error = client.options(resources={"unicorns": 1}).submit(abs, 1)
    if client.is_local:
        with pytest.raises(mh.Infeasible, match="unicorns"):
            error.result(LIMIT_S)
    else:
        # A worker that has some may come.
        assert "unicorns" in client.explain(error).reason or error.done()
        error.cancel()


def test_sys_exit_in_a_task_ends_the_task_alone(client):
    def leave():
        raise SystemExit(3)

    error = client.submit(leave).exception(LIMIT_S)
    assert error is not None and "3" in str(error)
    assert client.submit(abs, -1).result(LIMIT_S) == 1


@pytest.mark.parametrize("kind", sorted(_errors._TASK_ERRORS))
def test_errors_can_be_pickled(kind):
    fields = {
        "message": "words",
        "task": "t",
        "name": "f",
        "worker": "worker 1",
        "pid": 7,
        "attempts": ["one", "two"],
        "chain": ["g"],
        "traceback": "Traceback ...",
        "type_name": "Odd",
        "limit": 2,
    }
    error = _errors.from_failure(kind, fields)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error) and str(copy) == str(error)
    assert isinstance(error, mh.TaskError)
    assert (copy.task, copy.name, copy.attempts) == ("t", "f", ("one", "two"))


def test_a_new_exception_each_time():
    one, two = (_errors.from_failure("closed", {"message": "over"}) for _ in range(2))
    assert one is not two and isinstance(one, RuntimeError) and str(one) == "over"


def test_an_exception_of_a_task_within_a_task(client):
    def outer():
        import manyhands as mh

        return mh.current().submit(deep).result()

    with pytest.raises(RuntimeError, match="could not") as caught:
        client.submit(outer).result(LIMIT_S)
    assert "KeyError: 'missing'" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "says"),
    [
        ((4,), {}, TypeError, "workers=4"),
        ((0,), {}, TypeError, "workers=0"),
        ((), {"max_workers": 2}, TypeError, "workers=2"),
        ((), {"foo": 2}, TypeError, "foo"),
        ((), {"workers": "2"}, TypeError, "workers is a number"),
        ((), {"workers": 0}, ValueError, "at least 1"),
    ],
)
def test_a_client_says_what_its_arguments_should_be(arguments, keywords, error, says):
    with pytest.raises(error, match=says):
        mh.Client(*arguments, **keywords)
