"""Placement groups: what they reserve, who runs in them, what ends with them."""

from __future__ import annotations

import threading

import pytest

from conftest import eventually

#: Of rank 0, see the fixture `runtime`.
INIT = {"labels": {"rack": "r1"}, "resources": {"widget": 2}}


def actor_class(runtime):
    @runtime.remote
    class A:
        def group(self):
            return runtime.util.get_current_placement_group()

    return A


def test_placement_group_reserves_and_runs_inside(runtime, where):
    from trireme.util import get_current_placement_group, placement_group, placement_group_table, remove_placement_group
    from trireme.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    group = placement_group([{"CPU": 1, "widget": 1}], strategy="PACK")
    assert group.wait(60)
    runtime.get(group.ready(), timeout=60)
    assert group.bundle_count == 1
    row = placement_group_table(group)
    assert row["state"] == "CREATED"
    assert row["strategy"] == "PACK"
    inside = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=0)

    @runtime.remote(num_cpus=1)
    def current():
        return get_current_placement_group(), runtime.get_runtime_context().get_node_id()

    found, node = runtime.get(current.options(scheduling_strategy=inside).remote(), timeout=60)
    assert found == group
    assert node == runtime.get_runtime_context().get_node_id()
    assert get_current_placement_group() is None
    assert runtime.get(current.remote(), timeout=60)[0] is None
    actor = actor_class(runtime).options(scheduling_strategy=inside).remote()
    assert runtime.get(actor.group.remote(), timeout=60) == group
    del actor
    remove_placement_group(group)
    assert placement_group_table(group)["state"] == "REMOVED"
    eventually(lambda: runtime.available_resources().get("widget") == 2)


def test_the_table_shows_the_groups_of_all_processes(runtime):
    from trireme.util import placement_group, placement_group_table, remove_placement_group

    @runtime.remote(num_cpus=0)
    class Maker:
        def make(self):
            self.group = placement_group([{"CPU": 0.01}], name="of an actor")
            return self.group

        def table(self):
            return placement_group_table()

        def remove(self):
            remove_placement_group(self.group)

    makers = [Maker.remote() for _ in range(len(runtime.nodes()) + 1)]
    own = placement_group([{"CPU": 0.01}])
    impossible = placement_group([{"no such thing": 1}])
    theirs = runtime.get([maker.make.options(name="make").remote() for maker in makers[:1]], timeout=60)[0]
    others = [placement_group([{"CPU": 0.01}], name=f"group {i}") for i in range(3)]
    made = [own, theirs, *others]
    eventually(lambda: all(placement_group_table()[g.id.hex()]["state"] == "CREATED" for g in made))
    assert placement_group_table()[theirs.id.hex()]["name"] == "of an actor"
    for maker in makers:
        table = runtime.get(maker.table.remote(), timeout=60)
        assert {g.id.hex() for g in made} <= set(table)
        assert table[theirs.id.hex()]["bundles"] == {0: {"CPU": 0.01}}
    eventually(lambda: runtime.get(makers[0].table.remote(), timeout=60)[impossible.id.hex()]["state"] == "FAILED")
    runtime.get(makers[0].remove.remote(), timeout=60)
    eventually(lambda: placement_group_table()[theirs.id.hex()]["state"] == "REMOVED")
    for group in (own, *others):
        remove_placement_group(group)
    eventually(lambda: runtime.get(makers[-1].table.remote(), timeout=60)[own.id.hex()]["state"] == "REMOVED")


def test_a_removed_group_ends_its_actors(runtime):
    from trireme.util import placement_group, remove_placement_group
    from trireme.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    group = placement_group([{"CPU": 1}, {"CPU": 1}], "SPREAD")
    assert group.wait(60)

    @runtime.remote(num_cpus=1, max_restarts=-1)
    class Inside:
        def here(self):
            return 1

        def wait(self):
            threading.Event().wait()

    @runtime.remote(num_cpus=0)
    class Outside:
        def here(self):
            return 2

    idle, busy = (
        Inside.options(scheduling_strategy=PlacementGroupSchedulingStrategy(group, index)).remote() for index in (0, 1)
    )
    outside = Outside.remote()
    assert runtime.get([idle.here.remote(), busy.here.remote(), outside.here.remote()], timeout=60) == [1, 1, 2]
    waits = busy.wait.remote()
    remove_placement_group(group)
    with pytest.raises(runtime.exceptions.ActorDiedError, match="placement group of the actor was removed"):
        runtime.get(waits, timeout=60)
    for call in (idle.here.remote(), busy.here.remote()):
        with pytest.raises(runtime.exceptions.ActorDiedError, match="placement group of the actor was removed"):
            runtime.get(call, timeout=60)
    assert runtime.get(outside.here.remote(), timeout=60) == 2
    again = placement_group([{"CPU": 1}, {"CPU": 1}], "SPREAD")
    assert again.wait(60)
    remove_placement_group(again)


