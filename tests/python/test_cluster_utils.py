"""Cluster: virtual nodes in one process tree."""

# ctest: one rank
# ctest: timeout 300

import os
import signal

import pytest

import trireme
from conftest import eventually
from trireme.cluster_utils import Cluster


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


def test_a_running_cluster_does_not_grow(cluster):
    trireme.init(address=cluster.address)
    with pytest.raises(RuntimeError, match="Add all nodes before"):
        cluster.add_node(num_cpus=1)


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
