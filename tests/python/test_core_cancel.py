"""cancel() of what has not begun because its arguments are not there."""

import threading

import pytest

from conftest import eventually


@pytest.fixture
def gate(runtime):
    """A function that waits for a file of a given path, and one that makes it."""

    @runtime.remote(num_cpus=0)
    def value_after(path, value):
        import time
        from pathlib import Path

        while not Path(path).exists():
            time.sleep(0.01)
        return value

    return value_after


@pytest.fixture
def touch(runtime):
    @runtime.remote
    def touch(path, *_):
        path.touch()
        return path.name

    return touch


def cancelled(runtime, ref):
    with pytest.raises(runtime.exceptions.TaskCancelledError):
        runtime.get(ref, timeout=60)


@pytest.mark.parametrize("options", [{}, {"num_cpus": 0.5}, {"scheduling_strategy": "SPREAD"}, {"max_retries": 0}])
def test_a_task_whose_argument_is_not_there(runtime, gate, touch, tmp_path, options):
    pending = gate.remote(tmp_path / "gate", 7)
    waits = touch.options(**options).remote(tmp_path / "ran", pending)
    other = touch.options(**options).remote(tmp_path / "other", pending)
    runtime.cancel(waits)
    cancelled(runtime, waits)  # the gate is closed: it cannot be the argument that ended it
    assert not pending._ref.ready
    (tmp_path / "gate").touch()
    assert runtime.get(pending, timeout=60) == 7
    assert runtime.get(other, timeout=60) == "other"
    cancelled(runtime, waits)
    assert not (tmp_path / "ran").exists()


def test_a_thread_that_waits_for_it_goes_on(runtime, gate, touch, tmp_path):
    waits = touch.remote(tmp_path / "ran", gate.remote(tmp_path / "gate", 7))
    seen = []

    def get():
        try:
            seen.append(runtime.get(waits))
        except runtime.exceptions.TaskCancelledError as error:
            seen.append(error)

    thread = threading.Thread(target=get)
    thread.start()
    runtime.cancel(waits)
    thread.join(60)
    (tmp_path / "gate").touch()
    assert isinstance(seen[0], runtime.exceptions.TaskCancelledError)


def test_what_takes_its_result_fails_too(runtime, gate, touch, tmp_path):
    waits = touch.remote(tmp_path / "first", gate.remote(tmp_path / "gate", 7))
    behind = touch.remote(tmp_path / "second", waits)
    runtime.cancel(waits)
    cancelled(runtime, behind)
    (tmp_path / "gate").touch()
    assert not (tmp_path / "second").exists()


def test_all_of_several_results(runtime, gate, tmp_path):
    @runtime.remote(num_returns=3)
    def three(path, _):
        path.touch()
        return 1, 2, 3

    pending = gate.remote(tmp_path / "gate", 7)
    refs = three.remote(tmp_path / "ran", pending)
    others = three.remote(tmp_path / "other", pending)
    runtime.cancel(refs[1])
    for ref in refs:
        cancelled(runtime, ref)
    (tmp_path / "gate").touch()
    assert runtime.get(others, timeout=60) == [1, 2, 3]
    assert not (tmp_path / "ran").exists()


def test_a_stream(runtime, gate, tmp_path):
    @runtime.remote
    def stream(path, _):
        path.touch()
        yield 1

    values = stream.remote(tmp_path / "ran", gate.remote(tmp_path / "gate", 7))
    runtime.cancel(values)
    with pytest.raises(runtime.exceptions.TaskCancelledError):
        runtime.get(next(values), timeout=60)
    (tmp_path / "gate").touch()
    assert not (tmp_path / "ran").exists()


def test_calls_of_actors_on_every_rank(runtime, gate, tmp_path):
    @runtime.remote
    class Log:
        def __init__(self):
            self.seen = []

        def add(self, value, _=None):
            self.seen.append(value)
            return len(self.seen)

        def all(self):
            return self.seen

    actors = [Log.options(scheduling_strategy="SPREAD").remote() for _ in range(len(runtime.nodes()))]
    assert runtime.get([a.add.remote("before") for a in actors], timeout=60) == [1] * len(actors)
    pending = gate.remote(tmp_path / "gate", 7)
    waits = [a.add.remote("cancelled", pending) for a in actors]
    behind = [a.add.remote("behind", pending) for a in actors]
    for ref in waits:
        runtime.cancel(ref)
    for ref in waits:
        cancelled(runtime, ref)
    (tmp_path / "gate").touch()
    assert runtime.get(behind, timeout=60) == [2] * len(actors)
    assert runtime.get([a.all.remote() for a in actors], timeout=60) == [["before", "behind"]] * len(actors)


