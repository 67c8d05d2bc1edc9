"""The state API: what ran, what runs, and where."""

import os
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
    (entry,) = [e for name, e in state.summarize_tasks()["summary"].items() if name.endswith("summed")]
    assert entry["state_counts"] == {"FINISHED": 4}
    assert state.summarize_actors()["total_actors"] >= 0


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
