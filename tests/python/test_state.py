"""The state API: what ran, what runs, and where."""

import os
import sys
import time

import pytest

from conftest import eventually
from trireme import _observe
from trireme.util import state
from trireme.util.state import RayStateApiException, list_actors, list_nodes, list_tasks, list_workers


def tasks_named(name):
    return list_tasks(filters=[("name", "=", name)], limit=10_000)


def test_finished_and_failed_tasks_are_listed(runtime):
    @runtime.remote
    def listed_fine():
        return os.getpid()

    @runtime.remote(max_retries=0)
    def listed_failing():
        raise KeyError("x")

    pids = set(runtime.get([listed_fine.remote() for _ in range(3)]))
    with pytest.raises(KeyError):
        runtime.get(listed_failing.remote())
    fine = [t for t in list_tasks(limit=1000) if t.name.endswith("listed_fine")]
    assert [t.state for t in fine] == ["FINISHED"] * 3
    assert {t.worker_pid for t in fine} == pids
    assert all(t.end_time_ms >= t.start_time_ms for t in fine)
    (failed,) = [t for t in list_tasks(limit=1000) if t.name.endswith("listed_failing")]
    assert (failed.state, failed.error_type, failed.type) == ("FAILED", "KeyError", "NORMAL_TASK")
    assert failed["state"] == failed.state
    assert failed.asdict()["name"] == failed.name
    assert state.get_task(failed.task_id).name == failed.name


def test_a_running_task_is_listed_as_such(runtime):
    @runtime.remote
    def listed_running():
        time.sleep(600)

    ref = listed_running.remote()
    found = eventually(
        lambda: [t for t in list_tasks(filters=[("state", "=", "RUNNING")]) if "listed_running" in t.name]
    )
    assert found[0].end_time_ms is None
    runtime.cancel(ref, force=True)
    with pytest.raises(runtime.exceptions.RayError):
        runtime.get(ref, timeout=60)
    eventually(lambda: not [t for t in list_tasks(filters=[("state", "=", "RUNNING")]) if "listed_running" in t.name])


def test_actors_are_listed_alive_and_dead(runtime):
    @runtime.remote
    class Listed:
        def pid(self):
            return os.getpid()

    actor = Listed.options(name="listed by name").remote()
    pid = runtime.get(actor.pid.remote())
    (found,) = [a for a in list_actors(limit=1000) if a.pid == pid]
    assert (found.state, found.class_name.rpartition(".")[2], found.name) == ("ALIVE", "Listed", "listed by name")
    assert state.get_actor(found.actor_id).pid == pid
    calls = [t for t in list_tasks(limit=1000) if t.worker_pid == pid]
    assert {t.type for t in calls} >= {"ACTOR_TASK"}
    assert "listed by name" in __import__("trireme").util.list_named_actors()
    runtime.kill(actor)
    eventually(lambda: state.get_actor(found.actor_id).state == "DEAD")


def test_nodes_and_workers(runtime, ranks):
    nodes = list_nodes()
    assert sorted(node.rank for node in nodes) == list(range(ranks))
    assert {node.state for node in nodes} == {"ALIVE"}
    assert sum(node.is_head_node for node in nodes) == 1
    assert nodes[0].resources_total["CPU"] > 0
    runtime.get(runtime.remote(os.getpid).remote())
    workers = list_workers()
    assert any(worker.is_alive for worker in workers)
    assert {worker.rank for worker in workers} <= set(range(ranks))


def test_placement_groups(runtime):
    from trireme.util import placement_group, remove_placement_group

    group = placement_group([{"CPU": 0.1}], strategy="PACK", name="listed group")
    assert group.wait(60)
    (found,) = [g for g in state.list_placement_groups() if g.name == "listed group"]
    assert (found.state, found.strategy) == ("CREATED", "PACK")
    remove_placement_group(group)


def test_tasks_of_other_ranks_are_listed(runtime, ranks):
    from trireme.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    @runtime.remote(num_cpus=0)
    def listed_everywhere():
        return None

    for node in runtime.nodes():
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        runtime.get(listed_everywhere.options(scheduling_strategy=there).remote())
    found = [t for t in list_tasks(limit=1000) if t.name.endswith("listed_everywhere")]
    assert sorted(t.rank for t in found) == list(range(ranks))


def test_summaries(runtime):
    @runtime.remote
    def summed():
        return None

    runtime.get([summed.remote() for _ in range(4)])
    (entry,) = [e for name, e in state.summarize_tasks()["cluster"]["summary"].items() if name.endswith("summed")]
    assert entry["state_counts"] == {"FINISHED": 4}
    assert state.summarize_actors()["cluster"]["total_actors"] >= 0


