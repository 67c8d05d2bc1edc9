"""The multiprocessing pool: the interface and the errors of the standard library's."""

import itertools
import multiprocessing
import os
import queue
import threading
import time

import pytest

from trireme.util.multiprocessing import Pool


@pytest.fixture(scope="module")
def pool(runtime):
    with Pool(2) as made:
        yield made


def square(value):
    return value * value


def add(a, b=0):
    return a + b


def fail_on_odd(value):
    if value % 2:
        raise ValueError(f"odd: {value}")
    return value


def wait_for(gate):
    while not gate.exists():
        time.sleep(0.01)
    return gate.name


def test_apply(pool):
    assert pool.apply(add, (1,), {"b": 2}) == 3
    assert pool.apply_async(add, (1, 5)).get(timeout=60) == 6


def test_calls_run_in_other_processes(pool):
    pids = set(pool.map(lambda _: os.getpid(), range(20), chunksize=1))
    assert os.getpid() not in pids
    assert 1 <= len(pids) <= 2


@pytest.mark.parametrize("chunksize", [None, 1, 3, 100])
def test_map_keeps_order(pool, chunksize):
    assert pool.map(square, range(25), chunksize) == [i * i for i in range(25)]


def test_map_of_nothing(pool):
    assert pool.map(square, []) == []
    assert pool.map_async(square, []).get(timeout=60) == []


def test_starmap(pool):
    assert pool.starmap(add, [(1, 2), (3, 4), (5,)]) == [3, 7, 5]
    assert pool.starmap_async(add, zip(range(5), range(5))).get(timeout=60) == [0, 2, 4, 6, 8]


def test_imap_keeps_order_and_imap_unordered_gives_all(pool):
    assert list(pool.imap(square, range(30), chunksize=4)) == [i * i for i in range(30)]
    assert sorted(pool.imap_unordered(square, range(30))) == [i * i for i in range(30)]


def test_imap_of_an_endless_iterable(pool):
    assert list(itertools.islice(pool.imap(square, itertools.count()), 12)) == [i * i for i in range(12)]


def test_imap_times_out(pool, tmp_path):
    results = pool.imap(wait_for, [tmp_path / "gate"])
    with pytest.raises(multiprocessing.TimeoutError):
        results.next(timeout=0.05)
    (tmp_path / "gate").touch()
    assert results.next(timeout=60) == "gate"
    with pytest.raises(StopIteration):
        results.next()


def test_imap_gives_results_around_an_error(pool):
    results = pool.imap(fail_on_odd, [0, 1, 2])
    assert next(results) == 0
    with pytest.raises(ValueError, match="odd: 1"):
        next(results)
    assert next(results) == 2


def test_errors_are_the_callers_own(pool):
    with pytest.raises(ValueError, match="odd: 3") as caught:
        pool.map(fail_on_odd, [0, 2, 3])
    assert "fail_on_odd" in str(caught.value.__cause__)
    with pytest.raises(ZeroDivisionError):
        pool.apply(divmod, (1, 0))


def test_an_async_result_tells_its_state(pool, tmp_path):
    slow = pool.apply_async(wait_for, (tmp_path / "gate",))
    assert not slow.ready()
    with pytest.raises(ValueError, match="not ready"):
        slow.successful()
    with pytest.raises(multiprocessing.TimeoutError):
        slow.get(timeout=0.01)
    (tmp_path / "gate").touch()
    slow.wait(60)
    assert slow.ready()
    assert slow.successful()
    failed = pool.apply_async(fail_on_odd, (1,))
    failed.wait(60)
    assert not failed.successful()


def test_callbacks(pool):
    called = queue.Queue()
    pool.map_async(square, [1, 2], callback=called.put)
    assert called.get(timeout=60) == [1, 4]
    pool.apply_async(fail_on_odd, (1,), error_callback=called.put)
    assert isinstance(called.get(timeout=60), ValueError)


def test_a_failing_callback_does_not_end_the_pool(pool):
    done = threading.Event()

    def callback(_):
        done.set()
        raise RuntimeError("from a callback")

    pool.apply_async(square, (2,), callback=callback)
    assert done.wait(60)
    assert pool.apply(square, (3,)) == 9


def test_the_initializer_runs_in_each_process(runtime):
    def set_up(value):
        os.environ["POOL_TEST"] = value

    with Pool(2, initializer=set_up, initargs=("ready",)) as made:
        assert set(made.map(lambda _: os.environ.get("POOL_TEST"), range(10), chunksize=1)) == {"ready"}


def test_processes_are_replaced_after_maxtasksperchild(runtime):
    with Pool(1, maxtasksperchild=2) as made:
        pids = [made.apply(os.getpid) for _ in range(6)]
    assert [len(list(group)) for _, group in itertools.groupby(pids)] == [2, 2, 2]


def test_a_process_that_dies_fails_its_call_and_is_replaced(runtime):
    with Pool(1) as made:
        with pytest.raises(runtime.exceptions.RayActorError):
            made.apply(os._exit, (3,))
        assert made.apply(square, (4,)) == 16


def test_close_and_join_finish_the_work(runtime):
    made = Pool(2)
    result = made.map_async(square, range(10), chunksize=1)
    made.close()
    made.join()
    assert result.get(timeout=0) == [i * i for i in range(10)]
    for use in (lambda: made.apply(square, (1,)), lambda: made.map(square, [1]), lambda: made.imap(square, [1])):
        with pytest.raises(ValueError, match="not running"):
            use()


def test_terminate_ends_what_runs(runtime):
    made = Pool(1)
    running = made.apply_async(time.sleep, (600,))
    waiting = made.apply_async(time.sleep, (600,))
    made.terminate()
    made.join()
    for result in (running, waiting):
        with pytest.raises((RuntimeError, runtime.exceptions.RayError)):
            result.get(timeout=60)


def test_join_needs_close(pool):
    with pytest.raises(ValueError, match="close"):
        pool.join()


def test_wrong_arguments(runtime, pool):
    with pytest.raises(ValueError, match="processes"):
        Pool(0)
    with pytest.raises(TypeError, match="initializer"):
        Pool(1, initializer=3)
    with pytest.raises(ValueError, match="maxtasksperchild"):
        Pool(1, maxtasksperchild=0)
    with pytest.raises(ValueError, match="chunksize"):
        pool.map(square, [1], chunksize=0)


def test_the_default_is_a_process_for_each_cpu(runtime):
    with Pool() as made:
        assert made._processes == int(runtime.cluster_resources()["CPU"])
