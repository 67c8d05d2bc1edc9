"""Random programs of all that a job can do, from several threads at once: each part ends as it must, and at the end all
resources are free again.

TRIREME_CHAOS_SEED draws another program, TRIREME_CHAOS_S lets it run longer (seconds).
"""

from __future__ import annotations

import os
import random
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import eventually

SEED = int(os.environ.get("TRIREME_CHAOS_SEED", "1"))
SECONDS = float(os.environ.get("TRIREME_CHAOS_S", "8"))
THREADS = 4
LIMIT_S = 60  # of one wait: what takes longer hangs


class Part:
    """What the operations share. Tasks take a tenth of a CPU, so that many run at once; actors take none."""

    def __init__(self, runtime: Any, folder: Path, seed: int) -> None:
        self.runtime = runtime
        self.folder = folder
        self.draw = random.Random(seed)
        self.nodes = [node["NodeID"] for node in runtime.nodes()]
        self.number = 0

        @runtime.remote
        def echo(value: Any = None) -> Any:
            return value

        @runtime.remote
        def fail(value: Any) -> None:
            raise ValueError(value)

        @runtime.remote
        def tree(depth: int) -> int:
            if depth == 0:
                return 1
            return sum(runtime.get([tree.options(num_cpus=0.1).remote(depth - 1) for _ in range(2)]))

        @runtime.remote
        def sleep(seconds: float) -> float:
            time.sleep(seconds)
            return seconds

        @runtime.remote(max_retries=2)
        def die_once(path: Path) -> str:
            if not path.exists():
                path.touch()
                os.kill(os.getpid(), 9)
            return path.name

        @runtime.remote
        def count(to: int) -> Any:
            for number in range(to):
                yield np.full(1000, number)

        self.echo, self.fail, self.tree, self.sleep, self.die_once, self.count = (
            each.options(num_cpus=0.1) for each in (echo, fail, tree, sleep, die_once, count)
        )

        @runtime.remote(num_cpus=0)
        class Counter:
            def __init__(self) -> None:
                self.total = 0

            def add(self) -> int:
                self.total += 1
                return self.total

            def sleep(self, seconds: float) -> None:
                time.sleep(seconds)

            def die(self) -> None:
                os._exit(1)

        @runtime.remote(num_cpus=0)
        class Waits:
            async def echo(self, value: Any) -> Any:
                return value

            async def forever(self) -> None:
                import asyncio

                await asyncio.Event().wait()

        self.Counter, self.Waits = Counter, Waits

    def somewhere(self, remote: Any, **options: Any) -> Any:
        """With these options and a way of placing it that is drawn."""
        strategies = self.runtime.util.scheduling_strategies
        drawn = self.draw.randrange(3)
        if drawn == 1:
            options["scheduling_strategy"] = "SPREAD"
        elif drawn == 2:
            node = self.draw.choice(self.nodes)
            options["scheduling_strategy"] = strategies.NodeAffinitySchedulingStrategy(node, soft=True)
        return remote.options(**options)

    def get(self, refs: Any) -> Any:
        return self.runtime.get(refs, timeout=LIMIT_S)

    def ends_with(self, ref: Any, *errors: type[BaseException]) -> None:
        """One of these errors must come out."""
        with pytest.raises(errors):
            self.get(ref)

    def may_end_with(self, ref: Any, *errors: type[BaseException]) -> None:
        try:
            self.get(ref)
        except errors:
            pass


def tasks(part: Part) -> None:
    assert part.get([part.somewhere(part.echo).remote(i) for i in range(20)]) == list(range(20))


def chain(part: Part) -> None:
    ref = part.somewhere(part.echo).remote(1)
    for _ in range(5):
        ref = part.somewhere(part.echo).remote(ref)
    assert part.get(ref) == 1


def failure(part: Part) -> None:
    part.ends_with(part.somewhere(part.echo).remote(part.somewhere(part.fail).remote(3)), ValueError)


def nested(part: Part) -> None:
    assert part.get(part.somewhere(part.tree).remote(3)) == 8


def death(part: Part) -> None:
    part.number += 1
    path = part.folder / f"{threading.get_ident()}-{part.number}"
    assert part.get(part.somewhere(part.die_once).remote(path)) == path.name


def stream(part: Part) -> None:
    assert [part.get(ref)[0] for ref in part.somewhere(part.count).remote(5)] == [0, 1, 2, 3, 4]


def dropped_stream(part: Part) -> None:
    part.get(next(part.somewhere(part.count).remote(50)))


def actor(part: Part) -> None:
    counter = part.somewhere(part.Counter).remote()
    assert part.get([counter.add.remote() for _ in range(10)]) == list(range(1, 11))