def test_the_timeline_has_the_tasks(runtime, tmp_path):
    @runtime.remote
    def on_the_timeline():
        time.sleep(0.05)

    runtime.get(on_the_timeline.remote())
    events = [e for e in runtime.timeline() if e["name"].endswith("on_the_timeline")]
    assert len(events) == 1
    assert events[0]["ph"] == "X"
    assert events[0]["dur"] >= 40_000
    path = tmp_path / "timeline.json"
    runtime.timeline(filename=str(path))
    assert "on_the_timeline" in path.read_text()


def test_filters_and_limits(runtime):
    assert len(list_tasks(limit=1)) <= 1
    with pytest.raises(ValueError, match="no field 'colour'"):
        list_tasks(filters=[("colour", "=", "red")])
    with pytest.raises(ValueError, match="comparison"):
        list_tasks(filters=[("name", ">", "a")])
    with pytest.raises(ValueError, match="limit"):
        list_tasks(limit=0)
    assert issubclass(RayStateApiException, Exception)


def test_a_ring_keeps_the_last_records(tmp_path):
    (tmp_path / "events").mkdir()
    recorder = _observe.Recorder(tmp_path, {"rank": 0, "worker_id": 1})
    first = recorder.begin(0, "long", 0, 1)
    for _ in range(_observe.CAPACITY + 5):
        recorder.end(recorder.begin(2, "short", 0, 2))
    recorder.end(first, "KeyError")  # overwritten by then: must not touch another's record
    (process,) = _observe.read_folder(tmp_path)
    records = process["records"]
    assert len(records) == _observe.CAPACITY
    assert {r.name for r in records} == {"short"}
    assert not any(r.error for r in records)
    assert records[-1].number == _observe.CAPACITY + 5


def test_objects_of_the_driver(runtime):
    import numpy as np

    array = runtime.put(np.zeros(1 << 17))
    small = runtime.put("x")

    @runtime.remote(max_retries=0)
    def makes_an_object(fail):
        if fail:
            raise KeyError("x")
        return b"y" * 100_000

    made, failed = makes_an_object.remote(False), makes_an_object.remote(True)
    runtime.wait([made, failed], num_returns=2)
    found = {o.object_id: o for o in state.list_objects(limit=10_000) if o.pid == os.getpid()}
    assert (found[array.hex()].object_size >> 20, found[array.hex()].reference_type) == (1, "LOCAL_REFERENCE")
    assert (found[array.hex()].type, found[array.hex()].task_status) == ("DRIVER", "NIL")
    assert 0 < found[small.hex()].object_size < 1000
    assert found[made.hex()].object_size >= 100_000
    assert (found[made.hex()].task_status, found[failed.hex()].task_status) == ("FINISHED", "FAILED")
    assert found[made.hex()].call_site.endswith("makes_an_object")
    (again,) = state.get_objects(array.hex())
    assert again == found[array.hex()]
    summary = state.summarize_objects()["cluster"]
    assert summary["total_size_mb"] >= 1
    assert summary["summary"]["(put object)"]["ref_type_counts"]["LOCAL_REFERENCE"] >= 2
    identity = array.hex()
    del array
    eventually(lambda: not state.get_objects(identity))


def test_a_value_in_use_and_an_actor_are_objects(runtime):
    import numpy as np

    @runtime.remote
    class Owned:
        def hello(self):
            return 1

    actor = Owned.remote()
    runtime.get(actor.hello.remote())
    handles = state.list_objects(filters=[("reference_type", "=", "actor_handle")], limit=10_000)
    assert {h.object_id for h in handles if h.pid == os.getpid()} >= {actor._actor_id.hex()}
    value = runtime.get(runtime.put(np.arange(100_000)))  # the reference is gone, the memory is still read
    (pinned,) = state.list_objects(filters=[("reference_type", "=", "PINNED_IN_MEMORY"), ("pid", "=", os.getpid())])
    assert pinned.object_size >= value.nbytes


def test_objects_of_workers_on_all_ranks(runtime, ranks):
    from trireme.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    @runtime.remote(num_cpus=0)
    class Holder:
        def hold(self):
            self.ref = runtime.put(b"z" * 50_000)
            return os.getpid(), self.ref.hex()

        def listed(self):
            return [(o.pid, o.object_id) for o in state.list_objects(limit=10_000)]

    holders = [
        Holder.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote()
        for node in runtime.nodes()
    ]
    expected = set(runtime.get([holder.hold.remote() for holder in holders]))
    found = {(o.pid, o.object_id): o for o in state.list_objects(limit=10_000)}
    assert expected <= found.keys()
    assert sorted(found[key].rank for key in expected) == list(range(ranks))
    assert {found[key].type for key in expected} == {"WORKER"}
    mine = runtime.put(b"of the driver")
    # A worker sees what the driver sees.
    assert expected | {(os.getpid(), mine.hex())} <= {tuple(row) for row in runtime.get(holders[-1].listed.remote())}


