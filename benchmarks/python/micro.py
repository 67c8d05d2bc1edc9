"""The work of `ray microbenchmark` and of Ray's published single-node limits, for Ray and for Trireme.

usage: micro.py ray|trireme CASE[,CASE...] [seconds=0.3] [count=10000]

Own code after the description in docs/benchmarks.md. All cases named run in one process, one after another, because Ray takes
seconds to start.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from typing import Any

import numpy as np
import runtime

BATCH = 1000
REFS = 10_000
PUT_BYTES = 100 * 1024 * 1024 * 8


class Work:
    """The remote functions and classes, made once a session. Actors hold no CPU, as in Ray's own benchmark."""

    def __init__(self, ray: Any, seconds: float, count: int) -> None:
        self.ray = ray
        self.seconds = seconds
        self.count = count

        @ray.remote
        def empty() -> bytes:
            return b"ok"

        @ray.remote(num_cpus=0)
        class Actor:
            def empty(self) -> bytes:
                return b"ok"

        @ray.remote(num_cpus=0)
        class AsyncActor:
            async def empty(self) -> bytes:
                return b"ok"

        @ray.remote(num_cpus=0)
        class Caller:
            def tasks(self, n: int) -> None:
                ray.get([empty.remote() for _ in range(n)])

            def calls(self, actors: list, n: int) -> None:
                ray.get([actors[i % len(actors)].empty.remote() for i in range(n)])

            def calls_one_by_one(self, actor: Any, n: int) -> None:
                for _ in range(n):
                    ray.get(actor.empty.remote())

        @ray.remote
        def holding(n: int) -> list:
            return [ray.put(1) for _ in range(n)]

        @ray.remote
        def takes(*args: Any) -> int:
            return len(args)

        @ray.remote
        def gives(n: int) -> list:
            return list(range(n))

        self.empty, self.holding, self.takes, self.gives = empty, holding, takes, gives
        self.actor_class, self.async_class, self.caller_class = Actor, AsyncActor, Caller

    def time(self, round_of: Any, ops: int = 1) -> float:
        return runtime.seconds_per_op(round_of, ops, self.seconds)

    def actor(self, cls: Any, **options: Any) -> Any:
        """An actor that has answered once."""
        actor = cls.options(**options).remote() if options else cls.remote()
        if hasattr(actor, "empty"):
            self.ray.get(actor.empty.remote())
        return actor


def task_one(w: Work) -> float:
    return 1e6 * w.time(lambda: w.ray.get(w.empty.remote()))


def task_batch(w: Work) -> float:
    return 1e6 * w.time(lambda: w.ray.get([w.empty.remote() for _ in range(BATCH)]), BATCH)


def task_many(w: Work) -> float:
    callers = [w.actor(w.caller_class) for _ in range(runtime.cores())]
    each = 2 * BATCH
    return 1e6 * w.time(lambda: w.ray.get([c.tasks.remote(each) for c in callers]), each * len(callers))


def call_one(w: Work, cls: Any = None) -> float:
    actor = w.actor(cls or w.actor_class)
    return 1e6 * w.time(lambda: w.ray.get(actor.empty.remote()))


def call_batch(w: Work, cls: Any = None, **options: Any) -> float:
    actor = w.actor(cls or w.actor_class, **options)
    return 1e6 * w.time(lambda: w.ray.get([actor.empty.remote() for _ in range(BATCH)]), BATCH)