def test_a_removed_group_ends_its_tasks(runtime, tmp_path):
    from trireme.util import placement_group, remove_placement_group
    from trireme.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    @runtime.remote(max_retries=-1)
    def holds(path):
        import os
        import time

        with open(path, "a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(600)

    @runtime.remote(num_cpus=0)
    def waits_inside(holds, inside, path):
        import trireme

        trireme.get(holds.options(num_cpus=0.01, scheduling_strategy=inside).remote(path))

    @runtime.remote(num_cpus=0.01)
    def quick(value):
        return value

    groups = [placement_group([{"CPU": 1}], "STRICT_PACK") for _ in range(2)]
    for group in groups:
        assert group.wait(60)
    gone, stays = (PlacementGroupSchedulingStrategy(group, 0) for group in groups)
    # One that runs, one that waits behind it, one whose worker is blocked; and in another group one that is not touched.
    assert runtime.get(quick.options(scheduling_strategy=gone).remote(1), timeout=60) == 1
    runs = holds.options(num_cpus=0.9, scheduling_strategy=gone).remote(tmp_path / "runs")
    blocked = waits_inside.options(num_cpus=0.05, scheduling_strategy=gone).remote(holds, gone, tmp_path / "blocked")
    other = holds.options(num_cpus=0.9, scheduling_strategy=stays).remote(tmp_path / "other")
    eventually(lambda: all((tmp_path / name).exists() for name in ("runs", "blocked", "other")))
    waits = holds.options(num_cpus=0.9, scheduling_strategy=gone).remote(tmp_path / "waits")
    remove_placement_group(groups[0])
    for ref in (runs, blocked):
        with pytest.raises(runtime.exceptions.TaskPlacementGroupRemoved, match="placement group of the task was removed"):
            runtime.get(ref, timeout=60)
    with pytest.raises(runtime.exceptions.RayError):
        runtime.get(waits, timeout=60)
    pids = [int(pid) for pid in (tmp_path / "runs").read_text().split()]
    assert len(pids) == 1  # it was not tried again
    assert not (tmp_path / "waits").exists()
    # What it held is free, at once and in this group's place.
    again = placement_group([{"CPU": 1}], "STRICT_PACK")
    assert again.wait(60)
    inside = PlacementGroupSchedulingStrategy(again, 0)
    assert runtime.get(quick.options(num_cpus=1, scheduling_strategy=inside).remote(2), timeout=60) == 2
    assert not other._ref.ready
    runtime.cancel(other, force=True)
    with pytest.raises(runtime.exceptions.RayError):
        runtime.get(other, timeout=60)
    for group in (groups[1], again):
        remove_placement_group(group)


def test_tasks_of_removed_groups_by_the_dozen(runtime):
    from trireme.util import placement_group, remove_placement_group
    from trireme.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    @runtime.remote(num_cpus=0.01)
    def short(i):
        import time

        time.sleep(0.001 * (i % 7))
        return i

    # Each outcome is one of the two, whatever was removed when; and nothing is left behind.
    for _ in range(5):
        group = placement_group([{"CPU": 1}], "STRICT_PACK")
        assert group.wait(60)
        refs = [short.options(scheduling_strategy=PlacementGroupSchedulingStrategy(group, 0)).remote(i) for i in range(40)]
        runtime.wait(refs, num_returns=5, timeout=60)
        remove_placement_group(group)
        for i, ref in enumerate(refs):
            try:
                assert runtime.get(ref, timeout=60) == i
            except runtime.exceptions.RayError as error:
                assert not isinstance(error, runtime.exceptions.GetTimeoutError)
    everything = placement_group([{"CPU": node["Resources"]["CPU"]} for node in runtime.nodes()], "STRICT_SPREAD")
    assert everything.wait(60)
    remove_placement_group(everything)
    assert runtime.get(short.remote(3), timeout=60) == 3


def test_labels_of_bundles(runtime, where, ranks):
    from trireme.util import placement_group, remove_placement_group
    from trireme.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    here = runtime.get_runtime_context().get_node_id()
    labelled = [{"rack": "r1"}, {"rack": "!in(r2, r3)"}]
    group = placement_group([{"CPU": 1}, {"CPU": 0.01}], "STRICT_PACK", bundle_label_selector=labelled)
    assert group.wait(60)
    inside = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=0)
    assert runtime.get(where.options(num_cpus=0.5, scheduling_strategy=inside).remote(), timeout=60) == here
    remove_placement_group(group)

    # The same from a worker; the second bundle must be elsewhere.
    @runtime.remote(num_cpus=0)
    def nodes_of(strategy, selectors):
        group = placement_group([{"CPU": 1}] * len(selectors), strategy, bundle_label_selector=selectors)
        runtime.get(group.ready(), timeout=60)
        found = []
        for index in range(len(selectors)):
            inside = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index)
            found.append(runtime.get(where.options(scheduling_strategy=inside).remote(), timeout=60))
        remove_placement_group(group)
        return found

    if ranks > 1:
        for strategy in ("PACK", "SPREAD", "STRICT_SPREAD"):
            first, second = runtime.get(nodes_of.remote(strategy, [{"rack": "!r1"}, {"rack": "r1"}]), timeout=120)
            assert (first != here, second) == (True, here), strategy
    else:
        assert runtime.get(nodes_of.remote("PACK", [{"rack": "r1"}]), timeout=120) == [here]


