"""The functions of the state API. From a process outside of the job they ask rank 0 of this user's newest session."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import trireme
from trireme import _observe
from trireme.util.state import schema
from trireme.util.state._gather import Part, gather
from trireme.util.state.schema import (
    ActorState,
    NodeState,
    PlacementGroupState,
    RayStateApiException,
    State,
    TaskState,
    WorkerState,
)

S = TypeVar("S", bound=State)
#: (field, "=" or "!=", value)
Filter = tuple[str, str, Any]

DEFAULT_LIMIT = 100
DEFAULT_TIMEOUT = 30.0
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {"=": operator.eq, "!=": operator.ne}


def _listing(kind: str, cls: type[S], filters: Sequence[Filter] | None, limit: int, timeout: float) -> list[S]:
    if limit < 1:
        raise ValueError(f"limit is at least 1, but {limit} was given")
    rows = _rows(kind, timeout)
    states = [cls(**row) for row in rows]
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


def _rows(kind: str, timeout: float) -> list[dict[str, Any]]:
    if trireme.is_initialized():
        return SOURCES[kind](timeout)
    from trireme._tools.client import ask

    return ask("list", kind=kind, timeout=timeout)


def _worker_parts(timeout: float) -> list[Part]:
    return gather(_observe.read_folder, timeout)


def _task_rows(timeout: float) -> list[dict[str, Any]]:
    rows = []
    for part in _worker_parts(timeout):
        for process in part.value:
            for record in process["records"]:
                rows.append(_task_row(part, process, record))
    return sorted(rows, key=lambda row: -row["start_time_ms"])


def _task_row(part: Part, process: dict[str, Any], record: _observe.Record) -> dict[str, Any]:
    died = not record.end and not process["alive"]
    return {
        "task_id": f"{_worker_id(part, process)}{record.token:016x}",
        "name": record.name,
        "state": "FAILED" if record.error or died else "FINISHED" if record.end else "RUNNING",
        "type": record.kind,
        "attempt_number": record.attempt,
        "actor_id": process.get("actor_id"),
        "node_id": part.node_id,
        "rank": part.rank,
        "worker_id": _worker_id(part, process),
        "worker_pid": process["pid"],
        "start_time_ms": int(record.begin * 1000),
        "end_time_ms": int(record.end * 1000) if record.end else None,
        "error_type": record.error or ("WORKER_DIED" if died else None),
    }


def _worker_id(part: Part, process: dict[str, Any]) -> str:
    # As RuntimeContext.get_worker_id() and get_task_id() give them.
    return f"{part.rank:08x}{process['worker_id']:016x}"


def _actor_rows(timeout: float) -> list[dict[str, Any]]:
    return [
        {
            "actor_id": process["actor_id"],
            "class_name": process.get("class_name", ""),
            "state": "ALIVE" if process["alive"] else "DEAD",
            "name": process.get("name", ""),
            "ray_namespace": process.get("namespace", ""),
            "pid": process["pid"],
            "node_id": part.node_id,
            "rank": part.rank,
        }
        for part in _worker_parts(timeout)
        for process in part.value
        if process.get("actor_id")
    ]


def _worker_rows(timeout: float) -> list[dict[str, Any]]:
    return [
        {
            "worker_id": _worker_id(part, process),
            "is_alive": process["alive"],
            "worker_type": "WORKER",
            "node_id": part.node_id,
            "rank": part.rank,
            "pid": process["pid"],
            "start_time_ms": int(process["started"] * 1000),
            "actor_id": process.get("actor_id"),
        }
        for part in _worker_parts(timeout)
        for process in part.value
    ]


def _node_rows(timeout: float) -> list[dict[str, Any]]:
    from trireme import _state

    available = {rank["rank"]: dict(rank["available"]) for rank in _state.core.ranks() if rank["alive"]}
    return [
        {
            "node_id": node["NodeID"],
            "node_ip": node["NodeManagerAddress"],
            "node_name": node["NodeName"],
            "is_head_node": node["rank"] == 0,
            "state": "ALIVE" if node["Alive"] else "DEAD",
            "rank": node["rank"],
            "pid": node["pid"],
            "resources_total": dict(node["Resources"]),
            "resources_available": available.get(node["rank"], {}),
            "labels": dict(node["Labels"]),
        }
        for node in trireme.nodes()
    ]


def _group_rows(timeout: float) -> list[dict[str, Any]]:
    from trireme.util.placement_group import placement_group_table

    rows = []
    for group_id, row in placement_group_table().items():
        bundles = row.get("bundles", {})
        rows.append(
            {
                "placement_group_id": str(group_id),
                "name": row.get("name", ""),
                "state": row.get("state", ""),
                "strategy": row.get("strategy", ""),
                "bundles": [
                    {"bundle_id": index, "unit_resources": dict(resources)}
                    for index, resources in dict(bundles).items()
                ],
            }
        )
    return rows


SOURCES: dict[str, Callable[[float], list[dict[str, Any]]]] = {
    "tasks": _task_rows,
    "actors": _actor_rows,
    "workers": _worker_rows,
    "nodes": _node_rows,
    "placement-groups": _group_rows,
}
SCHEMAS: dict[str, type[State]] = {
    "tasks": TaskState,
    "actors": ActorState,
    "workers": WorkerState,
    "nodes": NodeState,
    "placement-groups": PlacementGroupState,
}


def list_tasks(
    *,
    filters: Sequence[Filter] | None = None,
    limit: int = DEFAULT_LIMIT,
    timeout: float = DEFAULT_TIMEOUT,
    detail: bool = False,
) -> list[TaskState]:
    """List tasks that run or ran, the newest first; each process remembers its last 1024.

    Tasks that wait for a worker or for their arguments are not among them.

    Parameters
    ----------
    filters
        All must hold: `(field, "=" or "!=", value)`.
    limit
        How many at most.
    timeout
        Seconds to wait for other nodes.
    detail
        Records are always complete; for Ray's signature.
    """
    return _listing("tasks", TaskState, filters, limit, timeout)


def list_actors(
    *,
    filters: Sequence[Filter] | None = None,
    limit: int = DEFAULT_LIMIT,
    timeout: float = DEFAULT_TIMEOUT,
    detail: bool = False,
) -> list[ActorState]:
    """List actors that were placed, the dead included. Parameters as for `list_tasks`."""
    return _listing("actors", ActorState, filters, limit, timeout)


def list_workers(
    *,
    filters: Sequence[Filter] | None = None,
    limit: int = DEFAULT_LIMIT,
    timeout: float = DEFAULT_TIMEOUT,
    detail: bool = False,
) -> list[WorkerState]:
    """List worker processes, those that ended included. Parameters as for `list_tasks`."""
    return _listing("workers", WorkerState, filters, limit, timeout)


def list_nodes(
    *,
    filters: Sequence[Filter] | None = None,
    limit: int = DEFAULT_LIMIT,
    timeout: float = DEFAULT_TIMEOUT,
    detail: bool = False,
) -> list[NodeState]:
    """List the ranks of the job. Parameters as for `list_tasks`."""
    return _listing("nodes", NodeState, filters, limit, timeout)


def list_placement_groups(
    *,
    filters: Sequence[Filter] | None = None,
    limit: int = DEFAULT_LIMIT,
    timeout: float = DEFAULT_TIMEOUT,
    detail: bool = False,
) -> list[PlacementGroupState]:
    """List placement groups. Parameters as for `list_tasks`."""
    return _listing("placement-groups", PlacementGroupState, filters, limit, timeout)


def _one(kind: str, cls: type[S], key: str, wanted: str, timeout: float) -> S | None:
    found = _listing(kind, cls, [(key, "=", wanted)], 1, timeout)
    return found[0] if found else None


def get_task(id: str, timeout: float = DEFAULT_TIMEOUT) -> TaskState | None:  # noqa: A002 - Ray's name
    """Return the task with that id, None when no process remembers it."""
    return _one("tasks", TaskState, "task_id", id, timeout)


def get_actor(id: str, timeout: float = DEFAULT_TIMEOUT) -> ActorState | None:  # noqa: A002
    """Return the actor with that id."""
    return _one("actors", ActorState, "actor_id", id, timeout)


def get_worker(id: str, timeout: float = DEFAULT_TIMEOUT) -> WorkerState | None:  # noqa: A002
    """Return the worker with that id."""
    return _one("workers", WorkerState, "worker_id", id, timeout)


def get_node(id: str, timeout: float = DEFAULT_TIMEOUT) -> NodeState | None:  # noqa: A002
    """Return the rank with that node id."""
    return _one("nodes", NodeState, "node_id", id, timeout)


def get_placement_group(id: str, timeout: float = DEFAULT_TIMEOUT) -> PlacementGroupState | None:  # noqa: A002
    """Return the placement group with that id."""
    return _one("placement-groups", PlacementGroupState, "placement_group_id", id, timeout)


def summarize_tasks(*, timeout: float = DEFAULT_TIMEOUT) -> dict[str, Any]:
    """Count tasks by name and state.

    Returns
    -------
    dict
        `summary`: name to `{"func_or_class_name", "type", "state_counts"}`; `total_tasks`, `total_actor_tasks`.
    """
    return count_tasks(_rows("tasks", timeout))


def count_tasks(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Make the summary of the rows."""
    summary: dict[str, dict[str, Any]] = {}
    kinds: Counter[str] = Counter()
    for row in rows:
        entry = summary.setdefault(
            row["name"], {"func_or_class_name": row["name"], "type": row["type"], "state_counts": Counter()}
        )
        entry["state_counts"][row["state"]] += 1
        kinds[row["type"]] += 1
    for entry in summary.values():
        entry["state_counts"] = dict(entry["state_counts"])
    return {
        "summary": summary,
        "total_tasks": kinds["NORMAL_TASK"],
        "total_actor_tasks": kinds["ACTOR_TASK"],
        "total_actor_scheduled": kinds["ACTOR_CREATION_TASK"],
    }


