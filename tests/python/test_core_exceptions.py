"""What get raises: classes, causes, texts."""

from __future__ import annotations

import os
import pickle
import signal

import pytest


class CustomError(Exception):
    def __init__(self, code, detail):
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


def test_the_error_is_one_of_its_causes_class_and_a_task_error(runtime):
    @runtime.remote
    def boom():
        raise ZeroDivisionError("by nought")

    with pytest.raises(ZeroDivisionError) as caught:
        runtime.get(boom.remote())
    error = caught.value
    assert isinstance(error, runtime.exceptions.RayTaskError)
    assert isinstance(error, runtime.exceptions.RayError)
    assert isinstance(error.cause, ZeroDivisionError)
    assert error.cause.args == ("by nought",)


def test_the_text_has_the_remote_traceback_task_rank_host(runtime):
    @runtime.remote
    def outer():
        inner_function_of_the_task()

    def inner_function_of_the_task():
        raise ValueError("the message")

    with pytest.raises(ValueError) as caught:
        runtime.get(outer.remote())
    text = str(caught.value)
    for part in ("outer", "inner_function_of_the_task", "the message", "rank ", "pid=", os.uname().nodename, "line "):
        assert part in text
    assert "trireme/_worker" not in text


def test_attributes_of_the_cause(runtime):
    @runtime.remote
    def missing():
        open("/does/not/exist")  # noqa: SIM115

    with pytest.raises(FileNotFoundError) as caught:
        runtime.get(missing.remote())
    assert caught.value.errno == 2
    assert caught.value.filename == "/does/not/exist"

    class Local(Exception):
        def __init__(self, x):
            super().__init__(x)
            self.x = x

    @runtime.remote
    def local():
        raise Local(5)

    with pytest.raises(Exception, match="5") as caught:
        runtime.get(local.remote())
    assert caught.value.x == 5
    assert caught.value.cause.x == 5


def test_exceptions_whose_pickling_is_broken(runtime):
    @runtime.remote
    def boom():
        raise CustomError(7, "seven")

    with pytest.raises(CustomError) as caught:
        runtime.get(boom.remote())
    assert (caught.value.code, caught.value.detail) == (7, "seven")


def test_exceptions_with_unpicklable_contents(runtime):
    @runtime.remote
    def boom():
        import threading

        error = ValueError("has a lock")
        error.lock = threading.Lock()
        raise error

    with pytest.raises(runtime.exceptions.RayTaskError, match="has a lock"):
        runtime.get(boom.remote())


def test_errors_travel_through_tasks(runtime):
    @runtime.remote
    def first():
        raise KeyError("first")

    @runtime.remote
    def second(x):
        return x

    @runtime.remote
    def third():
        return runtime.get(first.remote())

    for ref in (second.remote(first.remote()), third.remote()):
        with pytest.raises(KeyError, match="first") as caught:
            runtime.get(ref)
        assert isinstance(caught.value, runtime.exceptions.RayTaskError)


def test_what_can_never_be_placed_can_be_pickled(runtime):
    @runtime.remote(num_cpus=10_000)
    def task():
        pass

    with pytest.raises(runtime.exceptions.TaskUnschedulableError) as caught:
        runtime.get(task.remote())
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is type(caught.value) and again.error_message == caught.value.error_message
    assert isinstance(again, runtime.exceptions.ActorUnschedulableError)


def test_task_errors_can_be_pickled(runtime):
    @runtime.remote
    def boom():
        raise ValueError("kept")

    with pytest.raises(ValueError) as caught:
        runtime.get(boom.remote())
    again = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(again, ValueError)
    assert isinstance(again, runtime.exceptions.RayTaskError)
    assert "kept" in str(again)


def test_system_exit_and_keyboard_interrupt_of_user_code(runtime):
    @runtime.remote(max_retries=0)
    def leaves():
        raise SystemExit(3)

    with pytest.raises(runtime.exceptions.WorkerCrashedError):
        runtime.get(leaves.remote(), timeout=60)

    @runtime.remote
    def interrupts():
        raise KeyboardInterrupt("by itself")

    with pytest.raises(runtime.exceptions.RayTaskError, match="by itself"):
        runtime.get(interrupts.remote(), timeout=60)


@pytest.mark.parametrize("how", ["kill", "exit", "segfault"])
def test_the_death_of_a_worker_says_how(runtime, how):
    @runtime.remote(max_retries=0)
    def dies(how):
        import ctypes

        print("last words", flush=True)
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif how == "exit":
            os._exit(42)
        ctypes.string_at(0)

    with pytest.raises(runtime.exceptions.WorkerCrashedError) as caught:
        runtime.get(dies.remote(how), timeout=60)
    text = str(caught.value)
    assert {"kill": "9", "exit": "42", "segfault": "11"}[how] in text
    # After a crash the last lines are the stack of where it happened.
    assert ("in dies" if how == "segfault" else "last words") in text


def test_other_tasks_do_not_notice_a_death(runtime):
    @runtime.remote(max_retries=0)
    def dies():
        os._exit(1)

    @runtime.remote
    def lives(i):
        return i

    dead = [dies.remote() for _ in range(3)]
    assert runtime.get([lives.remote(i) for i in range(100)], timeout=120) == list(range(100))
    for ref in dead:
        with pytest.raises(runtime.exceptions.WorkerCrashedError):
            runtime.get(ref, timeout=60)


def test_the_family(runtime):
    e = runtime.exceptions
    assert issubclass(e.GetTimeoutError, TimeoutError)
    assert issubclass(e.ActorDiedError, e.RayActorError)
    assert issubclass(e.ActorUnavailableError, e.RayActorError)
    assert issubclass(e.OwnerDiedError, e.ObjectLostError)
    assert issubclass(e.ObjectReconstructionFailedError, e.ObjectLostError)
    for name in e.__all__:
        assert issubclass(getattr(e, name), e.RayError)
