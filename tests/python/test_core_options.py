"""Options: names, defaults, checks, `.options()`; the errors of wrong ones."""

from __future__ import annotations

import pytest


def test_default_task_holds_one_cpu(runtime):
    @runtime.remote
    def held():
        return runtime.get_runtime_context().get_assigned_resources()

    assert runtime.get(held.remote()) == {"CPU": 1}


def test_default_actor_holds_nothing(runtime):
    @runtime.remote
    class A:
        def held(self):
            return runtime.get_runtime_context().get_assigned_resources()

    assert runtime.get(A.remote().held.remote()) == {}


def test_options_replace_those_of_the_decorator_and_leave_the_original(runtime):
    @runtime.remote(num_cpus=1, num_returns=2)
    def held():
        return runtime.get_runtime_context().get_assigned_resources(), 0

    other = held.options(num_cpus=0.5)
    assert runtime.get(other.remote())[0] == {"CPU": 0.5}
    assert runtime.get(held.remote())[0] == {"CPU": 1}
    single = held.options(num_returns=1)
    assert runtime.get(single.remote()) == ({"CPU": 1}, 0)


def test_name_option_names_the_task(runtime):
    @runtime.remote
    def named():
        return runtime.get_runtime_context().get_task_name()

    assert runtime.get(named.options(name="frobnicate").remote()) == "frobnicate"


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"num_cpu": 1}, ValueError, "num_cpus"),
        ({"max_restarts": 1}, ValueError, "actor"),
        ({"bogus_thing": 1}, ValueError, "bogus_thing"),
        ({"num_cpus": "two"}, TypeError, "num_cpus"),
        ({"num_cpus": -1}, ValueError, "num_cpus"),
        ({"num_gpus": [1]}, TypeError, "num_gpus"),
        ({"resources": {"CPU": 1}}, ValueError, "num_cpus"),
        ({"resources": ["x"]}, TypeError, "resources"),
        ({"max_retries": -2}, ValueError, "max_retries"),
        ({"max_retries": 1.5}, TypeError, "max_retries"),
        ({"name": 3}, TypeError, "name"),
        ({"num_returns": -1}, ValueError, "num_returns"),
        ({"num_returns": "many"}, ValueError, "num_returns"),
        ({"retry_exceptions": [3]}, TypeError, "retry_exceptions"),
        ({"scheduling_strategy": "ANYWHERE"}, ValueError, "scheduling_strategy"),
        ({"runtime_env": 3}, TypeError, "runtime_env"),
        ({"label_selector": {"a": 1}}, TypeError, "label_selector"),
    ],
)
def test_wrong_task_options_are_refused_where_they_are_written(runtime, options, error, says):
    with pytest.raises(error, match=says):
        runtime.remote(**options)(lambda: None)
    plain = runtime.remote(lambda: None)
    with pytest.raises(error, match=says):
        plain.options(**options)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"max_retries": 1}, ValueError, "task"),
        ({"max_concurency": 2}, ValueError, "max_concurrency"),
        ({"max_concurrency": 0}, ValueError, "max_concurrency"),
        ({"lifetime": "forever"}, ValueError, "lifetime"),
        ({"get_if_exists": True}, ValueError, "name"),
        ({"namespace": ""}, ValueError, "namespace"),
        ({"name": ""}, ValueError, "name"),
        ({"max_pending_calls": 0}, ValueError, "max_pending_calls"),
        ({"concurrency_groups": {"io": 0}}, TypeError, "concurrency_groups"),
    ],
)
def test_wrong_actor_options_are_refused_where_they_are_written(runtime, options, error, says):
    class A:
        pass

    with pytest.raises(error, match=says):
        runtime.remote(**options)(A)


def test_decorator_misuse_says_how_it_is_used(runtime):
    with pytest.raises(TypeError, match="@trireme.remote"):
        runtime.remote(3)
    with pytest.raises(TypeError, match="@trireme.remote"):
        runtime.remote()
    with pytest.raises(TypeError, match="remote already"):
        runtime.remote(runtime.remote(lambda: None))
    with pytest.raises(TypeError, match="@trireme.method"):
        runtime.method(2)