def test_labels_of_bundles_that_no_rank_has_are_an_error_at_once(runtime, ranks):
    from trireme.util import placement_group

    def refused(strategy, selectors):
        group = placement_group([{"CPU": 0.01}] * len(selectors), strategy, bundle_label_selector=selectors)
        with pytest.raises(runtime.exceptions.RayError) as caught:
            runtime.get(group.ready(), timeout=60)
        return str(caught.value)

    text = refused("PACK", [{"rack": "r7"}])
    assert "rack in (r7)" in text
    assert "rack=r1" in text  # what there is
    refused("STRICT_SPREAD", [{"rack": "r1"}, {"rack": "r1"}])  # only rank 0 is in that rack
    if ranks > 1:
        refused("STRICT_PACK", [{"rack": "r1"}, {"rack": "!r1"}])


def test_labels_beside_a_placement_group_are_an_error(runtime, where):
    from trireme.util import placement_group, remove_placement_group
    from trireme.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    group = placement_group([{"CPU": 1}])
    for kind in (where, actor_class(runtime)):
        placed = kind.options(scheduling_strategy=PlacementGroupSchedulingStrategy(group), label_selector={"rack": "r1"})
        with pytest.raises(ValueError, match="bundle_label_selector"):
            placed.remote()

    @runtime.remote(num_cpus=0)
    def child():
        return runtime.util.get_current_placement_group()

    @runtime.remote(num_cpus=0)
    def parent(**options):
        return runtime.get(child.options(**options).remote())

    capturing = parent.options(
        scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_capture_child_tasks=True)
    )
    assert runtime.get(capturing.remote(), timeout=60) is not None
    # A child with a place of its own is not captured.
    assert runtime.get(capturing.remote(label_selector={"rack": "r1"}), timeout=60) is None
    remove_placement_group(group)


def test_labels_of_bundles_are_checked(runtime):
    from trireme.util import placement_group

    with pytest.raises(ValueError, match="each of the 2 bundles"):
        placement_group([{"CPU": 1}] * 2, bundle_label_selector=[{"zone": "a"}])
    with pytest.raises(ValueError, match="each of the 1 bundles"):
        placement_group([{"CPU": 1}], bundle_label_selector=[{"zone": 3}])


def test_a_strategy_of_a_group_needs_a_group():
    from trireme.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    with pytest.raises(TypeError, match="placement_group must be a group.*not 3"):
        PlacementGroupSchedulingStrategy(3)


def test_children_are_captured_when_asked(runtime):
    from trireme.util import get_current_placement_group, placement_group, remove_placement_group
    from trireme.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    group = placement_group([{"CPU": 2}])
    assert group.wait(60)

    @runtime.remote
    def child():
        return get_current_placement_group()

    @runtime.remote
    def parent():
        inherited = runtime.get(child.remote())
        opted_out = runtime.get(child.options(scheduling_strategy="DEFAULT").remote())
        in_none = PlacementGroupSchedulingStrategy(None)
        return inherited, opted_out or runtime.get(child.options(scheduling_strategy=in_none).remote())

    for capture, expected in ((True, group), (False, None)):
        strategy = PlacementGroupSchedulingStrategy(group, placement_group_capture_child_tasks=capture)
        assert runtime.get(parent.options(scheduling_strategy=strategy).remote(), timeout=60) == (expected, None)
    remove_placement_group(group)


