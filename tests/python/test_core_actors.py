"""Actors: state, order, names, lifetime, death and restart, async and threaded ones, concurrency groups, @method."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time

import pytest

from conftest import eventually


def define_counter(runtime):
    @runtime.remote
    class Counter:
        def __init__(self, start=0):
            self.value = start

        def add(self, by=1):
            self.value += by
            return self.value

        def pid(self):
            return os.getpid()

        def fail(self):
            raise ValueError("on purpose")

        def die(self):
            os.kill(os.getpid(), signal.SIGKILL)

    return Counter


def test_an_actor_keeps_its_state_in_one_process(runtime):
    counter = define_counter(runtime).remote(10)
    assert runtime.get([counter.add.remote(i) for i in range(1, 6)]) == [11, 13, 16, 20, 25]
    assert len(set(runtime.get([counter.pid.remote() for _ in range(3)]))) == 1


def test_calls_of_one_caller_run_in_order(runtime):
    @runtime.remote
    class Log:
        def __init__(self):
            self.seen = []

        def note(self, x):
            self.seen.append(x)

        def all(self):
            return self.seen

    log = Log.remote()
    for i in range(500):
        log.note.remote(i)
    assert runtime.get(log.all.remote()) == list(range(500))


def test_an_exception_leaves_the_actor_alive(runtime):
    counter = define_counter(runtime).remote()
    with pytest.raises(ValueError, match="on purpose"):
        runtime.get(counter.fail.remote())
    assert runtime.get(counter.add.remote()) == 1


def test_handles_as_arguments_and_results(runtime):
    counter = define_counter(runtime).remote()

    @runtime.remote
    def use(handle):
        runtime.get(handle.add.remote(5))
        return [handle]

    (same,) = runtime.get(use.remote(counter))
    assert same == counter
    assert runtime.get(same.add.remote()) == 6

    @runtime.remote
    def closes_over():
        return runtime.get(counter.add.remote(10))

    assert runtime.get(closes_over.remote()) == 16


def test_an_exception_of_the_constructor_is_what_calls_fail_with(runtime):
    @runtime.remote
    class Broken:
        def __init__(self):
            raise RuntimeError("never made")

        def m(self):
            pass

    with pytest.raises(runtime.exceptions.ActorDiedError, match="never made"):
        runtime.get(Broken.remote().m.remote(), timeout=60)


def test_an_actor_ends_with_its_last_handle(runtime):
    counter = define_counter(runtime).remote()
    pid = runtime.get(counter.pid.remote())
    host_sees = os.path.exists(f"/proc/{pid}")
    assert host_sees
    del counter
    eventually(lambda: not os.path.exists(f"/proc/{pid}"))


def test_an_actor_finishes_its_calls_before_it_ends(runtime):
    counter = define_counter(runtime).remote()
    refs = [counter.add.remote() for _ in range(50)]
    del counter
    assert runtime.get(refs) == list(range(1, 51))


def test_a_call_on_a_handle_that_nobody_keeps(runtime):
    assert runtime.get(define_counter(runtime).remote(4).add.remote()) == 5


# Names.


def test_named_actors_are_found_from_everywhere(runtime):
    Counter = define_counter(runtime)
    counter = Counter.options(name="found").remote(1)
    assert runtime.get(runtime.get_actor("found").add.remote()) == 2

    @runtime.remote
    def from_task():
        return runtime.get(runtime.get_actor("found").add.remote())

    assert runtime.get(from_task.remote()) == 3
    with pytest.raises(ValueError, match="found"):
        Counter.options(name="found").remote()
    with pytest.raises(runtime.exceptions.ActorAlreadyExistsError, match="get_if_exists=True"):
        Counter.options(name="found").remote()
    again = Counter.options(name="found", get_if_exists=True).remote(100)
    assert again == counter
    assert runtime.get(again.add.remote()) == 4
    with pytest.raises(ValueError, match="nobody"):
        runtime.get_actor("nobody")
    with pytest.raises(ValueError, match="name"):
        runtime.get_actor("")


def test_namespaces_keep_names_apart(runtime):
    Counter = define_counter(runtime)
    one = Counter.options(name="same", namespace="one").remote(1)
    two = Counter.options(name="same", namespace="two").remote(2)
    assert runtime.get(runtime.get_actor("same", namespace="one").add.remote()) == 2
    assert runtime.get(runtime.get_actor("same", namespace="two").add.remote()) == 3
    with pytest.raises(ValueError, match="same"):
        runtime.get_actor("same")
    assert one != two


def test_a_name_is_free_again_when_its_actor_is_gone(runtime):
    Counter = define_counter(runtime)
    first = Counter.options(name="again").remote()
    runtime.get(first.add.remote())
    runtime.kill(first)

    def gone():
        try:
            runtime.get_actor("again")
        except ValueError:
            return True
        return False

    eventually(gone)
    second = Counter.options(name="again").remote(7)
    assert runtime.get(second.add.remote()) == 8


def test_detached_actors_outlive_their_handles(runtime):
    Counter = define_counter(runtime)
    handle = Counter.options(name="stays", lifetime="detached").remote()
    pid = runtime.get(handle.pid.remote())
    del handle
    time.sleep(1)
    found = runtime.get_actor("stays")
    assert runtime.get(found.pid.remote()) == pid
    runtime.kill(found)


# Death.


def test_kill(runtime):
    counter = define_counter(runtime).remote()
    runtime.get(counter.add.remote())
    runtime.kill(counter)
    with pytest.raises(runtime.exceptions.ActorDiedError):
        runtime.get(counter.add.remote(), timeout=60)
    with pytest.raises(ValueError, match="handle"):
        runtime.kill("counter")


def test_the_death_of_the_process_is_the_actors(runtime):
    counter = define_counter(runtime).remote()
    runtime.get(counter.add.remote())
    with pytest.raises(runtime.exceptions.ActorDiedError):
        runtime.get(counter.die.remote(), timeout=60)
    with pytest.raises(runtime.exceptions.RayActorError):
        runtime.get(counter.add.remote(), timeout=60)


def test_exit_actor(runtime):
    @runtime.remote(max_restarts=3)
    class Leaves:
        def leave(self):
            runtime.exit_actor()

        def m(self):
            return 1

    actor = Leaves.remote()
    assert runtime.get(actor.m.remote()) == 1
    with pytest.raises(runtime.exceptions.ActorDiedError):
        runtime.get(actor.leave.remote(), timeout=60)
    with pytest.raises(runtime.exceptions.ActorDiedError):
        runtime.get(actor.m.remote(), timeout=60)
    with pytest.raises(TypeError, match="actor"):
        runtime.exit_actor()


def test_max_restarts_makes_a_new_process_with_fresh_state(runtime):
    Counter = define_counter(runtime).options(max_restarts=1)
    counter = Counter.remote(100)
    assert runtime.get(counter.add.remote()) == 101
    first = runtime.get(counter.pid.remote())
    with pytest.raises(runtime.exceptions.RayActorError):
        runtime.get(counter.die.remote(), timeout=60)

    def again():
        try:
            return runtime.get(counter.add.remote(), timeout=60)
        except runtime.exceptions.ActorUnavailableError:
            return None

    assert eventually(again) == 101
    assert runtime.get(counter.pid.remote()) != first
    with pytest.raises(runtime.exceptions.RayActorError):
        runtime.get(counter.die.remote(), timeout=60)
    with pytest.raises(runtime.exceptions.ActorDiedError):
        runtime.get(counter.add.remote(), timeout=60)


def test_kill_without_no_restart_restarts(runtime):
    @runtime.remote(max_restarts=1, max_task_retries=-1)
    class A:
        def restarted(self):
            return runtime.get_runtime_context().was_current_actor_reconstructed

    actor = A.remote()
    assert runtime.get(actor.restarted.remote()) is False
    runtime.kill(actor, no_restart=False)
    assert eventually(lambda: runtime.get(actor.restarted.remote(), timeout=60)) is True


def test_max_task_retries_repeats_the_call(runtime, tmp_path):
    @runtime.remote(max_restarts=2, max_task_retries=2)
    class Dies:
        def twice(self):
            tries = len(list(tmp_path.iterdir()))
            (tmp_path / str(tries)).touch()
            if tries < 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return tries

    assert runtime.get(Dies.remote().twice.remote(), timeout=120) == 2


# @method.


def test_method_options(runtime, tmp_path):
    @runtime.remote
    class A:
        @runtime.method(num_returns=2)
        def two(self):
            return 1, 2

        @runtime.method(num_returns=0)
        def none(self):
            return 1

        @runtime.method(max_task_retries=2, retry_exceptions=[ValueError])
        def retried(self):
            tries = len(list(tmp_path.iterdir()))
            (tmp_path / str(tries)).touch()
            if tries < 2:
                raise ValueError
            return tries

        def gen(self, n):
            yield from range(n)

    actor = A.remote()
    assert runtime.get(actor.two.remote()) == [1, 2]
    assert actor.none.remote() is None
    assert runtime.get(actor.retried.remote()) == 2
    assert [runtime.get(ref) for ref in actor.gen.remote(3)] == [0, 1, 2]
    assert runtime.get(actor.two.options(num_returns=1).remote()) == (1, 2)
    with pytest.raises(ValueError, match="num_returns"):
        actor.two.options(num_return=1)

    @runtime.remote
    def elsewhere(handle):
        return runtime.get(handle.two.remote())

    assert runtime.get(elsewhere.remote(actor)) == [1, 2]


def test_inherited_static_and_class_methods(runtime):
    class Base:
        kind = "base"

        def whoami(self):
            return self.kind

        @staticmethod
        def double(x):
            return 2 * x

        @classmethod
        def name(cls):
            return cls.__name__

    @runtime.remote
    class Derived(Base):
        kind = "derived"

    actor = Derived.remote()
    assert runtime.get([actor.whoami.remote(), actor.double.remote(4), actor.name.remote()]) == ["derived", 8, "Derived"]


def test_built_in_methods(runtime):
    counter = define_counter(runtime).remote(3)
    assert runtime.get(counter.__ray_ready__.remote()) is True
    assert runtime.get(counter.__ray_call__.remote(lambda self, x: self.value + x, 4)) == 7
    counter.__ray_terminate__.remote()
    with pytest.raises(runtime.exceptions.ActorDiedError):
        runtime.get(counter.add.remote(), timeout=60)


# Async and threaded actors.


def test_async_calls_run_at_the_same_time(runtime):
    @runtime.remote
    class Meeting:
        def __init__(self):
            self.here = 0
            self.all_here = asyncio.Event()

        async def meet(self, expected):
            self.here += 1
            if self.here == expected:
                self.all_here.set()
            await self.all_here.wait()
            return self.here

        def plain(self):
            return "plain"

    meeting = Meeting.remote()
    assert runtime.get([meeting.meet.remote(50) for _ in range(50)], timeout=60) == [50] * 50
    assert runtime.get(meeting.plain.remote()) == "plain"


def test_max_concurrency_of_an_async_actor(runtime):
    @runtime.remote(max_concurrency=3)
    class Gauge:
        def __init__(self):
            self.now = self.most = 0
            self.full = asyncio.Event()

        async def enter(self):
            self.now += 1
            self.most = max(self.most, self.now)
            if self.now == 3:
                self.full.set()
            await self.full.wait()
            await asyncio.sleep(0.02)  # a fourth would come now
            self.now -= 1

        async def peak(self):
            return self.most

    gauge = Gauge.remote()
    runtime.get([gauge.enter.remote() for _ in range(12)])
    assert runtime.get(gauge.peak.remote()) == 3


def test_async_actor_awaits_references(runtime):
    @runtime.remote
    def slow(x):
        return x + 1

    @runtime.remote
    class Awaits:
        async def run(self, refs):
            first = await refs[0]
            rest = await asyncio.gather(*refs[1:])
            made = await slow.remote(first)
            return first, rest, made

    refs = [slow.remote(i) for i in range(3)]
    assert runtime.get(Awaits.remote().run.remote(refs), timeout=60) == (1, [2, 3], 2)


def test_an_async_actor_runs_threads_timers_and_calls_at_once(runtime):
    """Its loop and its threads read what the rank sends from one ring: whoever waits for something gets it."""

    @runtime.remote
    def add_one(x):
        return x + 1

    @runtime.remote
    class Busy:
        async def in_thread(self, x):
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(None, lambda: runtime.get(add_one.remote(x)))

        async def later(self, x):
            await asyncio.sleep(0.001)
            return await add_one.remote(x)

        async def blocking(self, x):
            return runtime.get(add_one.remote(x))

        async def at_once(self, x):
            return x + 1

    busy = Busy.remote()
    for _ in range(5):
        names = ("in_thread", "later", "at_once", "blocking") * 5
        asked = [getattr(busy, name).remote(i) for i, name in enumerate(names)]
        assert runtime.get(asked, timeout=60) == list(range(1, 21))


def test_async_generators_stream(runtime):
    @runtime.remote
    class Gen:
        async def items(self, n):
            for i in range(n):
                await asyncio.sleep(0)
                yield i

    stream = Gen.remote().items.remote(4)
    assert [runtime.get(ref) for ref in stream] == [0, 1, 2, 3]

    async def consume():
        return [await ref async for ref in Gen.remote().items.remote(3)]

    assert asyncio.run(consume()) == [0, 1, 2]


def test_threaded_actor_runs_calls_at_the_same_time(runtime):
    @runtime.remote(max_concurrency=4)
    class Threads:
        def __init__(self):
            self.barrier = threading.Barrier(4)

        def meet(self):
            self.barrier.wait(60)
            return threading.get_ident()

        def ident(self):
            return threading.get_ident()

    actor = Threads.remote()
    assert len(set(runtime.get([actor.meet.remote() for _ in range(4)], timeout=90))) == 4
    # The number of threads does not grow with the number of calls.
    assert len(set(runtime.get([actor.ident.remote() for _ in range(100)]))) <= 4


def test_concurrency_groups(runtime):
    @runtime.remote(concurrency_groups={"io": 2, "compute": 1})
    class Grouped:
        def __init__(self):
            self.gate = threading.Event()

        @runtime.method(concurrency_group="io")
        def wait(self):
            return self.gate.wait(60)

        @runtime.method(concurrency_group="compute")
        def open(self):
            self.gate.set()
            return threading.current_thread().name

        def default(self):
            return "default"

    actor = Grouped.remote()
    waiting = [actor.wait.remote() for _ in range(2)]
    # Both threads of "io" are busy; the other groups are not.
    assert runtime.get(actor.default.remote(), timeout=60) == "default"
    runtime.get(actor.open.remote(), timeout=60)
    assert runtime.get(waiting, timeout=60) == [True, True]
    assert runtime.get(actor.default.options(concurrency_group="io").remote(), timeout=60) == "default"
    with pytest.raises(ValueError, match="nowhere"):
        runtime.get(actor.default.options(concurrency_group="nowhere").remote(), timeout=60)
    with pytest.raises(ValueError, match="io"):

        @runtime.remote(concurrency_groups={"other": 1})
        class Wrong:
            @runtime.method(concurrency_group="io")
            def m(self):
                pass


def test_concurrency_groups_of_an_async_actor(runtime):
    @runtime.remote(concurrency_groups={"slow": 1})
    class Grouped:
        def __init__(self):
            self.gate = asyncio.Event()

        @runtime.method(concurrency_group="slow")
        async def wait(self):
            return await self.gate.wait()

        async def open(self):
            self.gate.set()

    actor = Grouped.remote()
    waiting = [actor.wait.remote() for _ in range(3)]
    runtime.get(actor.open.remote(), timeout=60)
    assert runtime.get(waiting, timeout=60) == [True] * 3


def test_max_pending_calls(runtime, tmp_path):
    gate = tmp_path / "gate"

    @runtime.remote(max_pending_calls=3)
    class Slow:
        def wait(self):
            while not gate.exists():
                time.sleep(0.01)

    actor = Slow.remote()
    refs = [actor.wait.remote() for _ in range(3)]
    with pytest.raises(runtime.exceptions.PendingCallsLimitExceeded, match="max_pending_calls is 3"):
        actor.wait.remote()
    gate.touch()
    runtime.get(refs, timeout=60)
    runtime.get(actor.wait.remote(), timeout=60)


def test_current_actor(runtime):
    @runtime.remote
    class Self:
        def handle(self):
            return runtime.get_runtime_context().current_actor

        def who(self):
            context = runtime.get_runtime_context()
            return context.get_actor_id(), context.get_actor_name(), context.get_task_id()

    actor = Self.options(name="selfie").remote()
    assert runtime.get(actor.handle.remote()) == actor
    actor_id, name, task = runtime.get(actor.who.remote())
    assert actor_id == actor._actor_id.hex()
    assert name == "selfie"
    assert task
    with pytest.raises(RuntimeError, match="actor"):
        runtime.get_runtime_context().current_actor  # noqa: B018


def test_many_actors(runtime):
    Counter = define_counter(runtime)
    actors = [Counter.remote(i) for i in range(40)]
    assert runtime.get([a.add.remote() for a in actors], timeout=150) == list(range(1, 41))
