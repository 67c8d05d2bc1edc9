"""Cluster: virtual nodes in one process tree."""

# ctest: one rank
# ctest: timeout 300

import os
import signal
import time

import pytest

import trireme
from conftest import eventually
from trireme.cluster_utils import Cluster
from trireme.util.placement_group import placement_group
from trireme.util.scheduling_strategies import (
    Exists,
    In,
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)


@pytest.fixture
def cluster():
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield made
    made.shutdown()


def on(resource):
    @trireme.remote(resources={resource: 1})
    def where():
        return trireme.get_runtime_context().get_node_id()

    return where


def test_nodes_and_their_resources(cluster):
    one = cluster.add_node(num_cpus=2, resources={"left": 1})
    two = cluster.add_node(num_cpus=1, resources={"right": 1}, labels={"side": "right"})
    trireme.init(address=cluster.address)
    assert [node["Alive"] for node in trireme.nodes()] == [True] * 3
    assert len({node["node"] for node in trireme.nodes()}) == 3
    assert trireme.cluster_resources()["CPU"] == 4
    assert trireme.get([on("left").remote(), on("right").remote()]) == [one.unique_id, two.unique_id]
    assert cluster.head_node.unique_id == trireme.get_runtime_context().get_node_id()
    assert trireme.nodes()[2]["Labels"]["side"] == "right"


def test_connect_is_lazy_so_that_nodes_can_follow(cluster):
    cluster.connect(namespace="tests")
    node = cluster.add_node(num_cpus=1, resources={"late": 1})
    cluster.wait_for_nodes()
    assert trireme.get(on("late").remote()) == node.unique_id
    assert trireme.get_runtime_context().namespace == "tests"


def test_a_node_is_added_to_a_cluster_that_runs(cluster):
    trireme.init(address=cluster.address)
    assert len(trireme.nodes()) == 1
    node = cluster.add_node(num_cpus=2, resources={"late": 1}, labels={"side": "late"})
    assert [n["Alive"] for n in trireme.nodes()] == [True] * 2
    assert trireme.nodes()[1]["NodeID"] == node.unique_id
    assert trireme.nodes()[1]["Labels"]["side"] == "late"
    assert trireme.cluster_resources()["CPU"] == 3
    assert trireme.cluster_resources()["late"] == 1
    assert trireme.get(on("late").remote(), timeout=60) == node.unique_id
    assert cluster.remaining_processes_alive()

    @trireme.remote(label_selector={"side": "late"})
    def labelled():
        return trireme.get_runtime_context().get_node_id()

    @trireme.remote
    def rest():
        nodes = {n["NodeID"] for n in trireme.nodes()}
        return trireme.get_runtime_context().get_node_id(), nodes

    assert trireme.get(labelled.remote(), timeout=60) == node.unique_id
    both = {cluster.head_node.unique_id, node.unique_id}
    strategy = NodeAffinitySchedulingStrategy(node.unique_id, soft=False)
    assert trireme.get(rest.options(scheduling_strategy=strategy).remote(), timeout=60) == (node.unique_id, both)
    spread = [rest.options(scheduling_strategy="SPREAD").remote() for _ in range(8)]
    assert {where for where, _ in trireme.get(spread, timeout=60)} == both


def test_plain_tasks_are_stolen_by_a_node_that_joined(cluster, tmp_path):
    trireme.init(address=cluster.address)

    @trireme.remote
    def wait_for(gate):
        here = trireme.get_runtime_context().get_node_id()
        if here != head:
            gate.touch()
        while not gate.exists():
            time.sleep(0.01)
        return here

    # The head node stands still in the first of them until one runs elsewhere.
    head = cluster.head_node.unique_id
    tasks = [wait_for.remote(tmp_path / "stolen") for _ in range(200)]
    node = cluster.add_node(num_cpus=2)
    assert node.unique_id in trireme.get(tasks, timeout=120)