def test_what_waits_is_listed(runtime):
    signal = runtime.remote(num_cpus=0)(Gate).remote()

    @runtime.remote(num_cpus=0)
    def listed_blocker():
        return runtime.get(signal.wait.remote())

    @runtime.remote
    def listed_waiting(x):
        return x

    first = listed_blocker.remote()
    second = listed_waiting.remote(first)
    (task,) = [t for t in list_tasks(limit=10_000) if t.name.endswith("listed_waiting")]
    assert (task.state, task.worker_pid, task.start_time_ms) == ("PENDING_ARGS_AVAIL", None, None)
    (found,) = [o for o in state.get_objects(second.hex()) if o.pid == os.getpid()]
    assert found.task_status == "PENDING_ARGS_AVAIL"
    runtime.get(signal.open.remote())
    runtime.get(second)
    (task,) = [t for t in list_tasks(limit=10_000) if t.name.endswith("listed_waiting")]
    assert task.state == "FINISHED"


class Gate:
    def __init__(self):
        import asyncio

        self.event = asyncio.Event()

    async def wait(self):
        await self.event.wait()

    async def open(self):
        self.event.set()


def test_the_job(runtime):
    (job,) = state.list_jobs()
    assert (job.job_id, job.status) == (runtime.get_runtime_context().get_job_id(), "RUNNING")


def test_missing_output(runtime, monkeypatch):
    from trireme.util.state import _gather

    monkeypatch.setattr(runtime, "wait", lambda refs, **_: ([], list(refs)))
    if len(runtime.nodes()) == 1:
        assert state.list_objects() is not None  # nobody else to ask
        return
    with pytest.raises(RayStateApiException, match=r"ranks \[1, 2\] did not answer"):
        state.list_objects()
    assert state.list_objects(raise_on_missing_output=False)
    assert _gather._strict.get() is False


def test_runtime_environments_are_listed_with_what_went_wrong(runtime):
    here = runtime.get_runtime_context().get_node_id()

    @runtime.remote
    def listed_env():
        return os.environ["LISTED_ENV"]

    assert runtime.get(listed_env.options(runtime_env={"env_vars": {"LISTED_ENV": "yes"}}).remote()) == "yes"
    with pytest.raises(runtime.exceptions.RuntimeEnvSetupError):
        runtime.get(listed_env.options(runtime_env={"py_executable": "/nonexistent/listed"}, max_retries=0).remote())
    listed = state.list_runtime_envs(limit=1000)
    (fine,) = [e for e in listed if e.runtime_env.get("env_vars") == {"LISTED_ENV": "yes"}]
    assert fine.success and fine.error is None and fine.ref_cnt >= 1 and fine.creation_time_ms >= 0
    assert fine.node_id in {node.node_id for node in list_nodes()} and here
    assert all(not e.success for e in listed[: sum(not e.success for e in listed)])  # those that failed come first
    assert state.list_runtime_envs(filters=[("success", "=", True)], limit=1000)
    with pytest.raises(ValueError, match="no field"):
        state.list_runtime_envs(filters=[("colour", "=", "red")])


def test_logs_are_listed_and_read(runtime):
    from trireme.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    node = list_nodes(filters=[("state", "=", "ALIVE")], limit=1000)[-1]
    there = NodeAffinitySchedulingStrategy(node.node_id, soft=False)

    @runtime.remote
    class Logged:
        def write(self, text):
            print(f"\x1b[31m{text}\x1b[0m")
            print(text.upper(), file=sys.stderr)
            return os.getpid()

        def id(self):
            return runtime.get_runtime_context().get_actor_id()

    actor = Logged.options(scheduling_strategy=there).remote()
    pid = runtime.get([actor.write.remote(f"logged {i}") for i in range(3)])[0]
    actor_id = runtime.get(actor.id.remote())
    plain = {"filter_ansi_code": True}
    eventually(lambda: len(list(state.get_log(node_id=node.node_id, pid=pid, suffix="err"))) == 3)
    wanted = [f"logged {i}\n" for i in range(3)]
    assert list(state.get_log(node_id=node.node_id, pid=pid, **plain)) == wanted
    assert list(state.get_log(actor_id=actor_id, tail=2, **plain)) == wanted[1:]
    assert list(state.get_log(actor_id=actor_id, tail=0)) == []
    assert list(state.get_log(actor_id=actor_id, suffix="err")) == [line.upper() for line in wanted]
    assert next(state.get_log(actor_id=actor_id)) == "\x1b[31mlogged 0\x1b[0m\n"
    assert next(state.get_log(actor_id=actor_id, encoding=None, **plain)) == b"logged 0\n"

    files = state.list_logs(node_id=node.node_id, glob_filter=f"worker-*-{pid}.*")
    ((out,), (err,)) = files["worker_out"], files["worker_err"]
    assert out.endswith(f"-{pid}.out") and err.endswith(f"-{pid}.err")
    assert out in state.list_logs(node_ip=node.node_ip)["worker_out"]
    assert list(state.get_log(node_id=node.node_id, filename=out, **plain)) == wanted
    assert list(state.get_log(node_id=node.node_id, filename=err)) == [line.upper() for line in wanted]
    assert state.list_logs(node_id=node.node_id, glob_filter="nothing*") == {}

    lines = state.get_log(actor_id=actor_id, follow=True, _interval=0.01, **plain)
    assert [next(lines) for _ in range(3)] == wanted
    runtime.get(actor.write.remote("logged later"))
    assert next(lines) == "logged later\n"
    lines.close()


