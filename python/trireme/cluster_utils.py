"""A cluster of several nodes on this machine, for tests.

Every node is a rank with a node identity of its own: the driver's process is rank 0, the others are child processes. The
ranks reach each other as ranks of different machines do. They start when `trireme.init(address=cluster.address)` is called,
or at the first use of the API after `connect()`. A node that is added later takes one of the job's seats, of which a cluster
has so many as it was made with; a seat is used once. What fits no node waits for one that does.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

SCHEME = "trireme-cluster:"
STOP_TIMEOUT_S = 20.0
#: How long a node may take to start.
JOIN_TIMEOUT_S = 60.0

_clusters: dict[str, Cluster] = {}
_wanted: Cluster | None = None  # connect() was called, and nothing has been used yet

# Ray's names of what a node has, and ours in `_init._join`.
_OPTIONS = {
    "num_cpus": "num_cpus",
    "num_gpus": "num_gpus",
    "resources": "resources",
    "labels": "labels",
    "object_store_memory": "arena_bytes",
}
# Ray's settings of its own processes, which have no counterpart.
_WITHOUT_MEANING = ("_system_config", "dashboard_agent_listen_port", "dashboard_port", "env_vars", "include_dashboard")


class Node:
    """A node of a `Cluster`."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None
        self.pid: int | None = None  # once the cluster runs
        self.removed = False

    @property
    def unique_id(self) -> str:
        """The NodeID, as in `trireme.nodes()`.

        Raises
        ------
        RuntimeError
            The cluster does not run yet, so nobody has given the node an identity.
        """
        import trireme

        if self.pid is not None and trireme.is_initialized():
            for node in trireme.nodes():
                if node["pid"] == self.pid:
                    return node["NodeID"]
        raise RuntimeError("this node has no identity before the cluster runs: connect() and use it first")

    node_id = unique_id

    def __repr__(self) -> str:
        return f"Node({self.options}, pid={self.pid}{', removed' if self.removed else ''})"