def test_actors_and_objects_reach_a_node_that_joined(cluster):
    np = pytest.importorskip("numpy")
    early = cluster.add_node(num_cpus=1, resources={"early": 1})
    trireme.init(address=cluster.address)

    @trireme.remote(num_cpus=0)
    class Keeper:
        def __init__(self, array):
            self.array = array

        def total(self, other=0):
            return int(self.array.sum() + np.sum(other))

        def ask(self, keeper):
            return trireme.get(keeper.total.remote(self.array))

        def make(self):
            return trireme.put(np.full(500_000, 7))

        def where(self):
            return trireme.get_runtime_context().get_node_id()

    array = trireme.put(np.arange(500_000))
    total = int(np.arange(500_000).sum())
    old = Keeper.options(resources={"early": 1}).remote(array)
    late = cluster.add_node(num_cpus=1, resources={"late": 2})
    new = Keeper.options(resources={"late": 1}, name="new").remote(array)
    assert trireme.get([old.where.remote(), new.where.remote()], timeout=60) == [early.unique_id, late.unique_id]
    assert trireme.get(new.total.remote(), timeout=60) == total
    # Between the two that are not the driver, both ways, with references that the late rank owns.
    assert trireme.get(old.ask.remote(new), timeout=60) == 2 * total
    assert trireme.get(new.ask.remote(old), timeout=60) == 2 * total
    made = trireme.get(new.make.remote(), timeout=60)
    assert trireme.get(old.total.remote(made), timeout=60) == total + 7 * 500_000
    assert int(trireme.get(made, timeout=60).sum()) == 7 * 500_000
    assert trireme.get(trireme.get_actor("new").total.remote(), timeout=60) == total

    @trireme.remote(resources={"late": 1}, num_cpus=0)
    def driver_of_its_own():
        actor = Keeper.options(resources={"early": 0}, name="grandchild", lifetime="detached").remote(np.arange(3))
        return trireme.get(actor.total.remote()), sorted(node["Alive"] for node in trireme.nodes())

    assert trireme.get(driver_of_its_own.remote(), timeout=60) == (3, [True] * 3)
    trireme.kill(trireme.get_actor("grandchild"))


def test_what_fits_no_node_waits_for_one_that_does(cluster):
    trireme.init(address=cluster.address)
    group = placement_group([{"CPU": 1}, {"late": 1, "CPU": 1}], strategy="STRICT_SPREAD")

    @trireme.remote(resources={"late": 1})
    class Actor:
        def where(self):
            return trireme.get_runtime_context().get_node_id()

    task = on("late").remote()
    actor = Actor.remote()
    calls = [actor.where.remote() for _ in range(3)]
    inside = on("late").options(
        scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=1), num_cpus=0
    )
    in_group = inside.remote()
    killed = Actor.remote()
    lost = killed.where.remote()
    trireme.kill(killed)
    with pytest.raises(trireme.exceptions.RayActorError):
        trireme.get(lost, timeout=60)
    cancelled = on("late").remote()
    trireme.cancel(cancelled)
    with pytest.raises(trireme.exceptions.TaskCancelledError):
        trireme.get(cancelled, timeout=60)
    # A node that does not help changes nothing.
    cluster.add_node(num_cpus=1)
    ready, waiting = trireme.wait([task, *calls, in_group, group.ready()], num_returns=6, timeout=0.5)
    assert ready == [] and len(waiting) == 6
    node = cluster.add_node(num_cpus=2, resources={"late": 5})
    assert trireme.get([task, *calls, in_group], timeout=60) == [node.unique_id] * 5
    assert group.wait(60)


def test_labels_that_no_node_has_wait_for_one_that_does(cluster):
    trireme.init(address=cluster.address)

    @trireme.remote
    def where():
        return trireme.get_runtime_context().get_node_id()

    @trireme.remote(num_cpus=0, label_selector={"side": "in(late, later)"})
    class Actor:
        def where(self):
            return trireme.get_runtime_context().get_node_id()

    @trireme.remote(num_cpus=0)
    def from_a_task(task):
        return trireme.get(task.remote())

    late = where.options(label_selector={"side": "late"})
    exists = NodeLabelSchedulingStrategy({"side": Exists()}, soft={"side": In("nowhere")})
    tasks = [late.remote(), where.options(scheduling_strategy=exists).remote(), from_a_task.remote(late)]
    actor = Actor.remote()
    calls = [actor.where.remote() for _ in range(3)]
    spread = where.options(label_selector={"side": "late"}, scheduling_strategy="SPREAD").remote()
    selectors = [{"side": "late"}, {"side": "!late"}]
    group = placement_group([{"CPU": 0.1}] * 2, "SPREAD", bundle_label_selector=selectors)
    in_group = where.options(num_cpus=0.1, scheduling_strategy=PlacementGroupSchedulingStrategy(group, 0)).remote()
    cancelled = late.remote()
    trireme.cancel(cancelled)
    with pytest.raises(trireme.exceptions.TaskCancelledError):
        trireme.get(cancelled, timeout=60)
    # A node that does not help changes nothing.
    cluster.add_node(num_cpus=1, labels={"slide": "late"})
    asked = [*tasks, *calls, spread, in_group]
    assert trireme.wait([*asked, group.ready()], num_returns=1, timeout=0.5)[0] == []
    node = cluster.add_node(num_cpus=2, labels={"side": "late"})
    assert trireme.get(asked, timeout=60) == [node.unique_id] * len(asked)
    assert group.wait(60)
    # The strategy prefers what is there now.
    assert trireme.get(where.options(scheduling_strategy=exists).remote(), timeout=60) == node.unique_id


