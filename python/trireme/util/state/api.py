"""The functions of the state API. From a process outside of the job they ask rank 0 of this user's newest session."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import trireme
from trireme.util.state import _gather, schema
from trireme.util.state._rows import SOURCES, timeline_events
from trireme.util.state._summaries import count_actors, count_objects, count_tasks
from trireme.util.state.schema import (
    ActorState,
    JobState,
    NodeState,
    ObjectState,
    PlacementGroupState,
    RayStateApiException,
    RuntimeEnvState,
    State,
    TaskState,
    WorkerState,
)

__all__ = ["SCHEMAS", "SOURCES", "count_actors", "count_objects", "count_tasks", "kind_error", "timeline_events"]

S = TypeVar("S", bound=State)
#: (field, "=" or "!=", value)
Filter = tuple[str, str, Any]

DEFAULT_LIMIT = 100
DEFAULT_TIMEOUT = 30.0
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {"=": operator.eq, "!=": operator.ne}
SCHEMAS: dict[str, type[State]] = {
    "tasks": TaskState,
    "actors": ActorState,
    "objects": ObjectState,
    "workers": WorkerState,
    "nodes": NodeState,
    "placement-groups": PlacementGroupState,
    "jobs": JobState,
    "runtime-envs": RuntimeEnvState,
}


def _listing(
    kind: str, cls: type[S], address: str | None, filters: Sequence[Filter] | None, limit: int, timeout: float, strict: bool
) -> list[S]:
    if limit < 1:
        raise ValueError(f"limit is at least 1, but {limit} was given")
    states = [cls(**row) for row in _rows(kind, address, timeout, strict)]
    for name, comparison, value in filters or ():
        if comparison not in _COMPARE:
            raise ValueError(f"a filter is (field, '=' or '!=', value), but the comparison {comparison!r} was given")
        known = schema.field_names(cls)
        if name not in known:
            raise ValueError(f"{kind} have no field {name!r}; there are: {', '.join(known)}")
        states = [s for s in states if _COMPARE[comparison](_plain(s[name]), _plain(value))]
    return states[:limit]


def _plain(value: Any) -> Any:
    # The command line gives text, and letters' case does not matter, as in Ray.
    return str(value).lower()


def _rows(kind: str, address: str | None, timeout: float, strict: bool) -> list[dict[str, Any]]:
    if trireme.is_initialized() and address in (None, "auto", "local"):
        with _gather.strictly(strict):
            return SOURCES[kind](timeout)
    from trireme._tools.client import NoSessionError, ask

    job = None if address in (None, "auto", "local") else address
    try:
        return ask("list", job=job, kind=kind, timeout=timeout, strict=strict)
    except NoSessionError:
        raise
    except RuntimeError as error:
        raise RayStateApiException(str(error)) from error


def list_tasks(
    address: str | None = None,
    filters: Sequence[Filter] | None = None,
    limit: int = DEFAULT_LIMIT,
    timeout: float = DEFAULT_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[TaskState]:
    """List tasks and actor calls: first those that wait, then those that run or ran, the newest first.

    Each process remembers its last 1024. Those that wait are known where they were called: for their arguments
    (PENDING_ARGS_AVAIL) as long as somebody has a reference to their result, and for a worker (PENDING_NODE_ASSIGNMENT). They
    get another `task_id` when they begin.

    Parameters
    ----------
    address
        None or "auto": this job or, from a process outside of one, the newest of this user's on this node; else the name
        or pid of a job (`trireme status --session`).
    filters
        All must hold: `(field, "=" or "!=", value)`. Letters' case does not matter.
    limit
        How many at most.
    timeout
        Seconds to wait for other ranks.
    detail
        Records are always complete; for Ray's signature.
    raise_on_missing_output
        True: RayStateApiException when a rank did not answer in time. False: a warning says which.
    """
    return _listing("tasks", TaskState, address, filters, limit, timeout, raise_on_missing_output)


def list_actors(
    address: str | None = None,
    filters: Sequence[Filter] | None = None,
    limit: int = DEFAULT_LIMIT,
    timeout: float = DEFAULT_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[ActorState]:
    """List actors that were placed, the dead included. Parameters as for `list_tasks`."""
    return _listing("actors", ActorState, address, filters, limit, timeout, raise_on_missing_output)


def list_objects(
    address: str | None = None,
    filters: Sequence[Filter] | None = None,
    limit: int = DEFAULT_LIMIT,
    timeout: float = DEFAULT_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[ObjectState]:
    """List what processes have references to, once per object and process. Parameters as for `list_tasks`.

    `object_size` is in bytes, 0 while it is not known. `reference_type` is LOCAL_REFERENCE, USED_BY_PENDING_TASK (an argument
    of a call that is queued or runs in the owner's rank), PINNED_IN_MEMORY (only its value is read, or only another rank
    refers to it), ACTOR_HANDLE, or UNKNOWN_STATUS (a value or C++ code has the reference). `call_site` is the name of the
    task that makes it.
    """
    return _listing("objects", ObjectState, address, filters, limit, timeout, raise_on_missing_output)


def list_workers(
    address: str | None = None,
    filters: Sequence[Filter] | None = None,
    limit: int = DEFAULT_LIMIT,
    timeout: float = DEFAULT_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[WorkerState]:
    """List worker processes, those that ended included. Parameters as for `list_tasks`."""
    return _listing("workers", WorkerState, address, filters, limit, timeout, raise_on_missing_output)


def list_nodes(
    address: str | None = None,
    filters: Sequence[Filter] | None = None,
    limit: int = DEFAULT_LIMIT,
    timeout: float = DEFAULT_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[NodeState]:
    """List the ranks of the job. Parameters as for `list_tasks`."""
    return _listing("nodes", NodeState, address, filters, limit, timeout, raise_on_missing_output)


def list_placement_groups(
    address: str | None = None,
    filters: Sequence[Filter] | None = None,
    limit: int = DEFAULT_LIMIT,
    timeout: float = DEFAULT_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[PlacementGroupState]:
    """List placement groups. Parameters as for `list_tasks`."""
    return _listing("placement-groups", PlacementGroupState, address, filters, limit, timeout, raise_on_missing_output)


def list_jobs(
    address: str | None = None,
    filters: Sequence[Filter] | None = None,
    limit: int = DEFAULT_LIMIT,
    timeout: float = DEFAULT_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[JobState]:
    """List the job, of which a session has one. Parameters as for `list_tasks`."""
    return _listing("jobs", JobState, address, filters, limit, timeout, raise_on_missing_output)


def list_runtime_envs(
    address: str | None = None,
    filters: Sequence[Filter] | None = None,
    limit: int = DEFAULT_LIMIT,
    timeout: float = DEFAULT_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[RuntimeEnvState]:
    """List the runtime environments that worker processes made or failed to make, once per rank; those that failed first.

    Processes without one are not counted. Parameters as for `list_tasks`.
    """
    return _listing("runtime-envs", RuntimeEnvState, address, filters, limit, timeout, raise_on_missing_output)


def _one(kind: str, cls: type[S], key: str, wanted: str, address: str | None, timeout: float) -> S | None:
    found = _listing(kind, cls, address, [(key, "=", wanted)], 1, timeout, True)
    return found[0] if found else None


def get_task(
    id: str,  # noqa: A002 - Ray's name
    address: str | None = None,
    timeout: float = DEFAULT_TIMEOUT,
) -> TaskState | None:
    """Return the task with that id, None when no process remembers it."""
    return _one("tasks", TaskState, "task_id", id, address, timeout)


def get_actor(
    id: str,  # noqa: A002 - Ray's name
    address: str | None = None,
    timeout: float = DEFAULT_TIMEOUT,
) -> ActorState | None:
    """Return the actor with that id, None when there is none."""
    return _one("actors", ActorState, "actor_id", id, address, timeout)


def get_worker(
    id: str,  # noqa: A002 - Ray's name
    address: str | None = None,
    timeout: float = DEFAULT_TIMEOUT,
) -> WorkerState | None:
    """Return the worker with that id, None when there is none."""
    return _one("workers", WorkerState, "worker_id", id, address, timeout)


def get_node(
    id: str,  # noqa: A002 - Ray's name
    address: str | None = None,
    timeout: float = DEFAULT_TIMEOUT,
) -> NodeState | None:
    """Return the rank with that node id, None when there is none."""
    return _one("nodes", NodeState, "node_id", id, address, timeout)


def get_placement_group(
    id: str,  # noqa: A002 - Ray's name
    address: str | None = None,
    timeout: float = DEFAULT_TIMEOUT,
) -> PlacementGroupState | None:
    """Return the placement group with that id, None when there is none."""
    return _one("placement-groups", PlacementGroupState, "placement_group_id", id, address, timeout)


def get_objects(
    id: str,  # noqa: A002 - Ray's name
    address: str | None = None,
    timeout: float = DEFAULT_TIMEOUT,
) -> list[ObjectState]:
    """Return the object with that id, once for each process that has references to it."""
    filters = [("object_id", "=", id)]
    return _listing("objects", ObjectState, address, filters, 1 << 30, timeout, True)


def summarize_tasks(
    address: str | None = None, timeout: float = DEFAULT_TIMEOUT, raise_on_missing_output: bool = True
) -> dict[str, Any]:
    """Count tasks by name and state.

    Returns
    -------
    dict
        Under `"cluster"`: `summary`, name to `{"func_or_class_name", "type", "state_counts"}`; `total_tasks`,
        `total_actor_tasks`, `total_actor_scheduled`.
    """
    return {"cluster": count_tasks(_rows("tasks", address, timeout, raise_on_missing_output))}


def summarize_actors(
    address: str | None = None, timeout: float = DEFAULT_TIMEOUT, raise_on_missing_output: bool = True
) -> dict[str, Any]:
    """Count actors by class and state.

    Returns
    -------
    dict
        Under `"cluster"`: `summary`, class name to `{"class_name", "state_counts"}`; `total_actors`.
    """
    return {"cluster": count_actors(_rows("actors", address, timeout, raise_on_missing_output))}


def summarize_objects(
    address: str | None = None, timeout: float = DEFAULT_TIMEOUT, raise_on_missing_output: bool = True
) -> dict[str, Any]:
    """Count objects by the task that makes them.

    Returns
    -------
    dict
        Under `"cluster"`: `summary`, name to `{"total_objects", "total_size_mb", "total_num_workers", "total_num_nodes",
        "task_state_counts", "ref_type_counts"}`; `total_objects` (once for each process that refers to one),
        `total_size_mb` (each object once).
    """
    return {"cluster": count_objects(_rows("objects", address, timeout, raise_on_missing_output))}


def kind_error(kind: str) -> RayStateApiException:
    """Make the error for a kind of thing that is not listed."""
    return RayStateApiException(f"no list of {kind!r}; there are: {', '.join(SOURCES)}")