def test_from_within_a_task(runtime, gate, touch, tmp_path):
    @runtime.remote
    def cancels(gate, touch, path):
        import trireme

        waits = touch.remote(path / "ran", gate.remote(path / "gate", 7))
        trireme.cancel(waits)
        try:
            trireme.get(waits)
        except trireme.exceptions.TaskCancelledError:
            return "cancelled"
        finally:
            (path / "gate").touch()
        return "ran"

    assert runtime.get(cancels.remote(gate, touch, tmp_path), timeout=60) == "cancelled"
    assert not (tmp_path / "ran").exists()


def test_from_every_rank_by_a_reference_that_was_sent_there(runtime, gate, touch, tmp_path):
    from trireme.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    @runtime.remote(num_cpus=0)
    def cancels(refs):
        import trireme

        trireme.cancel(refs[0])

    pending = gate.remote(tmp_path / "gate", 7)
    for node in runtime.nodes():
        waits = touch.remote(tmp_path / "ran", pending)
        there = NodeAffinitySchedulingStrategy(node["NodeID"])
        runtime.get(cancels.options(scheduling_strategy=there).remote([waits]), timeout=60)
        cancelled(runtime, waits)
    assert not pending._ref.ready
    (tmp_path / "gate").touch()
    assert not (tmp_path / "ran").exists()


def test_a_large_result_that_comes_too_late_is_freed(runtime, tmp_path):
    # Whoever is cancelled here may run, wait or have ended: each outcome is one of the two, and nothing stays behind.
    import numpy as np

    @runtime.remote
    def large(i):
        return np.full(100_000, i)

    @runtime.remote
    def double(array):
        return array * 2

    for _ in range(5):
        made = [large.remote(i) for i in range(8)]
        doubled = [double.remote(each) for each in made]
        for ref in doubled[::2]:
            runtime.cancel(ref)
        for i, ref in enumerate(doubled):
            try:
                assert runtime.get(ref, timeout=60)[0] == 2 * i
            except runtime.exceptions.TaskCancelledError:
                assert i % 2 == 0
    assert runtime.get(double.remote(large.remote(4)), timeout=60)[-1] == 8


def test_thousands(runtime, gate, touch, tmp_path):
    pending = gate.remote(tmp_path / "gate", 7)
    refs = [touch.remote(tmp_path / f"{i}", pending) for i in range(2000)]
    for ref in refs[:-1]:
        runtime.cancel(ref)
    for ref in refs[:-1]:
        cancelled(runtime, ref)
    (tmp_path / "gate").touch()
    assert runtime.get(refs[-1], timeout=60) == "1999"
    assert [path.name for path in tmp_path.iterdir() if path.name != "gate"] == ["1999"]


def test_children_that_wait_for_their_arguments(runtime, gate, touch, tmp_path):
    from trireme.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    @runtime.remote(num_cpus=0)
    class Seen:
        """Keeps references, so that they can be looked at once their maker is gone."""

        def __init__(self):
            self.refs = []

        def keep(self, refs):
            self.refs += refs

        def count(self):
            return len(self.refs)

        def outcomes(self):
            import trireme

            found = []
            for ref in self.refs:
                try:
                    found.append(trireme.get(ref))
                except trireme.exceptions.RayError as error:
                    found.append(type(error).__name__)
            return found

    @runtime.remote(num_cpus=0, max_retries=0)
    def parent(seen, touch, log, pending, path):
        import trireme

        refs = [
            touch.remote(path / "task", pending[0]),
            touch.options(num_cpus=0.5).remote(path / "placed", pending[0]),
            log.add.remote(path / "call", pending[0]),
        ]
        trireme.get(seen.keep.remote(refs))
        refs.append(touch.remote(path / "behind", refs[0]))
        trireme.get(refs)

    @runtime.remote(num_cpus=0)
    class Log:
        def add(self, path, _):
            path.touch()

    seen = Seen.remote()
    log = Log.remote()
    pending = gate.remote(tmp_path / "gate", 7)
    kept = 0
    for node in runtime.nodes():
        there = NodeAffinitySchedulingStrategy(node["NodeID"])
        waits = parent.options(scheduling_strategy=there).remote(seen, touch, log, [pending], tmp_path)
        kept += 3
        eventually(lambda: runtime.get(seen.count.remote(), timeout=60) == kept)
        runtime.cancel(waits, recursive=True)
        cancelled(runtime, waits)
        # The gate is closed: nothing but cancel() ends them.
        assert runtime.get(seen.outcomes.remote(), timeout=60) == ["TaskCancelledError"] * kept
    assert not pending._ref.ready
    (tmp_path / "gate").touch()
    assert runtime.get(pending, timeout=60) == 7
    runtime.get(log.add.remote(tmp_path / "last", 0), timeout=60)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gate", "last"]