def test_a_node_that_joined_dies_and_another_takes_its_place(cluster):
    trireme.init(address=cluster.address)
    kinds = {"removed": cluster.remove_node, "killed": lambda node: os.kill(node.pid, signal.SIGKILL)}
    for round, (kind, end) in enumerate(kinds.items(), start=1):
        node = cluster.add_node(num_cpus=1, resources={"late": 1})

        @trireme.remote(resources={"late": 0.5}, num_cpus=0, max_restarts=1, max_task_retries=-1)
        class Actor:
            def where(self):
                return trireme.get_runtime_context().get_node_id()

        @trireme.remote(resources={"late": 0.5}, num_cpus=0)
        def wait_for(path):
            while not os.path.exists(path):
                time.sleep(0.01)
            return trireme.get_runtime_context().get_node_id()

        actor = Actor.remote()
        assert trireme.get(actor.where.remote(), timeout=60) == node.unique_id, kind
        task = wait_for.remote("/nonexistent")
        end(node)
        eventually(lambda: sum(n["Alive"] for n in trireme.nodes()) == 1)
        cluster.worker_nodes.clear()
        assert len(trireme.nodes()) == 2 * round
        assert trireme.cluster_resources().get("late", 0) == 0
        again = cluster.add_node(num_cpus=1, resources={"late": 1})
        # What ran there runs again where it fits: on the node that came.
        ready, _ = trireme.wait([task], timeout=0.5)
        assert ready == []
        trireme.cancel(task, force=True)
        assert trireme.get(on("late").options(num_cpus=0).options(resources={"late": 0.5}).remote(), timeout=60) == again.unique_id
        cluster.remove_node(again)
        assert sum(n["Alive"] for n in trireme.nodes()) == 1
    with pytest.raises(ValueError, match="no node of this cluster"):
        cluster.remove_node(again)


def test_nodes_that_come_at_once_all_join(cluster):
    trireme.init(address=cluster.address)
    nodes = [cluster.add_node(num_cpus=1, wait=False) for _ in range(3)]
    cluster.wait_for_nodes(60)
    assert {n["pid"] for n in trireme.nodes() if n["Alive"]} == {os.getpid(), *(node.pid for node in nodes)}
    assert len({node.unique_id for node in nodes}) == 3


def test_seats_are_counted(cluster):
    small = Cluster(initialize_head=True, head_node_args={"num_cpus": 1}, seats=1)
    try:
        trireme.init(address=small.address)
        small.remove_node(small.add_node(num_cpus=1))
        with pytest.raises(RuntimeError, match="all 1 seats"):
            small.add_node(num_cpus=1)
        trireme.shutdown()
        # The next connection starts with all its seats.
        trireme.init(address=small.address)
        small.add_node(num_cpus=1)
        assert len(trireme.nodes()) == 2
    finally:
        small.shutdown()
    none = Cluster(initialize_head=True, head_node_args={"num_cpus": 1}, seats=0)
    try:
        trireme.init(address=none.address)
        with pytest.raises(RuntimeError, match="all 0 seats"):
            none.add_node(num_cpus=1)
        with pytest.raises(trireme.exceptions.TaskUnschedulableError, match="cannot grow"):
            trireme.get(on("late").remote(), timeout=60)
    finally:
        none.shutdown()
    with pytest.raises(ValueError, match="seats"):
        Cluster(seats=-1)


