"""Tasks: returns, generators, retries, what the options of tasks mean."""

from __future__ import annotations

import os
import signal
import time

import pytest


def test_a_task_runs_in_another_process_and_gives_its_result(runtime):
    @runtime.remote
    def where(x, y=1):
        return os.getpid(), x + y

    pid, total = runtime.get(where.remote(1, y=2))
    assert pid != os.getpid()
    assert total == 3


def test_results_of_a_thousand_tasks(runtime):
    @runtime.remote
    def square(x):
        return x * x

    assert runtime.get([square.remote(i) for i in range(1000)]) == [i * i for i in range(1000)]


def test_values_of_all_plain_types_come_back_as_they_were(runtime):
    @runtime.remote
    def same(*args, **kwargs):
        return args, kwargs

    values = (None, True, 7, -(1 << 100), 2.5, 1 + 2j, "é", b"\0\xff", (1, (2, "x")), [1, [2]], {"a": 1, 2: {"b": None}})
    values += ({1, 2}, frozenset([3]), range(3), slice(1, 2), bytearray(b"abc"))
    args, kwargs = runtime.get(same.remote(*values, key=list(values)))
    assert args == values
    assert kwargs == {"key": list(values)}
    assert [type(a) for a in args] == [type(v) for v in values]


def test_tasks_submit_tasks(runtime):
    @runtime.remote
    def fib(n):
        if n < 2:
            return n
        return sum(runtime.get([fib.remote(n - 1), fib.remote(n - 2)]))

    assert runtime.get(fib.remote(7), timeout=120) == 13


def test_functions_close_over_values_functions_and_classes(runtime):
    factor = 3

    class Point:
        def __init__(self, x):
            self.x = x

    def double(x):
        return 2 * x

    @runtime.remote
    def f(x):
        return Point(double(x) * factor)

    assert runtime.get(f.remote(5)).x == 30


@pytest.mark.parametrize("count", [2, 3, 300])
def test_several_returns(runtime, count):
    @runtime.remote(num_returns=count)
    def f():
        return list(range(count))

    refs = f.remote()
    assert len(refs) == count
    assert runtime.get(refs) == list(range(count))


def test_no_return(runtime):
    @runtime.remote(num_returns=0)
    def f():
        return 1

    assert f.remote() is None


def test_wrong_number_of_returns_is_an_error_of_every_return(runtime):
    @runtime.remote(num_returns=3)
    def short():
        return 1, 2

    @runtime.remote(num_returns=2)
    def none():
        return 1

    for ref in short.remote():
        with pytest.raises(ValueError, match="num_returns=3"):
            runtime.get(ref)
    with pytest.raises(TypeError, match="num_returns=2"):
        runtime.get(none.remote())


def test_generators_stream_by_default(runtime):
    @runtime.remote
    def count(n):
        yield from range(n)

    stream = count.remote(5)
    assert isinstance(stream, runtime.ObjectRefGenerator)
    assert [runtime.get(ref) for ref in stream] == [0, 1, 2, 3, 4]
    with pytest.raises(StopIteration):
        next(stream)
    assert runtime.get(stream.completed()) is None


def test_items_arrive_while_the_generator_still_runs(runtime, tmp_path):
    gate = tmp_path / "gate"

    @runtime.remote
    def gen():
        yield 1
        while not gate.exists():
            time.sleep(0.01)
        yield 2

    stream = gen.remote()
    assert runtime.get(next(stream), timeout=60) == 1
    assert not stream.next_ready()
    gate.touch()
    assert runtime.get(next(stream), timeout=60) == 2


def test_an_exception_of_a_generator_comes_after_its_items(runtime):
    @runtime.remote
    def gen():
        yield 1
        raise KeyError("late")

    stream = gen.remote()
    assert runtime.get(next(stream)) == 1
    with pytest.raises(KeyError, match="late"):
        runtime.get(next(stream))
    with pytest.raises(StopIteration):
        next(stream)


def test_backpressure_holds_the_producer(runtime, tmp_path):
    @runtime.remote(_generator_backpressure_num_objects=2)
    def gen():
        for i in range(20):
            (tmp_path / str(i)).touch()
            yield i

    stream = gen.remote()
    assert runtime.get(next(stream)) == 0
    time.sleep(1)
    assert len(list(tmp_path.iterdir())) <= 6
    assert [runtime.get(ref) for ref in stream] == list(range(1, 20))
    assert len(list(tmp_path.iterdir())) == 20