def test_children_are_left_alone_when_asked(runtime, gate, touch, tmp_path):
    @runtime.remote(num_cpus=0, max_retries=0)
    def parent(touch, pending, path):
        import trireme

        child = touch.remote(path / "child", pending[0])
        (path / "began").touch()
        trireme.get(child)

    pending = gate.remote(tmp_path / "gate", 7)
    waits = parent.remote(touch, [pending], tmp_path)
    eventually((tmp_path / "began").exists)
    runtime.cancel(waits, recursive=False)
    cancelled(runtime, waits)
    (tmp_path / "gate").touch()
    eventually((tmp_path / "child").exists)


def test_a_call_of_an_actor_cannot_be_forced(runtime, tmp_path):
    @runtime.remote(num_cpus=0, max_concurrency=8)
    class Waiter:
        def wait_for(self, path):
            import time
            from pathlib import Path

            while not Path(path).exists():
                time.sleep(0.01)
            return 7

        @runtime.method(num_returns=2)
        def two(self, path):
            return self.wait_for(path), 8

        def items(self, path):
            yield 1
            yield self.wait_for(path)

        def pid(self):
            import os

            return os.getpid()

    @runtime.remote(num_cpus=0)
    def forces(actor, path, done):
        import trireme

        ref = actor.wait_for.remote(path)
        try:
            trireme.cancel(ref, force=True)
        except ValueError as error:
            found = str(error)
        assert trireme.get(actor.wait_for.remote(done), timeout=60) == 7
        over = actor.wait_for.remote(done)
        trireme.wait([over], timeout=60)
        trireme.cancel(over, force=True)
        return found, [ref]

    gate, done = tmp_path / "gate", tmp_path / "done"
    done.touch()
    for _ in range(len(runtime.nodes())):
        actor = Waiter.options(scheduling_strategy="SPREAD").remote()
        pid = runtime.get(actor.pid.remote(), timeout=60)
        pending = actor.wait_for.remote(gate)
        waiting = Waiter.remote().wait_for.remote(gate)  # of an actor that nobody has a handle on any more
        both = actor.two.remote(gate)
        items = actor.items.remote(gate)
        for ref in (pending, waiting, *both, items):
            with pytest.raises(ValueError, match="kill()"):
                runtime.cancel(ref, force=True)
        found, (theirs,) = runtime.get(forces.remote(actor, gate, done), timeout=60)
        assert "kill()" in found
        gate.touch()
        # Nothing was cancelled, and the actor lives.
        assert runtime.get([pending, waiting, *both, theirs], timeout=60) == [7, 7, 7, 8, 7]
        assert [runtime.get(item, timeout=60) for item in items] == [1, 7]
        runtime.cancel(pending, force=True)  # it is over
        assert runtime.get(pending) == 7
        assert runtime.get(actor.pid.remote(), timeout=60) == pid
        gate.unlink()