@pytest.mark.parametrize("kind", ["task", "actor"])
def test_captured_children_take_any_bundle_with_room(runtime, kind):
    """The parent, an actor, holds the first bundle for as long as it lives, also while it waits."""
    from trireme.util import placement_group, remove_placement_group
    from trireme.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    @runtime.remote(num_cpus=1)
    def child():
        return 1

    @runtime.remote(num_cpus=1)
    class Child:
        def call(self):
            return 1

    @runtime.remote(num_cpus=1)
    class Parent:
        def tasks(self):
            return sum(runtime.get([child.remote() for _ in range(8)], timeout=60))

        def actors(self):
            return runtime.get(Child.remote().call.remote(), timeout=60)

        def too_large(self):
            with pytest.raises(runtime.exceptions.TaskUnschedulableError, match=r"asked \{CPU: 2\} in placement group"):
                runtime.get(child.options(num_cpus=2).remote(), timeout=60)

    group = placement_group([{"CPU": 1}, {"CPU": 1}], strategy="SPREAD")
    assert group.wait(60)
    for index in (0, 1):
        strategy = PlacementGroupSchedulingStrategy(group, index, placement_group_capture_child_tasks=True)
        parent = Parent.options(scheduling_strategy=strategy).remote()
        assert runtime.get(getattr(parent, f"{kind}s").remote(), timeout=120) == (8 if kind == "task" else 1)
        if kind == "task":
            runtime.get(parent.too_large.remote(), timeout=120)
        runtime.kill(parent)
    remove_placement_group(group)


@pytest.mark.parametrize("strategy", ["SPREAD", "STRICT_SPREAD", "PACK", "STRICT_PACK"])
def test_group_strategies(runtime, ranks, strategy, where):
    from trireme.util import placement_group, remove_placement_group
    from trireme.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    count = ranks if strategy.endswith("SPREAD") else 2
    group = placement_group([{"CPU": 1}] * count, strategy=strategy)
    assert group.wait(60)
    nodes = [
        runtime.get(where.options(scheduling_strategy=PlacementGroupSchedulingStrategy(group, i)).remote(), timeout=60)
        for i in range(count)
    ]
    assert len(set(nodes)) == (ranks if strategy.endswith("SPREAD") else 1)
    remove_placement_group(group)


def test_impossible_groups_fail(runtime, ranks):
    from trireme.util import placement_group

    for bundles, strategy in [([{"CPU": 100_000}], "PACK"), ([{"CPU": 1}] * (ranks + 1), "STRICT_SPREAD")]:
        group = placement_group(bundles, strategy=strategy)
        with pytest.raises(runtime.exceptions.RayError):
            runtime.get(group.ready(), timeout=60)


def test_named_groups(runtime):
    from trireme.util import get_placement_group, placement_group, remove_placement_group

    group = placement_group([{"CPU": 1}], name="squad")
    assert get_placement_group("squad") == group

    @runtime.remote
    def from_task():
        return get_placement_group("squad")

    assert runtime.get(from_task.remote(), timeout=60) == group
    with pytest.raises(ValueError, match="squad"):
        placement_group([{"CPU": 1}], name="squad")
    remove_placement_group(group)
    with pytest.raises(ValueError, match="squad"):
        get_placement_group("squad")


@pytest.mark.parametrize(
    ("bundles", "options", "says"),
    [
        ([], {}, "at least one"),
        ([{}], {}, "not empty"),
        ([{"CPU": 0}], {}, "nothing"),
        ([{"CPU": -1}], {}, "CPU"),
        ([{"CPU": "1"}], {}, "CPU"),
        ({"CPU": 1}, {}, "list"),
        ([{"CPU": 1}], {"strategy": "LOOSE"}, "LOOSE"),
        ([{"CPU": 1}], {"lifetime": "long"}, "lifetime"),
    ],
)
def test_wrong_groups_are_refused(runtime, bundles, options, says):
    with pytest.raises(ValueError, match=says):
        runtime.util.placement_group(bundles, **options)


def test_wrong_bundle_index(runtime):
    from trireme.util import placement_group, remove_placement_group
    from trireme.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    group = placement_group([{"CPU": 1}])
    with pytest.raises(ValueError, match="bundle"):
        PlacementGroupSchedulingStrategy(group, 1)
    remove_placement_group(group)




def test_the_context_tells_of_the_group(runtime):
    from trireme.util import placement_group, remove_placement_group
    from trireme.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    @runtime.remote(num_cpus=0.1)
    def tells():
        import trireme

        context = trireme.get_runtime_context()
        return context.current_placement_group_id, context.should_capture_child_tasks_in_placement_group

    group = placement_group([{"CPU": 1}])
    for capture in (True, False):
        inside = PlacementGroupSchedulingStrategy(group, placement_group_capture_child_tasks=capture)
        told = runtime.get(tells.options(scheduling_strategy=inside).remote(), timeout=60)
        assert told == (group.id.hex(), capture)
    remove_placement_group(group)
    assert runtime.get(tells.remote(), timeout=60) == (None, False)
    context = runtime.get_runtime_context()
    assert (context.current_placement_group_id, context.should_capture_child_tasks_in_placement_group) == (None, True)
    assert context.get_resource_ids() == context.get_accelerator_ids()