def test_the_log_of_a_task_has_its_lines_and_no_others(runtime):
    @runtime.remote(num_cpus=0)
    class Speaker:
        def say(self, *texts):
            for text in texts:
                print(text)
                print(text.upper(), file=sys.stderr)
            return runtime.get_runtime_context().get_task_id()

        def shell(self, text):
            os.system(f"echo {text}")  # noqa: S605
            return runtime.get_runtime_context().get_task_id()

        def fail(self):
            print("before it failed")
            raise KeyError(runtime.get_runtime_context().get_task_id())

        def begin(self, text):
            print(text, end="")
            return runtime.get_runtime_context().get_task_id()

    speaker = Speaker.remote()
    # All at once, so that times say nothing.
    said = [speaker.say.remote(f"{i} a", f"{i} b") for i in range(20)]
    quiet = speaker.say.remote()
    last = speaker.say.remote("last")

    def log(task, **options):
        return list(state.get_log(task_id=task, **options))

    eventually(lambda: log(runtime.get(last), suffix="err") == ["LAST\n"] and log(runtime.get(last)) == ["last\n"])
    for i, task in enumerate(runtime.get(said)):
        assert log(task) == [f"{i} a\n", f"{i} b\n"]
        assert log(task, suffix="err") == [f"{i} A\n", f"{i} B\n"]
    assert log(runtime.get(quiet), suffix="err") == []
    # What Python did not write goes by time.
    alone = runtime.get(speaker.shell.remote("alone"))
    eventually(lambda: log(alone) == ["alone\n"])
    with pytest.raises(KeyError) as failed:
        runtime.get(speaker.fail.remote())
    eventually(lambda: log(failed.value.args[0]) == ["before it failed\n"])
    # A line belongs to who began it.
    first, second = runtime.get([speaker.begin.remote("a line of "), speaker.say.remote("two")])
    eventually(lambda: log(first) == ["a line of two\n"])
    assert log(second) == []


@pytest.mark.parametrize("how", ["threads", "async"])
def test_the_log_of_calls_that_run_at_the_same_time(runtime, how):
    @runtime.remote(num_cpus=0, max_concurrency=8)
    class Speaker:
        def __init__(self):
            import threading

            self.all_here = threading.Barrier(8)

        def say(self, number):
            for _ in range(5):
                self.all_here.wait(60)
                sys.stdout.write(f"line of {number}\n")
            return runtime.get_runtime_context().get_task_id()

    @runtime.remote(num_cpus=0)
    class Async:
        async def say(self, number):
            import asyncio

            for _ in range(5):
                sys.stdout.write(f"line of {number}\n")
                await asyncio.sleep(0)
            return runtime.get_runtime_context().get_task_id()

    speaker = (Speaker if how == "threads" else Async).remote()
    for number, task in enumerate(runtime.get([speaker.say.remote(number) for number in range(8)], timeout=60)):
        eventually(lambda: list(state.get_log(task_id=task)) == [f"line of {number}\n"] * 5)


def test_wrong_questions_about_logs_are_explained(runtime):
    node = list_nodes()[0].node_id
    with pytest.raises(ValueError, match="node_id or node_ip"):
        state.list_logs()
    with pytest.raises(RayStateApiException, match="no node"):
        state.list_logs(node_id="nowhere")
    with pytest.raises(ValueError, match="exactly one"):
        state.get_log(node_id=node)
    with pytest.raises(ValueError, match="exactly one"):
        state.get_log(pid=1, actor_id="x")
    with pytest.raises(ValueError, match="suffix"):
        state.get_log(pid=1, suffix="log")
    with pytest.raises(RayStateApiException, match="no file"):
        state.get_log(node_id=node, filename="nothing.out")
    with pytest.raises(RayStateApiException, match="no actor"):
        state.get_log(actor_id="nobody")
    with pytest.raises(RayStateApiException, match="no task"):
        state.get_log(task_id="nothing")
    with pytest.raises(RayStateApiException, match="submitted jobs"):
        state.get_log(submission_id="raysubmit_1")