def test_a_task_can_be_forced_from_within_a_task_and_an_actor(runtime, gate, tmp_path):
    @runtime.remote(num_cpus=0)
    class Forces:
        def force(self, gate, path):
            import trireme

            ref = gate.options(max_retries=0).remote(path, 1)
            trireme.cancel(ref, force=True)
            return [ref]

    (ref,) = runtime.get(Forces.remote().force.remote(gate, tmp_path / "gate"), timeout=60)
    with pytest.raises((runtime.exceptions.TaskCancelledError, runtime.exceptions.WorkerCrashedError)):
        runtime.get(ref, timeout=60)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_call_of_an_actor_can_ask_whether_it_was_cancelled(runtime, tmp_path, concurrency):
    @runtime.remote(num_cpus=0, max_concurrency=concurrency)
    class Asks:
        def asks(self, path):
            import time

            import trireme

            context = trireme.get_runtime_context()
            path.touch()
            deadline = time.monotonic() + 60
            while not context.is_canceled():
                assert time.monotonic() < deadline
                time.sleep(0.001)
            return "stopped"

        def touch(self, path):
            import trireme

            path.touch()
            return trireme.get_runtime_context().is_canceled()

    actor = Asks.options(scheduling_strategy="SPREAD").remote()
    for i in range(3):
        first, second, third = (tmp_path / f"{which} {i}" for which in ("first", "second", "third"))
        runs, behind = actor.asks.remote(first), actor.asks.remote(second)
        last = actor.touch.remote(third)
        eventually(first.exists)
        # In either order; the second begins when the first has ended, and then it is its turn to be told.
        for ref in (runs, behind) if i % 2 else (behind, runs):
            runtime.cancel(ref)
        assert runtime.get(runs, timeout=60) == "stopped"
        try:
            assert runtime.get(behind, timeout=60) == "stopped"
        except runtime.exceptions.TaskCancelledError:
            assert not second.exists()  # it had not begun
        assert runtime.get(last, timeout=60) is False


def test_who_can_ask(runtime, tmp_path):
    @runtime.remote(max_retries=0)
    def task(path):
        import time

        import trireme

        context = trireme.get_runtime_context()
        assert not context.is_canceled()
        try:
            (path / "began").touch()
            time.sleep(60)
        except KeyboardInterrupt:
            if context.is_canceled():
                (path / "knew").touch()
            raise

    @runtime.remote(num_cpus=0)
    class Async:
        async def asks(self):
            import trireme

            return trireme.get_runtime_context().is_canceled()

    with pytest.raises(RuntimeError, match="driver"):
        runtime.get_runtime_context().is_canceled()
    with pytest.raises(RuntimeError, match="asyncio.CancelledError"):
        runtime.get(Async.remote().asks.remote(), timeout=60)
    ref = task.remote(tmp_path)
    eventually((tmp_path / "began").exists)
    runtime.cancel(ref)
    cancelled(runtime, ref)
    assert (tmp_path / "knew").exists()


def test_a_coroutine_that_is_cancelled_before_its_first_step(runtime, tmp_path):
    """Call and cancellation come in one look of the event loop. It never ended, and held its place in the actor."""

    @runtime.remote(num_cpus=0, max_concurrency=2)
    class Waits:
        def hold(self, path):
            import time

            path.with_suffix(".begun").touch()
            while not path.exists():
                time.sleep(0.01)

        async def forever(self):
            import asyncio

            await asyncio.Event().wait()

        async def echo(self, value):
            return value

    actor = Waits.remote()
    for turn in range(5):
        path = tmp_path / f"{turn}.go"
        held = actor.hold.remote(path)
        eventually(path.with_suffix(".begun").exists)  # the loop is held up: what follows comes in together
        pending = actor.forever.remote()
        runtime.cancel(pending)
        path.touch()
        cancelled(runtime, pending)
        runtime.get(held)
    assert runtime.get([actor.echo.remote(i) for i in range(4)], timeout=60) == [0, 1, 2, 3]


def test_a_signal_that_is_lost_is_sent_again(runtime, tmp_path):
    """One that comes after the interpreter's last look and before a system call blocks is seen only after that."""

    @runtime.remote
    def sleeps(path):
        import signal
        import time

        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        (path / "deaf").touch()
        while not (path / "go").exists():
            time.sleep(0.001)
        signal.signal(signal.SIGINT, before)
        time.sleep(600)

    ref = sleeps.remote(tmp_path)
    eventually((tmp_path / "deaf").exists)
    runtime.cancel(ref)
    (tmp_path / "go").touch()
    cancelled(runtime, ref)


def test_what_a_task_does_about_its_interruption_is_not_interrupted(runtime, tmp_path):
    @runtime.remote
    def tidies(path):
        import time

        times = 0
        (path / "began").touch()
        end = time.monotonic() + 600
        while time.monotonic() < end:
            try:
                time.sleep(end - time.monotonic())
            except KeyboardInterrupt:
                times += 1
                end = time.monotonic() + 0.5  # fifty times the wait for the first repetition
        return times

    ref = tidies.remote(tmp_path)
    eventually((tmp_path / "began").exists)
    runtime.cancel(ref)
    assert runtime.get(ref, timeout=60) == 1