class Cluster:
    """Several nodes on this machine.

    Threading: one thread. Lifetime: until `shutdown`, or the end of the process.

    Parameters
    ----------
    initialize_head
        Add the head node, which is the driver's own process.
    connect
        Connect the driver, as `connect()` does.
    head_node_args
        Of the head node, as for `add_node`.
    shutdown_at_exit
        End it with the process.
    seats
        How many nodes can be added while the cluster runs, those that replace removed ones included. With 0 a request that
        fits no node is an error at once, as in a job that cannot grow.

    Examples
    --------
    >>> cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    >>> context = trireme.init(address=cluster.address)
    >>> node = cluster.add_node(num_cpus=2, resources={"special": 1})
    >>> len(trireme.nodes())
    2
    """

    def __init__(
        self,
        initialize_head: bool = False,
        connect: bool = False,
        head_node_args: dict[str, Any] | None = None,
        shutdown_at_exit: bool = True,
        *,
        seats: int = 64,
    ) -> None:
        if seats < 0:
            raise ValueError(f"seats must be 0 or more, not {seats}")
        if head_node_args and not initialize_head:
            raise ValueError("head_node_args are of the head node: give initialize_head=True as well")
        self.head_node: Node | None = None
        self.worker_nodes: list[Node] = []
        self._running = False
        self._seats = seats
        self._size = 0  # ranks at the start
        self._next_rank = 0
        self._name = uuid.uuid4().hex[:12]
        if initialize_head:
            self.add_node(**(head_node_args or {}))
        if shutdown_at_exit:
            atexit.register(self.shutdown)
        _clusters[self._name] = self
        if connect:
            self.connect()

    @property
    def address(self) -> str:
        """For `trireme.init(address=...)`."""
        return f"{SCHEME}{self._name}"

    gcs_address = address

    def connect(self, namespace: str | None = None) -> None:
        """Make this process the driver. The ranks start at its first use of the API, so nodes can still be added.

        Raises
        ------
        RuntimeError
            There is no node, or the process is connected already.
        """
        global _wanted
        import trireme

        if self.head_node is None:
            raise RuntimeError("the cluster has no node to connect to: call add_node() first")
        if trireme.is_initialized():
            raise RuntimeError("this process is connected already: call trireme.shutdown() first")
        self._namespace = namespace
        _wanted = self

    _namespace: str | None = None
    _socket = ""

    def add_node(self, wait: bool = True, **node_args: Any) -> Node:
        """Add a node; the first one is the head.

        Parameters
        ----------
        wait
            While the cluster runs: return when the node takes part, not before. Otherwise for Ray's signature: a node is
            there when the cluster runs.
        node_args
            `num_cpus`, `num_gpus`, `resources`, `labels`, `object_store_memory`.

        Raises
        ------
        RuntimeError
            While the cluster runs: its seats are used up, or the node's process ended before it took part.
        TimeoutError
            It does not take part within a minute.
        TypeError
            An argument that nodes do not have.
        """
        options = {}
        for name, value in node_args.items():
            if name in _OPTIONS:
                options[_OPTIONS[name]] = value
            elif name in _WITHOUT_MEANING or name.startswith("_"):
                logger.warning("add_node(%s=...): a setting of Ray's own processes, without effect here", name)
            else:
                raise TypeError(f"add_node() has no argument {name!r}; there are: {', '.join(_OPTIONS)}")
        node = Node(options)
        if self._running:
            self._start_late(node)
        if self.head_node is None:
            self.head_node = node
        else:
            self.worker_nodes.append(node)
        if self._running and wait:
            self._wait_until_there(node)
        return node

    def _start_late(self, node: Node) -> None:
        if self._next_rank == self._size + self._seats:
            raise RuntimeError(
                f"add_node(): all {self._seats} seats of this cluster were used. Make it with Cluster(seats=...) as many "
                f"as nodes are added while it runs"
            )
        node.process = self._start(self._next_rank, node)
        node.pid = node.process.pid
        self._next_rank += 1

    def _wait_until_there(self, node: Node) -> None:
        import trireme

        def there() -> bool:
            return any(other["pid"] == node.pid and other["Alive"] for other in trireme.nodes())

        process = node.process
        assert process is not None
        if _until(lambda: process.poll() is not None or there(), JOIN_TIMEOUT_S) and process.poll() is None:
            return
        self.worker_nodes.remove(node)
        node.removed = True
        if process.poll() is None:
            process.kill()
            process.wait()
            raise TimeoutError(f"add_node(): the node does not take part after {JOIN_TIMEOUT_S} s")
        raise RuntimeError(f"add_node(): the node's process ended with status {process.returncode}; it says why above")

    def remove_node(self, node: Node, allow_graceful: bool = True) -> None:
        """End a node's rank with all its workers, as a crash of its machine would; return when the others know.

        Parameters
        ----------
        node
            What `add_node` returned; not the head, which is this process.
        allow_graceful
            For Ray's signature: a rank has no orderly way to leave a job that goes on.

        Raises
        ------
        ValueError
            The node is the head, or none of this cluster's.
        """
        if node is self.head_node:
            raise ValueError("remove_node(): the head node is this process; shutdown() ends the cluster")
        if node not in self.worker_nodes:
            raise ValueError(f"remove_node(): {node!r} is no node of this cluster")
        self.worker_nodes.remove(node)
        node.removed = True
        if node.process is None:
            return
        node.process.kill()
        node.process.wait()
        import trireme

        if trireme.is_initialized():
            _until(lambda: not any(n["pid"] == node.pid and n["Alive"] for n in trireme.nodes()), STOP_TIMEOUT_S)

    def wait_for_nodes(self, timeout: float = 30) -> None:
        """Return when all nodes that were added take part. Starts the cluster when it is to be connected.

        Raises
        ------
        TimeoutError
            They do not within `timeout` seconds.
        """
        if not self._running:
            if _wanted is not self:
                return  # they come with the driver
            import trireme

            trireme.nodes()
        self._check_alive(timeout)

    def _check_alive(self, timeout: float) -> None:
        import trireme

        expected = 1 + len(self.worker_nodes)
        if not _until(lambda: sum(node["Alive"] for node in trireme.nodes()) == expected, timeout):
            alive = sum(node["Alive"] for node in trireme.nodes())
            raise TimeoutError(f"{alive} of {expected} nodes are alive after {timeout} s")

    def list_all_nodes(self) -> list[Node]:
        """Return the head and the other nodes."""
        return [*([self.head_node] if self.head_node else []), *self.worker_nodes]

    def remaining_processes_alive(self) -> bool:
        """Whether no node that was not removed has ended."""
        return all(node.process is None or node.process.poll() is None for node in self.worker_nodes)

    def shutdown(self) -> None:
        """End all nodes, the driver's part in it included."""
        global _wanted
        if _wanted is self:
            _wanted = None
        if self._running:
            import trireme

            trireme.shutdown()
        self._stop()
        self.head_node = None
        self.worker_nodes = []
        _clusters.pop(self._name, None)
        atexit.unregister(self.shutdown)

    # What `trireme.init` calls through `join`.

    @contextlib.contextmanager
    def _starting(self) -> Iterator[dict[str, Any]]:
        """Start the other ranks while this process joins as rank 0; gives the head's options."""
        if self.head_node is None:
            raise RuntimeError("the cluster has no nodes: call add_node() first")
        self._stop()  # ranks of an earlier connection, which ended with it
        # An abstract name: it goes with rank 0's process, however that ends, where a file would stay.
        self._socket = f"@trireme-cluster-{uuid.uuid4().hex}"
        self._size = self._next_rank = 1 + len(self.worker_nodes)
        self._running = True
        try:
            for rank, node in enumerate(self.worker_nodes, start=1):
                node.process = self._start(rank, node)
                node.pid = node.process.pid
            ours = self._environment(0)
            before = {name: os.environ.get(name) for name in ours}
            os.environ.update(ours)
            try:
                yield self.head_node.options
            finally:
                for name, value in before.items():
                    if value is None:
                        os.environ.pop(name, None)
                    else:
                        os.environ[name] = value
            self.head_node.pid = os.getpid()
        except BaseException:
            self._stop()
            raise

    def _start(self, rank: int, node: Node) -> subprocess.Popen[bytes]:
        options = {**dict.fromkeys(_OPTIONS.values()), "resources": {}, "labels": {}}
        options.update({name: value for name, value in node.options.items() if value is not None})
        argument = json.dumps({"parent": os.getpid(), **options})
        environment = {**os.environ, **self._environment(rank)}
        # The package of this process, wherever the child starts.
        root = str(Path(__file__).resolve().parents[1])
        environment["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [environment.get("PYTHONPATH")])])
        return subprocess.Popen(
            [sys.executable, "-m", "trireme._serve", argument], env=environment, stdin=subprocess.DEVNULL
        )

    def _environment(self, rank: int) -> dict[str, str]:
        return {
            "TRIREME_LOCAL_RANK": str(rank),
            "TRIREME_LOCAL_SIZE": str(self._size),
            "TRIREME_LOCAL_SEATS": str(self._seats),
            "TRIREME_LOCAL_SOCKET": self._socket,
            "TRIREME_NODE_ID": f"{self._name}-{rank}",
        }

    def _stop(self) -> None:
        """Wait for the ranks, which end with rank 0, and kill those that do not."""
        processes = [node.process for node in self.worker_nodes if node.process is not None]
        deadline = time.monotonic() + (STOP_TIMEOUT_S if self._connected else 0)
        for process in processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
        for node in self.list_all_nodes():
            node.process = node.pid = None
        self._running = False

    @property
    def _connected(self) -> bool:
        return self.head_node is not None and self.head_node.pid is not None


def _until(condition: Any, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def wanted_address() -> str | None:
    """Return the address of the cluster that `connect` was called on and that nothing has used yet."""
    return _wanted.address if _wanted is not None else None


def join(address: str, **arguments: Any) -> Any:
    """Carry out `trireme.init(address=cluster.address, ...)`.

    Raises
    ------
    ConnectionError
        There is no cluster with that address in this process.
    ValueError
        What the head node has was given to `init` and not to `add_node`.
    """
    global _wanted
    from trireme import _init

    cluster = _clusters.get(address.removeprefix(SCHEME))
    if cluster is None:
        raise ConnectionError(f"init(address={address!r}): this process has no cluster with that address")
    given = [name for name in _OPTIONS if arguments.get(name) is not None]
    if given:
        raise ValueError(f"init(address=cluster.address) cannot set {', '.join(given)}: give them to add_node()")
    if _wanted is cluster:
        _wanted = None
        if arguments.get("namespace") is None:
            arguments["namespace"] = cluster._namespace
    names = {ours: rays for rays, ours in _OPTIONS.items()}
    with cluster._starting() as head:
        arguments.update({names[name]: value for name, value in head.items()})
        return _init.init(**arguments)
