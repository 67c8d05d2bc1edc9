"""The records of the state API. Each reads as attributes and as a mapping."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from typing import Any


class RayStateApiException(Exception):
    """The state API was asked for something that it cannot give."""


def field_names(cls: type) -> list[str]:
    """Return the names of a record's fields."""
    return [field.name for field in fields(cls)]


class State:
    """What all records have in common."""

    def __getitem__(self, name: str) -> Any:
        if name not in {field.name for field in fields(self)}:  # type: ignore[arg-type]
            raise KeyError(name)
        return getattr(self, name)

    def get(self, name: str, default: Any = None) -> Any:
        """Return the field, or `default` when there is none of that name."""
        return getattr(self, name, default)

    def keys(self) -> Iterator[str]:
        """Yield the names of the fields."""
        return (field.name for field in fields(self))  # type: ignore[arg-type]

    def asdict(self) -> dict[str, Any]:
        """Return the fields as a dict of plain values."""
        return asdict(self)  # type: ignore[call-overload]


@dataclass
class TaskState(State):
    """A task that waits, runs or ran. Times in milliseconds since the epoch; None: not yet."""

    task_id: str
    name: str
    state: str  # PENDING_ARGS_AVAIL, PENDING_NODE_ASSIGNMENT, RUNNING, FINISHED, FAILED
    type: str  # NORMAL_TASK, ACTOR_CREATION_TASK, ACTOR_TASK
    attempt_number: int
    actor_id: str | None
    node_id: str | None
    rank: int
    worker_id: str | None
    worker_pid: int | None
    start_time_ms: int | None
    end_time_ms: int | None
    error_type: str | None
    func_or_class_name: str
    job_id: str


@dataclass
class ActorState(State):
    """An actor that was placed."""

    actor_id: str
    class_name: str
    state: str  # ALIVE, DEAD
    name: str
    ray_namespace: str
    pid: int
    node_id: str
    rank: int
    job_id: str


@dataclass
class ObjectState(State):
    """An object that a process has references to."""

    object_id: str
    object_size: int  # bytes
    task_status: str  # of the task that makes it, as in TaskState; NIL when it was put
    reference_type: str
    call_site: str
    type: str  # DRIVER, WORKER
    pid: int
    ip: str
    node_id: str
    rank: int


@dataclass
class JobState(State):
    """The job of a session."""

    job_id: str
    type: str
    status: str
    entrypoint: str
    start_time: int  # milliseconds since the epoch
    metadata: dict[str, str]  # of its JobConfig


@dataclass
class WorkerState(State):
    """A worker process that ran something."""

    worker_id: str
    is_alive: bool
    worker_type: str  # WORKER; DRIVER for the process that runs the program
    node_id: str
    rank: int
    pid: int
    start_time_ms: int
    actor_id: str | None = None


@dataclass
class RuntimeEnvState(State):
    """A runtime environment that worker processes of a rank have, or were to have."""

    runtime_env: dict[str, Any]
    success: bool
    creation_time_ms: float  # of the process that took longest
    node_id: str
    rank: int
    ref_cnt: int  # processes that have it and live
    error: str | None = None


@dataclass
class NodeState(State):
    """A rank of the job."""

    node_id: str
    node_ip: str
    node_name: str
    is_head_node: bool
    state: str  # ALIVE, DEAD
    rank: int
    pid: int
    resources_total: dict[str, float] = field(default_factory=dict)
    resources_available: dict[str, float] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)


@dataclass
class PlacementGroupState(State):
    """A placement group that this process's job made."""

    placement_group_id: str
    name: str
    state: str
    strategy: str
    bundles: list[dict[str, Any]] = field(default_factory=list)