def test_direct_calls_say_what_to_call(runtime):
    @runtime.remote
    def f():
        pass

    @runtime.remote
    class A:
        def m(self):
            pass

    with pytest.raises(TypeError, match=r"f\.remote\(\)"):
        f()
    with pytest.raises(TypeError, match=r"A\.remote\(\)"):
        A()
    actor = A.remote()
    with pytest.raises(TypeError, match=r"m\.remote\(\)"):
        actor.m()
    with pytest.raises(AttributeError, match="did you mean 'm'"):
        actor.mm.remote()
    with pytest.raises(TypeError, match="base class"):

        class B(A):
            pass


def test_wrong_arguments_fail_where_the_call_is_made(runtime):
    @runtime.remote
    def f(a, b=1, *, c=2):
        return a, b, c

    for args, kwargs in [((), {}), ((1, 2, 3), {}), ((1,), {"d": 1}), ((1,), {"a": 1})]:
        with pytest.raises(TypeError):
            f.remote(*args, **kwargs)
    assert runtime.get(f.remote(1, c=5)) == (1, 1, 5)

    @runtime.remote
    class A:
        def __init__(self, x):
            self.x = x

        def m(self, y):
            return self.x + y

    with pytest.raises(TypeError, match="x"):
        A.remote()
    actor = A.remote(1)
    with pytest.raises(TypeError):
        actor.m.remote()
    assert runtime.get(actor.m.remote(y=2)) == 3


def test_impossible_resources_fail_with_what_there_is(runtime):
    @runtime.remote(resources={"unobtainium": 1}, max_retries=0)
    def f():
        pass

    with pytest.raises(runtime.exceptions.TaskUnschedulableError, match="unobtainium"):
        runtime.get(f.remote(), timeout=60)

    @runtime.remote(num_cpus=100_000)
    class A:
        def m(self):
            pass

    with pytest.raises((runtime.exceptions.ActorUnschedulableError, runtime.exceptions.ActorDiedError), match="CPU|cpu"):
        runtime.get(A.remote().m.remote(), timeout=60)


def test_an_option_without_effect_is_said_to_have_none(runtime):
    class A:
        pass

    with pytest.warns(UserWarning, match="allow_out_of_order_execution.*no effect"):
        runtime.remote(allow_out_of_order_execution=True)(A)

    with pytest.warns(UserWarning, match="enable_task_events.*no effect"):
        runtime.remote(enable_task_events=False)(lambda: None)


def test_a_class_may_ask_for_retries_of_exceptions_without_restarts(runtime, tmp_path):
    counted = tmp_path / "calls"

    @runtime.remote(max_task_retries=2)
    class Flaky:
        @runtime.method(retry_exceptions=True)
        def call(self):
            with counted.open("a") as file:
                file.write("x")
            if len(counted.read_text()) < 3:
                raise ValueError("again")
            return len(counted.read_text())

        @runtime.method  # with nothing to say
        def end(self):
            import os

            os._exit(1)

    flaky = Flaky.remote()
    assert runtime.get(flaky.call.remote(), timeout=60) == 3
    with pytest.raises(runtime.exceptions.ActorDiedError):
        runtime.get(flaky.end.remote(), timeout=60)


def test_a_runtime_env_is_a_dict(runtime):
    from trireme._runtime_env import normal

    with pytest.raises(TypeError, match="runtime_env must be a dict.*not 3"):
        normal(3)


def test_names_of_accelerators_are_texts_for_the_option(runtime):
    from trireme.util import accelerators

    @runtime.remote(accelerator_type=accelerators.NVIDIA_H100, num_cpus=0)
    def there():
        return 1

    with pytest.raises(runtime.exceptions.TaskUnschedulableError, match="accelerator_type:H100"):
        runtime.get(there.remote(), timeout=60)


def test_marks_of_stability_change_nothing():
    from trireme.util.annotations import Deprecated, DeveloperAPI, PublicAPI

    def f():
        return 1

    assert PublicAPI(f) is f
    assert PublicAPI(stability="alpha")(f) is f
    assert DeveloperAPI(f) is Deprecated(message="gone")(f) is f
