"""ActorPool hands work to free actors and gives results back in either order."""

import time

import pytest

from trireme.util import ActorPool


@pytest.fixture(scope="module")
def actors(runtime):
    @runtime.remote
    class Worker:
        def double(self, value):
            return 2 * value

        def after(self, gate, value):
            while gate is not None and not gate.exists():
                time.sleep(0.01)
            return value

        def fail(self, value):
            raise ValueError(f"no {value}")

        def pair(self, value):
            return value, -value

    made = [Worker.remote() for _ in range(2)]
    yield made
    for actor in made:
        runtime.kill(actor)


@pytest.fixture
def pool(actors):
    return ActorPool(actors)


def test_map_keeps_the_order_of_the_values(pool):
    assert list(pool.map(lambda actor, value: actor.double.remote(value), range(20))) == [2 * i for i in range(20)]


def test_map_unordered_gives_every_result(pool):
    assert sorted(pool.map_unordered(lambda a, v: a.double.remote(v), range(20))) == [2 * i for i in range(20)]


def test_map_unordered_gives_the_fast_result_first(pool, tmp_path):
    gate = tmp_path / "gate"
    results = pool.map_unordered(lambda a, v: a.after.remote(*v), [(gate, "slow"), (None, "fast")])
    assert next(results) == "fast"
    gate.touch()
    assert list(results) == ["slow"]


def test_map_of_nothing_is_empty(pool):
    assert list(pool.map(lambda a, v: a.double.remote(v), [])) == []


def test_submitted_work_waits_for_an_actor_and_comes_back_in_order(pool):
    for value in range(5):
        pool.submit(lambda a, v: a.double.remote(v), value)
    assert pool.has_next()
    assert not pool.has_free()
    assert [pool.get_next() for _ in range(5)] == [0, 2, 4, 6, 8]
    assert not pool.has_next()
    assert pool.has_free()


def test_get_next_without_work_stops(pool):
    with pytest.raises(StopIteration):
        pool.get_next()
    with pytest.raises(StopIteration):
        pool.get_next_unordered()


def test_get_next_times_out_and_can_be_asked_again(pool, tmp_path):
    pool.submit(lambda a, v: a.after.remote(v, "opened"), tmp_path / "gate")
    with pytest.raises(TimeoutError):
        pool.get_next(timeout=0.05)
    (tmp_path / "gate").touch()
    assert pool.get_next(timeout=60) == "opened"


def test_a_result_given_up_frees_its_place(pool, tmp_path):
    pool.submit(lambda a, v: a.after.remote(v, "opened"), tmp_path / "gate")
    with pytest.raises(TimeoutError):
        pool.get_next(timeout=0.01, ignore_if_timedout=True)
    assert not pool.has_next()
    assert pool.has_free()
    (tmp_path / "gate").touch()


def test_ordered_after_unordered_is_refused(pool, tmp_path):
    pool.submit(lambda a, v: a.after.remote(v, "slow"), tmp_path / "gate")
    pool.submit(lambda a, v: a.after.remote(v, "fast"), None)
    assert pool.get_next_unordered() == "fast"
    with pytest.raises(ValueError, match="get_next_unordered"):
        pool.get_next()
    (tmp_path / "gate").touch()
    assert pool.get_next_unordered() == "slow"


def test_an_error_comes_out_and_the_actor_goes_back(pool):
    pool.submit(lambda a, v: a.fail.remote(v), 7)
    with pytest.raises(ValueError, match="no 7"):
        pool.get_next()
    assert list(pool.map(lambda a, v: a.double.remote(v), [1, 2, 3])) == [2, 4, 6]


def test_methods_with_several_returns(pool):
    submit = lambda a, v: a.pair.options(num_returns=2).remote(v)  # noqa: E731
    assert list(pool.map(submit, [1, 2, 3])) == [[1, -1], [2, -2], [3, -3]]


def test_push_and_pop(pool, actors):
    one = pool.pop_idle()
    other = pool.pop_idle()
    assert {one, other} == set(actors)
    assert pool.pop_idle() is None
    pool.submit(lambda a, v: a.double.remote(v), 4)
    pool.push(one)
    assert pool.get_next() == 8
    with pytest.raises(ValueError, match="belongs"):
        pool.push(one)