def test_a_node_that_cannot_start_says_so(cluster):
    trireme.init(address=cluster.address)
    with pytest.raises(RuntimeError, match="ended with status"):
        cluster.add_node(num_cpus=1, object_store_memory=1 << 60)
    assert cluster.list_all_nodes() == [cluster.head_node]
    node = cluster.add_node(num_cpus=1)
    assert node.unique_id in {n["NodeID"] for n in trireme.nodes()}


def test_a_node_without_cpus_runs_nothing_that_needs_one():
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "resources": {"head": 1}})
    try:
        node = cluster.add_node(num_cpus=2)
        trireme.init(address=cluster.address)
        assert trireme.nodes()[0]["Resources"].get("CPU", 0) == 0
        assert trireme.cluster_resources()["CPU"] == 2

        @trireme.remote
        def where(*_):
            return trireme.get_runtime_context().get_node_id()

        @trireme.remote
        def nested():
            return trireme.get([where.remote() for _ in range(4)])

        @trireme.remote
        class Actor:
            def where(self):
                return trireme.get_runtime_context().get_node_id()

        large = trireme.put(bytes(1_000_000))
        assert set(trireme.get([where.remote() for _ in range(100)], timeout=60)) == {node.unique_id}
        assert trireme.get(where.remote(large, where.remote(large)), timeout=60) == node.unique_id
        assert set(trireme.get(nested.remote(), timeout=60)) == {node.unique_id}
        actors = [Actor.remote() for _ in range(3)]
        assert set(trireme.get([a.where.remote() for a in actors], timeout=60)) == {node.unique_id}
        here = where.options(num_cpus=0, resources={"head": 1})
        assert trireme.get(here.remote(), timeout=60) == cluster.head_node.unique_id

        @trireme.remote(num_cpus=0, resources={"head": 1})
        class OnHead:
            def spawn(self):
                return trireme.get([where.remote() for _ in range(4)])

        assert set(trireme.get(OnHead.remote().spawn.remote(), timeout=60)) == {node.unique_id}
    finally:
        cluster.shutdown()


def test_an_array_crosses_nodes(cluster):
    np = pytest.importorskip("numpy")
    cluster.add_node(num_cpus=1, resources={"far": 1})
    trireme.init(address=cluster.address)

    @trireme.remote(resources={"far": 1})
    def double(array):
        return array * 2

    array = np.arange(1_000_000)
    assert np.array_equal(trireme.get(double.remote(trireme.put(array))), array * 2)


def test_a_removed_node_is_seen_and_its_work_fails_or_moves(cluster):
    node = cluster.add_node(num_cpus=1, resources={"doomed": 1})
    trireme.init(address=cluster.address)

    @trireme.remote(resources={"doomed": 1}, max_restarts=0)
    class Actor:
        def pid(self):
            return os.getpid()

    actor = Actor.remote()
    worker = trireme.get(actor.pid.remote())
    cluster.remove_node(node)
    assert sum(n["Alive"] for n in trireme.nodes()) == 1
    with pytest.raises(trireme.exceptions.RayActorError):
        trireme.get(actor.pid.remote(), timeout=60)
    eventually(lambda: not os.path.exists(f"/proc/{worker}"))
    assert trireme.get(trireme.remote(pow).remote(2, 3)) == 8
    cluster.wait_for_nodes()


def test_the_cluster_can_be_joined_again(cluster):
    cluster.add_node(num_cpus=1)
    for _ in range(2):
        trireme.init(address=cluster.address)
        assert len(trireme.nodes()) == 2
        trireme.shutdown()


def test_nodes_end_with_the_driver(cluster):
    node = cluster.add_node(num_cpus=1)
    trireme.init(address=cluster.address)
    pid = node.pid
    os.kill(pid, 0)
    cluster.shutdown()
    assert not trireme.is_initialized()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def test_wrong_use_is_explained(cluster):
    with pytest.raises(TypeError, match="num_cpu"):
        cluster.add_node(num_cpu=1)
    with pytest.raises(ValueError, match="head"):
        cluster.remove_node(cluster.head_node)
    with pytest.raises(ValueError, match="give them to add_node"):
        trireme.init(address=cluster.address, num_cpus=3)
    with pytest.raises(ConnectionError, match="no cluster"):
        trireme.init(address="trireme-cluster:unknown")
    with pytest.raises(ValueError, match="initialize_head"):
        Cluster(head_node_args={"num_cpus": 1})
    with pytest.raises(RuntimeError, match="no node"):
        Cluster().connect()
    assert not trireme.is_initialized()
