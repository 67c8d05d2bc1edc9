"""init(local_mode=True): everything in the driver's process."""

# ctest: one rank

import os
import threading

import numpy as np
import pytest

import trireme
from trireme._actor import ActorHandle


@pytest.fixture(scope="module", autouse=True)
def local():
    trireme.init(local_mode=True, num_cpus=1)
    yield
    trireme.shutdown()
    assert not trireme._state.local


@trireme.remote
def where(*args):
    return os.getpid(), threading.get_ident(), args


@trireme.remote
class Counter:
    def __init__(self, start=0):
        if start < 0:
            raise ValueError("below zero")
        self.n = start

    def add(self, by=1):
        self.n += by
        return self.n

    @trireme.method(num_returns=2)
    def both(self):
        return self.n, os.getpid()

    def fails(self):
        raise KeyError("gone")

    async def later(self):
        import asyncio

        await asyncio.sleep(0)
        return self.n

    def stream(self, count):
        yield from range(count)

    def leave(self):
        trireme.exit_actor()


def test_tasks_run_here_and_at_once():
    ran = []

    @trireme.remote
    def note(x):
        ran.append(x)
        return x

    refs = [note.remote(i) for i in range(3)]
    assert ran == [0, 1, 2]  # before any get()
    assert trireme.get(refs) == [0, 1, 2]
    assert trireme.get(where.remote(note.remote(5))) == (os.getpid(), threading.get_ident(), (5,))
    assert trireme.wait(refs, num_returns=3) == (refs, [])


def test_arguments_are_copies_as_they_are_in_workers():
    @trireme.remote
    def change(items, array):
        items.append(1)
        return items, array.flags.writeable, array.sum()

    mine, array = [0], np.ones(100_000)
    assert trireme.get(change.remote(mine, array)) == ([0, 1], False, 100_000)
    assert mine == [0]
    ref = trireme.put(3)
    assert trireme.get(trireme.get(where.remote([ref]))[2][0][0]) == 3
    with pytest.raises(TypeError, match="missing|argument"):
        change.remote(1)


def test_nested_calls():
    @trireme.remote
    def fib(n):
        return n if n < 2 else sum(trireme.get([fib.remote(n - 1), fib.remote(n - 2)]))

    assert trireme.get(fib.remote(6)) == 8


def test_what_is_raised_comes_from_get():
    @trireme.remote(num_returns=2)
    def broken():
        raise ZeroDivisionError("here")

    first, second = broken.remote()
    for ref in (first, second):
        with pytest.raises(ZeroDivisionError, match="here") as caught:
            trireme.get(ref, timeout=60)
        assert isinstance(caught.value, trireme.exceptions.RayTaskError)
        assert caught.value.pid == os.getpid()
        assert 'raise ZeroDivisionError("here")' in str(caught.value.traceback_str)
        assert "_local.py" not in caught.value.traceback_str
    with pytest.raises(ZeroDivisionError):
        trireme.get(where.remote(first), timeout=60)


def test_streams_and_coroutines():
    @trireme.remote
    def count(n):
        yield from range(n)
        raise KeyError("end")

    values = count.remote(3)
    assert [trireme.get(next(values)) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError):
        trireme.get(next(values))

    @trireme.remote
    async def coroutine():
        return 4

    assert trireme.get(coroutine.remote()) == 4


def test_actors():
    counter = Counter.remote(2)
    assert isinstance(counter, ActorHandle)
    assert trireme.get([counter.add.remote(), counter.add.remote(by=3)]) == [3, 6]
    assert trireme.get(counter.both.remote()) == [6, os.getpid()]
    assert trireme.get(counter.later.remote()) == 6
    assert [trireme.get(ref) for ref in counter.stream.remote(3)] == [0, 1, 2]
    with pytest.raises(KeyError, match="gone"):
        trireme.get(counter.fails.remote())
    with pytest.raises(AttributeError, match="no method 'nothing'"):
        _ = counter.nothing
    with pytest.raises(TypeError, match="remote"):
        counter.add()

    @trireme.remote
    def use(handle):
        return trireme.get(handle.add.remote())

    assert trireme.get(use.remote(counter)) == 7
    assert trireme.get(trireme.get(trireme.put([counter]))[0].add.remote()) == 8


def test_the_end_of_actors():
    for end in (trireme.kill, lambda actor: actor.leave.remote(), lambda actor: actor.__ray_terminate__.remote()):
        counter = Counter.remote()
        trireme.get(counter.add.remote())
        end(counter)
        with pytest.raises(trireme.exceptions.ActorDiedError):
            trireme.get(counter.add.remote(), timeout=60)
    with pytest.raises(trireme.exceptions.ActorDiedError, match="below zero"):
        trireme.get(Counter.remote(-1).add.remote(), timeout=60)


def test_names():
    counter = Counter.options(name="the counter").remote(1)
    assert trireme.get_actor("the counter") == counter
    assert Counter.options(name="the counter", get_if_exists=True).remote() == counter
    with pytest.raises(ValueError, match="already"):
        Counter.options(name="the counter").remote()
    trireme.kill(counter)
    with pytest.raises(ValueError, match="no actor named"):
        trireme.get_actor("the counter")
