"""Where tasks and actors run: SPREAD, node affinity, labels, custom resources."""

from __future__ import annotations

import pytest

from conftest import eventually

#: Of rank 0, see the fixture `runtime`.
INIT = {"labels": {"rack": "r1"}, "resources": {"widget": 2}}


def actor_class(runtime):
    @runtime.remote
    class A:
        def where(self):
            return runtime.get_runtime_context().get_node_id()

    return A


def test_spread_uses_every_rank(runtime, where, ranks):
    spread = where.options(scheduling_strategy="SPREAD")
    assert len(set(runtime.get([spread.remote() for _ in range(8 * ranks)], timeout=120))) == ranks
    A = actor_class(runtime).options(scheduling_strategy="SPREAD")
    actors = [A.remote() for _ in range(2 * ranks)]
    assert len(set(runtime.get([a.where.remote() for a in actors], timeout=120))) == ranks


def test_node_affinity(runtime, where):
    from trireme.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    for node in runtime.nodes():
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ref = where.options(scheduling_strategy=there).remote()
        assert runtime.get(ref, timeout=60) == node["NodeID"]
        actor = actor_class(runtime).options(scheduling_strategy=there).remote()
        assert runtime.get(actor.where.remote(), timeout=60) == node["NodeID"]
    nowhere = "f" * 56
    with pytest.raises(runtime.exceptions.TaskUnschedulableError, match=nowhere):
        runtime.get(where.options(scheduling_strategy=NodeAffinitySchedulingStrategy(nowhere, soft=False)).remote())
    soft = NodeAffinitySchedulingStrategy(nowhere, soft=True)
    assert runtime.get(where.options(scheduling_strategy=soft).remote(), timeout=60)
    with pytest.raises(TypeError, match="node_id"):
        NodeAffinitySchedulingStrategy(3, soft=False)


def test_labels(runtime, where, ranks):
    from trireme.util.scheduling_strategies import (
        DoesNotExist,
        Exists,
        In,
        NodeAffinitySchedulingStrategy,
        NodeLabelSchedulingStrategy,
        NotIn,
    )

    labelled = {n["NodeID"]: n["Labels"] for n in runtime.nodes()}
    with_rack = {node for node, labels in labelled.items() if "rack" in labels}
    assert len(with_rack) == 1  # rank 0's, from the fixture below

    def run(strategy=None, **options):
        task = where.options(scheduling_strategy=strategy, **options) if strategy else where.options(**options)
        return runtime.get(task.remote(), timeout=60)

    assert run(NodeLabelSchedulingStrategy({"rack": In("r1", "r2")})) in with_rack
    assert run(NodeLabelSchedulingStrategy({"rack": Exists()})) in with_rack
    assert run(NodeLabelSchedulingStrategy({"zone": DoesNotExist(), "rack": NotIn("r9")}))
    assert run(NodeLabelSchedulingStrategy({}, soft={"rack": In("r1")})) in with_rack
    assert run(label_selector={"rack": "in(r0, r1)"}) in with_rack
    assert run(label_selector={"rack": "!r9"})
    if ranks > 1:
        assert run(NodeLabelSchedulingStrategy({"rack": DoesNotExist()})) not in with_rack
        assert run(label_selector={"rack": "!in(r1)"}) not in with_rack
    assert run("SPREAD", label_selector={"rack": "r1"}) in with_rack
    with pytest.raises(runtime.exceptions.TaskUnschedulableError, match="r7.*rack=r1.*cannot grow"):
        run(label_selector={"rack": "r7"})
    with pytest.raises(runtime.exceptions.TaskUnschedulableError, match="r7"):
        run(NodeLabelSchedulingStrategy({"rack": In("r7")}))
    with pytest.raises(runtime.exceptions.ActorUnschedulableError, match="r7"):
        runtime.get(actor_class(runtime).options(label_selector={"rack": "r7"}).remote().where.remote(), timeout=60)
    actor = actor_class(runtime).options(num_cpus=0, label_selector={"rack": "r1"}).remote()
    assert runtime.get(actor.where.remote(), timeout=60) in with_rack
    for node in runtime.nodes():
        # Both must hold.
        there = where.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False), label_selector={"rack": "r1"}
        ).remote()
        if node["NodeID"] in with_rack:
            assert runtime.get(there, timeout=60) in with_rack
        else:
            with pytest.raises(runtime.exceptions.TaskUnschedulableError, match="labelled otherwise"):
                runtime.get(there, timeout=60)
    # So must those of the strategy and those of the selector.
    both = where.options(scheduling_strategy=NodeLabelSchedulingStrategy({"rack": Exists()}), label_selector={"rack": "!r1"})
    with pytest.raises(runtime.exceptions.TaskUnschedulableError, match="rack"):
        runtime.get(both.remote(), timeout=60)
    with pytest.raises(TypeError, match="In"):
        NodeLabelSchedulingStrategy({"rack": "r1"})
    with pytest.raises(ValueError, match="at least one"):
        In()


def test_custom_resources_choose_the_rank_and_are_held(runtime, where):
    here = runtime.get_runtime_context().get_node_id()
    assert runtime.get([where.options(resources={"widget": 1}).remote() for _ in range(6)], timeout=60) == [here] * 6
    assert runtime.cluster_resources()["widget"] == 2
    A = actor_class(runtime).options(resources={"widget": 2})
    actor = A.remote()
    assert runtime.get(actor.where.remote(), timeout=60) == here
    eventually(lambda: runtime.available_resources().get("widget", 0) == 0)
    waiting = where.options(resources={"widget": 1}).remote()
    assert runtime.wait([waiting], timeout=0.3)[0] == []
    del actor
    assert runtime.get(waiting, timeout=60) == here


def test_what_is_free_is_known_once_spread_tasks_and_actors_have_ended(runtime, where, ranks):
    from trireme.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def all_is_free():
        return runtime.available_resources() == runtime.cluster_resources()

    eventually(all_is_free)
    nodes = [node["NodeID"] for node in runtime.nodes()]
    spread = where.options(scheduling_strategy="SPREAD")
    for _ in range(3):
        runtime.get([spread.remote() for _ in range(20 * ranks)], timeout=120)
        eventually(all_is_free)

    @runtime.remote(scheduling_strategy="SPREAD", max_retries=0)
    def fail():
        raise ValueError("on purpose")

    @runtime.remote(num_cpus=0)
    class Submitter:
        def submit(self):
            runtime.get([spread.remote() for _ in range(8)])

    for ref in [fail.remote() for _ in range(8 * ranks)]:
        with pytest.raises(ValueError, match="on purpose"):
            runtime.get(ref, timeout=120)
    # What tasks of other ranks hold at the same time is over as well.
    submitters = [
        Submitter.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote()
        for node in nodes
    ]
    refs = [spread.remote() for _ in range(20 * ranks)]
    runtime.get([s.submit.remote() for s in submitters] + refs, timeout=120)
    eventually(all_is_free)

    A = actor_class(runtime)
    actors = [
        A.options(num_cpus=1, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote()
        for node in nodes
    ]
    assert runtime.get([a.where.remote() for a in actors], timeout=120) == nodes
    eventually(lambda: runtime.available_resources()["CPU"] == runtime.cluster_resources()["CPU"] - ranks)
    for actor in actors:
        runtime.kill(actor)
    eventually(all_is_free)