def summarize_actors(*, timeout: float = DEFAULT_TIMEOUT) -> dict[str, Any]:
    """Count actors by class and state: `summary` is class name to `{"class_name", "state_counts"}`; `total_actors`."""
    return count_actors(_rows("actors", timeout))


def count_actors(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Make the summary of the rows."""
    summary: dict[str, dict[str, Any]] = {}
    for row in rows:
        entry = summary.setdefault(row["class_name"], {"class_name": row["class_name"], "state_counts": {}})
        entry["state_counts"][row["state"]] = entry["state_counts"].get(row["state"], 0) + 1
    return {"summary": summary, "total_actors": len(rows)}


def timeline_events(timeout: float = DEFAULT_TIMEOUT) -> list[dict[str, Any]]:
    """Return the tasks as events of Chrome's trace format (`chrome://tracing`, Perfetto); times in microseconds."""
    events: list[dict[str, Any]] = []
    for part in _worker_parts(timeout):
        for process in part.value:
            label = process.get("class_name") or "worker"
            row = {"pid": f"rank {part.rank}", "tid": f"{label} {process['pid']}"}
            for record in process["records"]:
                end = record.end or record.begin
                events.append(
                    {
                        **row,
                        "name": record.name,
                        "cat": record.kind,
                        "ph": "X",
                        "ts": record.begin * 1e6,
                        "dur": (end - record.begin) * 1e6,
                        "args": {"attempt": record.attempt, "error": record.error, "running": not record.end},
                    }
                )
    return events


def kind_error(kind: str) -> RayStateApiException:
    """Make the error for a kind of thing that is not listed."""
    return RayStateApiException(f"no list of {kind!r}; there are: {', '.join(SOURCES)}")
