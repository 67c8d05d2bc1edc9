"""Trireme: tasks, actors and shared objects where the MPI job is the cluster, with Ray's API.

    import trireme

    @trireme.remote
    def square(x):
        return x * x

    print(trireme.get([square.remote(i) for i in range(4)]))
"""

from trireme._find_native import search_path as _search_path

__path__ = _search_path(__path__)

from trireme import exceptions
from trireme._actor import ActorClass, ActorHandle, exit_actor, get_actor, method
from trireme._api import cancel, get, kill, put, remote, wait
from trireme._ids import ActorID, JobID, NodeID, PlacementGroupID, TaskID, UniqueID, WorkerID
from trireme._init import init, is_initialized, shutdown
from trireme._lazy import attach as _attach
from trireme._nodes import available_resources, cluster_resources, nodes
from trireme._object_ref import (
    DynamicObjectRefGenerator,
    ObjectID,
    ObjectRef,
    ObjectRefGenerator,
    StreamingObjectRefGenerator,
)
from trireme._remote_function import RemoteFunction
from trireme.runtime_context import get_gpu_ids, get_runtime_context

__version__ = "0.1.0"

__all__ = [
    "ActorClass",
    "ActorHandle",
    "ActorID",
    "DynamicObjectRefGenerator",
    "JobID",
    "LoggingConfig",
    "NodeID",
    "ObjectID",
    "ObjectRef",
    "ObjectRefGenerator",
    "PlacementGroupID",
    "RemoteFunction",
    "StreamingObjectRefGenerator",
    "TaskID",
    "UniqueID",
    "WorkerID",
    "available_resources",
    "cancel",
    "cluster_resources",
    "exceptions",
    "exit_actor",
    "get",
    "get_actor",
    "get_gpu_ids",
    "get_runtime_context",
    "init",
    "is_initialized",
    "kill",
    "load_library",
    "method",
    "nodes",
    "put",
    "remote",
    "shutdown",
    "timeline",
    "wait",
]

__getattr__, __dir__ = _attach(
    __name__,
    {
        "LoggingConfig": "_log_config",
        "RuntimeEnv": "_runtime_env",
        "load_library": "cross_language",
        "timeline": "_timeline",
    },
    (
        "cloudpickle",
        "cluster_utils",
        "cross_language",
        "dag",
        "data",
        "datasets",
        "experimental",
        "job_config",
        "rl",
        "runtime_context",
        "runtime_env",
        "serve",
        "train",
        "tune",
        "util",
    ),
)
