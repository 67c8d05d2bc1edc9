"""Queue: order, bounds, timeouts, batches, and use from tasks and coroutines."""

import asyncio
import queue
import time

import pytest

from trireme.util.queue import Empty, Full, Queue


@pytest.fixture
def made(runtime):
    queues = []

    def make(*args, **kwargs):
        queues.append(Queue(*args, **kwargs))
        return queues[-1]

    yield make
    for each in queues:
        each.shutdown(force=True)


def test_items_come_out_in_order(made):
    q = made()
    for item in range(10):
        q.put(item)
    assert (q.size(), q.qsize(), len(q), q.empty(), q.full()) == (10, 10, 10, False, False)
    assert [q.get() for _ in range(10)] == list(range(10))
    assert q.empty()


def test_a_full_queue_refuses(made):
    q = made(maxsize=1)
    q.put(1)
    assert q.full()
    with pytest.raises(Full):
        q.put_nowait(2)
    with pytest.raises(Full):
        q.put(2, block=False)
    with pytest.raises(Full):
        q.put(2, timeout=0.05)
    assert q.get() == 1


def test_an_empty_queue_refuses(made):
    q = made()
    for get in (q.get_nowait, lambda: q.get(block=False), lambda: q.get(timeout=0.05)):
        with pytest.raises(Empty):
            get()


def test_the_exceptions_are_those_of_the_standard_library():
    assert issubclass(Empty, queue.Empty)
    assert issubclass(Full, queue.Full)


def test_negative_timeouts_are_refused(made):
    q = made()
    with pytest.raises(ValueError, match="-1"):
        q.get(timeout=-1)
    with pytest.raises(ValueError, match="-1"):
        q.put(1, timeout=-1)


def test_batches_are_all_or_nothing(made):
    q = made(maxsize=3)
    q.put_nowait_batch([1, 2])
    with pytest.raises(Full):
        q.put_nowait_batch([3, 4])
    assert q.size() == 2
    with pytest.raises(Empty):
        q.get_nowait_batch(3)
    assert q.get_nowait_batch(2) == [1, 2]
    with pytest.raises(TypeError, match="iterable"):
        q.put_nowait_batch(3)
    with pytest.raises(TypeError):
        q.get_nowait_batch(1.5)
    with pytest.raises(ValueError):
        q.get_nowait_batch(-1)


def test_coroutines(made):
    q = made(maxsize=1)

    async def both():
        putting = asyncio.gather(*(q.put_async(item) for item in range(3)))
        got = [await q.get_async(timeout=60) for _ in range(3)]
        await putting
        with pytest.raises(Empty):
            await q.get_async(block=False)
        return got

    assert sorted(asyncio.run(both())) == [0, 1, 2]


def test_a_waiting_get_is_woken_by_a_task(runtime, made):
    q = made()

    @runtime.remote
    def produce(target):
        time.sleep(0.2)
        target.put("from a task")

    produce.remote(q)
    assert q.get(timeout=60) == "from a task"


def test_producers_and_consumers_on_tasks(runtime, made):
    q = made(maxsize=4)

    @runtime.remote
    def produce(target, start):
        for item in range(start, start + 20):
            target.put(item)

    @runtime.remote
    def consume(source, count):
        return [source.get(timeout=60) for _ in range(count)]

    consumed = [consume.remote(q, 20) for _ in range(2)]
    runtime.get([produce.remote(q, 0), produce.remote(q, 100)])
    assert sorted(sum(runtime.get(consumed), [])) == [*range(20), *range(100, 120)]


def test_options_of_the_actor(runtime, made):
    q = made(actor_options={"name": "queue_with_a_name"})
    q.put(5)
    assert runtime.get(runtime.get_actor("queue_with_a_name").qsize.remote()) == 1


def test_shutdown_ends_the_actor(runtime):
    q = Queue()
    actor = q.actor
    q.shutdown()
    assert q.actor is None
    with pytest.raises(runtime.exceptions.RayActorError):
        runtime.get(actor.qsize.remote(), timeout=60)
