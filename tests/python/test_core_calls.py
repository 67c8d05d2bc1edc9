"""get, put, wait, cancel, and what tells about the job."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from conftest import eventually


@pytest.fixture
def gated(runtime, tmp_path):
    """A task that waits for a file, and a function that makes it."""

    @runtime.remote
    def wait_for(name, value=None):
        (tmp_path / f"{name}.begun").touch()
        while not (tmp_path / name).exists():
            time.sleep(0.005)
        return value if value is not None else name

    wait_for.begun = lambda name: eventually((tmp_path / f"{name}.begun").exists)
    return wait_for, lambda name: (tmp_path / name).touch()


def test_get_keeps_the_order(runtime):
    @runtime.remote
    def f(i):
        time.sleep(0.02 * (3 - i))
        return i

    assert runtime.get([f.remote(i) for i in range(4)]) == [0, 1, 2, 3]
    assert runtime.get([]) == []


def test_get_with_timeout(runtime, gated):
    wait_for, open_gate = gated
    ref = wait_for.remote("timeout")
    begun = time.monotonic()
    with pytest.raises(runtime.exceptions.GetTimeoutError, match="timed out"):
        runtime.get(ref, timeout=0.2)
    assert time.monotonic() - begun >= 0.2
    with pytest.raises(TimeoutError):
        runtime.get([ref], timeout=0)
    open_gate("timeout")
    assert runtime.get(ref, timeout=60) == "timeout"
    assert runtime.get(ref, timeout=0) == "timeout"


def test_get_raises_the_first_error_without_waiting(runtime, gated):
    wait_for, open_gate = gated

    @runtime.remote
    def boom():
        raise ValueError("early")

    never = wait_for.remote("never")
    with pytest.raises(ValueError, match="early"):
        runtime.get([never, boom.remote()], timeout=60)
    open_gate("never")


def test_get_of_what_is_no_reference(runtime):
    @runtime.remote
    def f():
        pass

    for wrong in (1, "ref", None, f, [1], [runtime.put(1), 2], {"a": 1}):
        with pytest.raises((TypeError, ValueError), match="reference"):
            runtime.get(wrong)
    with pytest.raises(ValueError, match=r"f\.remote\(\)|remote function"):
        runtime.get(f)
    with pytest.raises(ValueError, match="timeout"):
        runtime.get([runtime.put(1)], timeout=-5)


def test_wait_splits_ready_and_rest_in_order(runtime, gated):
    wait_for, open_gate = gated
    refs = [wait_for.remote(f"w{i}") for i in range(2)]
    done = [runtime.put(i) for i in range(3)]
    mixed = [refs[0], done[0], refs[1], done[1], done[2]]
    ready, rest = runtime.wait(mixed, num_returns=2, timeout=60)
    assert ready == [done[0], done[1]]
    assert rest == [refs[0], refs[1], done[2]]
    ready, rest = runtime.wait(mixed, num_returns=5, timeout=0.1)
    assert ready == done
    assert rest == refs
    open_gate("w1")
    ready, rest = runtime.wait(refs, timeout=60)
    assert ready == [refs[1]]
    open_gate("w0")
    ready, rest = runtime.wait(refs, num_returns=2)
    assert (ready, rest) == (refs, [])


def test_wait_with_timeout_0_polls(runtime, gated):
    wait_for, open_gate = gated
    ref = wait_for.remote("poll")
    assert runtime.wait([ref], timeout=0) == ([], [ref])
    open_gate("poll")
    assert runtime.wait([ref], timeout=60) == ([ref], [])
    assert runtime.wait([ref], timeout=0, fetch_local=False) == ([ref], [])


def test_failed_tasks_are_ready(runtime):
    @runtime.remote
    def boom():
        raise ValueError

    ref = boom.remote()
    assert runtime.wait([ref], timeout=60) == ([ref], [])


def test_wait_checks_its_arguments(runtime):
    ref = runtime.put(1)
    with pytest.raises(ValueError, match="twice|differ"):
        runtime.wait([ref, ref])
    with pytest.raises(ValueError, match="num_returns"):
        runtime.wait([ref], num_returns=2)
    with pytest.raises(ValueError, match="num_returns"):
        runtime.wait([ref], num_returns=0)
    with pytest.raises(TypeError, match="list"):
        runtime.wait(ref)
    with pytest.raises(TypeError, match="element 0"):
        runtime.wait([1])
    assert runtime.wait([]) == ([], [])


def test_wait_on_a_thousand(runtime):
    @runtime.remote
    def f(i):
        return i

    rest = [f.remote(i) for i in range(1000)]
    while rest:
        ready, rest = runtime.wait(rest, num_returns=min(100, len(rest)), timeout=60)
        assert ready


def test_wait_takes_streams(runtime):
    @runtime.remote
    def gen():
        yield 1

    stream = gen.remote()
    ready, _ = runtime.wait([stream], timeout=60)
    assert ready == [stream]
    assert runtime.get(next(stream)) == 1


def test_cancel_interrupts_a_running_task(runtime, tmp_path):
    @runtime.remote
    def sleeps():
        (tmp_path / "begun").touch()
        try:
            time.sleep(300)
        except KeyboardInterrupt:
            (tmp_path / "interrupted").touch()
            raise

    ref = sleeps.remote()
    eventually((tmp_path / "begun").exists)
    runtime.cancel(ref)
    with pytest.raises(runtime.exceptions.TaskCancelledError):
        runtime.get(ref, timeout=60)
    eventually((tmp_path / "interrupted").exists)


def test_cancel_of_a_waiting_task_keeps_it_from_running(runtime, tmp_path, gated):
    wait_for, open_gate = gated
    cpus = int(runtime.cluster_resources()["CPU"])
    busy = [wait_for.remote("gate") for _ in range(cpus)]

    @runtime.remote
    def touches():
        (tmp_path / "ran").touch()

    wait_for.begun("gate")
    blocked = touches.remote()
    runtime.cancel(blocked)
    with pytest.raises(runtime.exceptions.TaskCancelledError):
        runtime.get(blocked, timeout=60)
    open_gate("gate")
    runtime.get(busy, timeout=60)
    assert not (tmp_path / "ran").exists()


def test_cancel_with_force_ends_the_process(runtime, tmp_path):
    @runtime.remote(max_retries=0)
    def stubborn():
        (tmp_path / "begun").touch()
        while True:
            try:
                time.sleep(300)
            except KeyboardInterrupt:
                continue

    ref = stubborn.remote()
    eventually((tmp_path / "begun").exists)
    runtime.cancel(ref, force=True)
    with pytest.raises((runtime.exceptions.TaskCancelledError, runtime.exceptions.WorkerCrashedError)):
        runtime.get(ref, timeout=60)


def test_cancel_of_children(runtime, tmp_path):
    @runtime.remote
    def child():
        (tmp_path / "begun").touch()
        try:
            time.sleep(300)
        except KeyboardInterrupt:
            (tmp_path / "child interrupted").touch()
            raise

    @runtime.remote
    def parent():
        return runtime.get(child.remote())

    ref = parent.remote()
    eventually((tmp_path / "begun").exists)
    runtime.cancel(ref, recursive=True)
    with pytest.raises(runtime.exceptions.TaskCancelledError):
        runtime.get(ref, timeout=60)
    eventually((tmp_path / "child interrupted").exists)


def test_cancel_of_a_finished_task_changes_nothing(runtime):
    @runtime.remote
    def f():
        return 1

    ref = f.remote()
    assert runtime.get(ref) == 1
    runtime.cancel(ref)
    assert runtime.get(ref) == 1
    with pytest.raises(TypeError, match="reference"):
        runtime.cancel(f)


def test_cancel_of_a_coroutine(runtime, tmp_path):
    @runtime.remote
    class Async:
        async def sleeps(self):
            (tmp_path / "begun").touch()
            try:
                await asyncio.sleep(300)
            except asyncio.CancelledError:
                (tmp_path / "cancelled").touch()
                raise

        async def alive(self):
            return True

    actor = Async.remote()
    ref = actor.sleeps.remote()
    eventually((tmp_path / "begun").exists)
    runtime.cancel(ref)
    with pytest.raises(runtime.exceptions.TaskCancelledError):
        runtime.get(ref, timeout=60)
    eventually((tmp_path / "cancelled").exists)
    assert runtime.get(actor.alive.remote(), timeout=60) is True


def test_nodes_and_resources(runtime, ranks):
    nodes = runtime.nodes()
    assert len(nodes) == ranks
    assert all(node["Alive"] for node in nodes)
    assert len({node["NodeID"] for node in nodes}) == ranks
    total = runtime.cluster_resources()
    assert total["CPU"] == sum(node["Resources"]["CPU"] for node in nodes)
    available = eventually(lambda: (a := runtime.available_resources()).get("CPU") == total["CPU"] and a)
    assert available["CPU"] == total["CPU"]


def test_runtime_context(runtime):
    context = runtime.get_runtime_context()
    assert context.get_task_id() is None
    assert context.get_actor_id() is None
    assert context.worker_mode == "driver"

    @runtime.remote
    def inside():
        context = runtime.get_runtime_context()
        return context.get_job_id(), context.get_node_id(), context.get_task_id(), context.get_worker_id(), context.namespace

    job, node, task, worker, namespace = runtime.get(inside.remote())
    assert job == context.get_job_id()
    assert node in {n["NodeID"] for n in runtime.nodes()}
    assert task
    assert worker != context.get_worker_id()
    assert namespace == context.namespace
    assert runtime.get(inside.remote())[2] != task


def test_timeline(runtime, tmp_path):
    @runtime.remote
    def recorded():
        time.sleep(0.01)
        return os.getpid()

    runtime.get([recorded.options(name="in the timeline").remote() for _ in range(3)])
    events = [e for e in runtime.timeline() if e["name"] == "in the timeline"]
    assert len(events) == 3
    assert all(event["ph"] == "X" and event["dur"] >= 10_000 for event in events)
    runtime.timeline(str(tmp_path / "trace.json"))
    assert "in the timeline" in (tmp_path / "trace.json").read_text()
