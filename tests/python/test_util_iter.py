"""as_completed, map_unordered, and the executor."""

import time
from concurrent import futures

import pytest

from trireme.util import Executor, as_completed, map_unordered


@pytest.fixture(scope="module")
def after(runtime):
    @runtime.remote(num_cpus=0)
    def after(gate, value):
        while gate is not None and not gate.exists():
            time.sleep(0.01)
        return value

    return after


@pytest.fixture(scope="module")
def double(runtime):
    @runtime.remote
    def double(value):
        if value < 0:
            raise ValueError(f"negative: {value}")
        return 2 * value

    return double


def test_as_completed_gives_what_is_ready_first(after, tmp_path):
    results = as_completed([after.remote(tmp_path / "gate", "slow"), after.remote(None, "fast")], chunk_size=1)
    assert next(results) == "fast"
    (tmp_path / "gate").touch()
    assert list(results) == ["slow"]


@pytest.mark.parametrize("chunk_size", [1, 3, 100])
def test_as_completed_gives_everything(double, chunk_size):
    refs = [double.remote(value) for value in range(10)]
    assert sorted(as_completed(refs, chunk_size=chunk_size)) == [2 * value for value in range(10)]


def test_as_completed_gives_references_when_asked(runtime, double):
    refs = [double.remote(value) for value in range(5)]
    found = list(as_completed(refs, yield_obj_refs=True))
    assert set(found) == set(refs)
    assert sorted(runtime.get(found)) == [0, 2, 4, 6, 8]


def test_as_completed_raises_what_a_task_raised(double):
    with pytest.raises(ValueError, match="negative: -1"):
        list(as_completed([double.remote(-1)]))


def test_as_completed_of_nothing():
    assert list(as_completed([])) == []


def test_map_unordered_takes_items_as_results_are_consumed(double):
    taken = []

    def items():
        for value in range(1000):
            taken.append(value)
            yield value

    results = map_unordered(double, items(), backpressure_size=4, chunk_size=1)
    assert next(results) in {0, 2, 4, 6}
    assert len(taken) <= 5
    assert sorted([next(results) for _ in range(20)])
    results.close()


def test_map_unordered_gives_everything(double):
    assert sorted(map_unordered(double, range(50), backpressure_size=10, chunk_size=5)) == list(range(0, 100, 2))
    assert sorted(map_unordered(double, range(50), backpressure_size=None)) == list(range(0, 100, 2))


def test_wrong_sizes_are_refused(double):
    with pytest.raises(ValueError, match="chunk_size"):
        list(as_completed([double.remote(1)], chunk_size=0))
    with pytest.raises(ValueError, match="backpressure_size"):
        map_unordered(double, [], backpressure_size=2, chunk_size=3)


# The executor.


def test_executor_maps_and_submits(runtime):
    with Executor() as executor:
        assert list(executor.map(pow, [2, 3], [5, 2])) == [32, 9]
        future = executor.submit(divmod, 7, 2)
        assert future.result(timeout=60) == (3, 1)
        assert future.done()


def test_executor_gives_exceptions(runtime):
    with Executor() as executor:
        with pytest.raises(ZeroDivisionError):
            executor.submit(divmod, 1, 0).result(timeout=60)
        assert isinstance(executor.submit(divmod, 1, 0).exception(timeout=60), ZeroDivisionError)


def test_executor_bounds_what_is_in_flight(runtime):
    with Executor(max_workers=1) as executor:
        first = executor.submit(time.sleep, 0.3)
        executor.submit(time.sleep, 0)  # blocks until the first has ended
        assert first.done()


def test_executor_works_with_the_functions_of_the_standard_library(runtime):
    with Executor() as executor:
        pending = {executor.submit(pow, 2, exponent): exponent for exponent in range(5)}
        found = {pending[future]: future.result() for future in futures.as_completed(pending, timeout=60)}
    assert found == {exponent: 2**exponent for exponent in range(5)}


def test_executor_passes_options(runtime):
    with Executor(num_cpus=0.5) as executor:
        assert executor.submit(sum, [1, 2]).result(timeout=60) == 3
    with pytest.raises((TypeError, ValueError), match="num_cpu"):
        Executor(num_cpu=1)


def test_a_cancelled_future_is_cancelled(runtime):
    with Executor() as executor:
        future = executor.submit(time.sleep, 300)
        assert future.cancel()
        assert future.cancelled()
        with pytest.raises(futures.CancelledError):
            future.result(timeout=60)


def test_no_submission_after_shutdown(runtime):
    executor = Executor()
    future = executor.submit(pow, 2, 3)
    executor.shutdown()
    assert future.result(timeout=0) == 8
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.submit(pow, 2, 3)