def call_n_to_n(w: Work) -> float:
    actors = [w.actor(w.actor_class) for _ in range(max(1, runtime.cores() // 2))]
    callers = [w.actor(w.caller_class) for _ in range(runtime.cores())]
    each = 2 * BATCH
    return 1e6 * w.time(lambda: w.ray.get([c.calls.remote(actors, each) for c in callers]), each * len(callers))


def call_between(w: Work) -> float:
    """An actor that calls another and waits for it, again and again: no part of the driver's."""
    caller, callee = w.actor(w.caller_class), w.actor(w.actor_class)
    return 1e6 * w.time(lambda: w.ray.get(caller.calls_one_by_one.remote(callee, 100)), 100)


def get_one(w: Work) -> float:
    ref = w.ray.put(0)
    return 1e6 * w.time(lambda: [w.ray.get(ref) for _ in range(100)], 100)


def put_one(w: Work) -> float:
    return 1e6 * w.time(lambda: [w.ray.put(0) for _ in range(100)], 100)


def put_large(w: Work) -> float:
    array = np.zeros(PUT_BYTES // 8, dtype=np.int64)
    array += 1  # pages that are there
    return PUT_BYTES / w.time(lambda: w.ray.put(array)) / 1e9


def wait_refs(w: Work) -> float:
    def one() -> None:
        rest = [w.empty.remote() for _ in range(BATCH)]
        while rest:
            _, rest = w.ray.wait(rest)

    return 1e3 * w.time(one)


def get_holding(w: Work) -> float:
    ref = w.holding.remote(REFS)
    w.ray.wait([ref])

    def one() -> None:
        refs = w.ray.get(ref)
        assert len(refs) == REFS

    return 1e3 * w.time(one)


def actors(w: Work) -> float:
    begin = time.perf_counter()
    made = [w.actor_class.remote() for _ in range(w.count)]
    w.ray.get([actor.empty.remote() for actor in made])
    took = time.perf_counter() - begin
    for actor in made:
        w.ray.kill(actor)
    return w.count / took


def queued(w: Work) -> float:
    w.ray.get([w.empty.remote() for _ in range(100)])
    begin = time.perf_counter()
    w.ray.get([w.empty.remote() for _ in range(w.count)])
    return time.perf_counter() - begin


def queued_bytes(w: Work) -> float:
    """Growth of this process a task that waits for its argument."""

    def resident() -> int:
        gc.collect()
        with open("/proc/self/status", encoding="ascii") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))

    ray = w.ray

    @ray.remote(num_cpus=0)
    class Gate:
        def __init__(self) -> None:
            self.open = asyncio.Event()

        async def enter(self) -> None:
            await self.open.wait()

        async def let(self) -> None:
            self.open.set()

    gate = Gate.remote()
    blocked = gate.enter.remote()
    first = [w.takes.remote(blocked) for _ in range(BATCH)]
    before = resident()
    waiting = [w.takes.remote(blocked) for _ in range(w.count)]
    grown = resident() - before
    ray.get(gate.let.remote())
    ray.get(first)
    ray.get(waiting)
    return grown / w.count


def arguments(w: Work) -> float:
    begin = time.perf_counter()
    refs = [w.ray.put(i) for i in range(10_000)]
    assert w.ray.get(w.takes.remote(*refs)) == 10_000
    return time.perf_counter() - begin


def returns(w: Work) -> float:
    begin = time.perf_counter()
    refs = w.gives.options(num_returns=3000).remote(3000)
    assert len(w.ray.get(refs)) == 3000
    return time.perf_counter() - begin


def gets(w: Work) -> float:
    begin = time.perf_counter()
    refs = [w.ray.put(np.zeros(1)) for _ in range(10_000)]
    assert len(w.ray.get(refs)) == 10_000
    return time.perf_counter() - begin


CASES: dict[str, tuple[str, runtime.Case]] = {
    "task_one": ("us/call", task_one),
    "task_batch": ("us/call", task_batch),
    "task_many": ("us/call", task_many),
    "call_one": ("us/call", call_one),
    "call_batch": ("us/call", call_batch),
    "call_threaded": ("us/call", lambda w: call_batch(w, max_concurrency=16)),
    "call_n_to_n": ("us/call", call_n_to_n),
    "call_between": ("us/call", call_between),
    "async_one": ("us/call", lambda w: call_one(w, w.async_class)),
    "async_batch": ("us/call", lambda w: call_batch(w, w.async_class)),
    "get_one": ("us/call", get_one),
    "put_one": ("us/call", put_one),
    "put_large": ("GB/s", put_large),
    "wait_refs": ("ms", wait_refs),
    "get_holding": ("ms", get_holding),
    "actors": ("actors/s", actors),
    "queued": ("s", queued),
    "queued_bytes": ("B/task", queued_bytes),
    "arguments": ("s", arguments),
    "returns": ("s", returns),
    "gets": ("s", gets),
}


def main() -> int:
    if len(sys.argv) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    name, wanted, *words = sys.argv[1:]
    chosen = runtime.options(words, {"seconds": 0.3, "count": 10_000})
    ray = runtime.start(name)
    status = runtime.run_cases(wanted, CASES, Work(ray, chosen["seconds"], chosen["count"]))
    ray.shutdown()
    return status


if __name__ == "__main__":
    sys.exit(main())