def killed_actor(part: Part) -> None:
    counter = part.somewhere(part.Counter).remote()
    calls = [counter.sleep.remote(0.05) for _ in range(3)]
    part.runtime.kill(counter)
    for call in calls:
        part.may_end_with(call, part.runtime.exceptions.RayActorError)


def restarted_actor(part: Part) -> None:
    counter = part.somewhere(part.Counter, max_restarts=1, max_task_retries=1).remote()
    assert part.get(counter.add.remote()) == 1
    counter.die.remote()
    part.may_end_with(counter.add.remote(), part.runtime.exceptions.RayActorError)


def named_actor(part: Part) -> None:
    # Its other users may let go of it meanwhile.
    counter = part.somewhere(part.Counter, name=f"chaos {part.draw.randrange(3)}", get_if_exists=True).remote()
    part.may_end_with(counter.add.remote(), part.runtime.exceptions.RayActorError)


def coroutines(part: Part) -> None:
    waits = part.somewhere(part.Waits).remote()
    assert part.get([waits.echo.remote(i) for i in range(20)]) == list(range(20))
    pending = [waits.forever.remote() for _ in range(3)]
    for ref in pending:
        part.runtime.cancel(ref)
    for ref in pending:
        part.ends_with(ref, part.runtime.exceptions.TaskCancelledError)


def cancelled_task(part: Part) -> None:
    exceptions = part.runtime.exceptions
    ref = part.somewhere(part.sleep).remote(2 * LIMIT_S)
    time.sleep(part.draw.random() * 0.02)  # it waits, is under way or runs
    part.runtime.cancel(ref, force=part.draw.random() < 0.3)
    part.ends_with(ref, exceptions.TaskCancelledError, exceptions.WorkerCrashedError)


def cancelled_wait(part: Part) -> None:
    ref = part.somewhere(part.echo).remote(part.sleep.remote(0.05))
    part.runtime.cancel(ref)
    part.may_end_with(ref, part.runtime.exceptions.TaskCancelledError)


def waits(part: Part) -> None:
    rest = [part.somewhere(part.sleep).remote(0.001 * i) for i in range(10)]
    while rest:
        done, rest = part.runtime.wait(rest, timeout=LIMIT_S)
        assert done


def objects(part: Part) -> None:
    array = np.arange(part.draw.choice([10, 10_000, 200_000]))
    ref = part.runtime.put(array)
    for back in part.get([part.somewhere(part.echo).remote(ref) for _ in range(3)]):
        assert (back == array).all()


def borrowed(part: Part) -> None:
    keeper = part.somewhere(part.Waits).remote()
    there = keeper.echo.remote([part.runtime.put(np.zeros(20_000))])
    assert len(part.get(part.get(there)[0])) == 20_000


def group(part: Part) -> None:
    runtime = part.runtime
    reserved = runtime.util.placement_group([{"CPU": 0.1}] * 2, strategy=part.draw.choice(["PACK", "SPREAD"]))
    part.get(reserved.ready())
    inside = runtime.util.scheduling_strategies.PlacementGroupSchedulingStrategy(reserved)
    assert part.get(part.echo.options(scheduling_strategy=inside).remote(3)) == 3
    counter = part.Counter.options(scheduling_strategy=inside).remote()
    assert part.get(counter.add.remote()) == 1
    runtime.util.remove_placement_group(reserved)


def future(part: Part) -> None:
    assert part.somewhere(part.echo).remote(7).future().result(LIMIT_S) == 7


OPERATIONS: list[Callable[[Part], None]] = [
    tasks, chain, failure, nested, death, stream, dropped_stream, actor, killed_actor, restarted_actor, named_actor,
    coroutines, cancelled_task, cancelled_wait, waits, objects, borrowed, group, future,
]  # fmt: skip


def test_random_programs_end_as_they_must(runtime: Any, tmp_path: Path) -> None:
    print(f"seed {SEED}")
    deadline = time.monotonic() + SECONDS
    failures: list[str] = []
    counts = [0] * THREADS

    def run(thread: int) -> None:
        part = Part(runtime, tmp_path, SEED * THREADS + thread)
        while time.monotonic() < deadline and not failures:
            operation = part.draw.choice(OPERATIONS)
            try:
                operation(part)
            except BaseException:  # noqa: BLE001 - reported below
                failures.append(f"seed {SEED}, thread {thread}, {operation.__name__}:\n{traceback.format_exc()}")
            counts[thread] += 1

    threads = [threading.Thread(target=run, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, "\n".join(failures)
    assert min(counts) > 0
    print(f"{sum(counts)} operations")
    there = runtime.cluster_resources()
    eventually(lambda: runtime.available_resources() == there or None)