def test_dynamic_returns(runtime):
    @runtime.remote(num_returns="dynamic")
    def split(n):
        for i in range(n):
            yield [i] * 10

    parts = runtime.get(split.remote(4))
    assert len(list(parts)) == 4
    assert [runtime.get(ref)[0] for ref in parts] == [0, 1, 2, 3]


def test_generator_with_a_fixed_number_of_returns(runtime):
    @runtime.remote(num_returns=3)
    def three():
        yield from "abc"

    assert runtime.get(three.remote()) == ["a", "b", "c"]


def test_streaming_needs_something_to_iterate_over(runtime):
    @runtime.remote(num_returns="streaming")
    def f():
        return 1

    with pytest.raises(TypeError, match="generator"):
        runtime.get(next(f.remote()))


def test_a_task_whose_worker_dies_runs_again(runtime, tmp_path):
    @runtime.remote(max_retries=3)
    def dies_twice():
        tries = len(list(tmp_path.iterdir()))
        (tmp_path / str(tries)).touch()
        if tries < 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return tries

    assert runtime.get(dies_twice.remote(), timeout=120) == 2


def test_max_retries_0_gives_the_death_at_once(runtime, tmp_path):
    @runtime.remote(max_retries=0)
    def dies():
        (tmp_path / str(len(list(tmp_path.iterdir())))).touch()
        os._exit(7)

    with pytest.raises(runtime.exceptions.WorkerCrashedError):
        runtime.get(dies.remote(), timeout=60)
    assert len(list(tmp_path.iterdir())) == 1


def test_exceptions_are_not_retried_by_default(runtime, tmp_path):
    @runtime.remote
    def raises():
        (tmp_path / str(len(list(tmp_path.iterdir())))).touch()
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        runtime.get(raises.remote())
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(("retry", "runs"), [(True, 4), ([ValueError], 4), ([KeyError], 1)])
def test_retry_exceptions(runtime, tmp_path, retry, runs):
    @runtime.remote(max_retries=3, retry_exceptions=retry)
    def raises():
        (tmp_path / str(len(list(tmp_path.iterdir())))).touch()
        raise ValueError("again")

    with pytest.raises(ValueError, match="again"):
        runtime.get(raises.remote())
    assert len(list(tmp_path.iterdir())) == runs


def test_a_retried_generator_does_not_repeat_items(runtime, tmp_path):
    @runtime.remote(max_retries=2, retry_exceptions=True)
    def gen():
        first = not list(tmp_path.iterdir())
        (tmp_path / str(len(list(tmp_path.iterdir())))).touch()
        for i in range(4):
            if first and i == 2:
                raise ValueError
            yield i

    assert [runtime.get(ref) for ref in gen.remote()] == [0, 1, 2, 3]


def test_max_calls_replaces_the_worker(runtime):
    @runtime.remote(max_calls=1)
    def pid():
        return os.getpid()

    pids = [runtime.get(pid.remote(), timeout=60) for _ in range(4)]
    assert len(set(pids)) == 4


def test_a_task_that_waits_gives_its_cpu_back(runtime):
    cpus = int(runtime.cluster_resources()["CPU"])

    @runtime.remote
    def leaf():
        return 1

    @runtime.remote
    def waits():
        return runtime.get(leaf.remote())

    # More waiting tasks than there are CPUs: none could end if they kept them.
    assert runtime.get([waits.remote() for _ in range(2 * cpus)], timeout=120) == [1] * 2 * cpus


def test_coroutine_function_as_task(runtime):
    @runtime.remote
    async def f(x):
        import asyncio

        await asyncio.sleep(0)
        return x + 1

    assert runtime.get(f.remote(1)) == 2


def test_workers_draw_different_random_numbers(runtime):
    import numpy as np

    @runtime.remote(max_calls=1)
    def draw():
        import random

        return random.random(), float(np.random.rand())

    drawn = runtime.get([draw.remote() for _ in range(3)], timeout=120)
    assert len({a for a, _ in drawn}) == 3
    assert len({b for _, b in drawn}) == 3
