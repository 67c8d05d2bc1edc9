"""Where the records of the state API come from: the workers' files, and what the ranks say when they are asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trireme
from trireme import _init, _observe, _session, _state
from trireme.util.state._gather import TASK_NAME, Part, gather


def _worker_parts(timeout: float) -> list[Part]:
    return gather(_observe.read_folder, timeout)


def _read_objects(_: Path) -> dict[str, list[dict[str, Any]]]:
    return _init.core().objects()


def _held(timeout: float) -> list[Part]:
    # Asked of the ranks' processes: what is in their folders does not say it.
    return gather(_read_objects, timeout, through_tasks=True)


def _task_rows(timeout: float) -> list[dict[str, Any]]:
    rows = []
    for part in _worker_parts(timeout):
        for process in part.value:
            rows += [_task_row(part, process, record) for record in process["records"] if record.name != TASK_NAME]
    rows.sort(key=lambda row: -row["start_time_ms"])
    waiting = [(part, task) for part in _held(timeout) for task in part.value["tasks"] if task["name"] != TASK_NAME]
    return [_waiting_row(part, task) for part, task in waiting] + rows


def _waiting_row(part: Part, task: dict[str, Any]) -> dict[str, Any]:
    return {
        "task_id": f"{part.rank:08x}{task['key']:032x}",
        "name": task["name"],
        "state": task["state"],
        "type": task["type"],
        "attempt_number": 0,
        "actor_id": None,
        "node_id": None,
        "rank": part.rank,
        "worker_id": None,
        "worker_pid": None,
        "start_time_ms": None,
        "end_time_ms": None,
        "error_type": None,
        "func_or_class_name": task["name"],
        "job_id": _state.job.get("job_id", ""),
    }


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
        "func_or_class_name": record.name,
        "job_id": _state.job.get("job_id", ""),
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
            "job_id": _state.job.get("job_id", ""),
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


def _object_rows(timeout: float) -> list[dict[str, Any]]:
    hosts = {node["rank"]: node["NodeManagerAddress"] for node in trireme.nodes()}
    return [
        {
            "object_id": found["id"],
            "object_size": found["size"],
            "task_status": found["task_status"],
            "reference_type": found["reference_type"],
            "call_site": found["name"] or "(put object)",
            "type": found["type"],
            "pid": found["pid"],
            "ip": hosts.get(part.rank, ""),
            "node_id": part.node_id,
            "rank": part.rank,
        }
        for part in _held(timeout)
        for found in part.value["objects"]
        if found["name"] != TASK_NAME
    ]


def _job_rows(timeout: float) -> list[dict[str, Any]]:
    here = _session.current()
    described = _session.describe(here) if here is not None else None
    return [
        {
            "job_id": _state.job.get("job_id", ""),
            "type": "DRIVER",
            "status": "RUNNING",
            "entrypoint": " ".join(described.command) if described else "",
            "start_time": int(described.started * 1000) if described else 0,
            "metadata": dict(_state.job.get("metadata", {})),
        }
    ]


def _environment_rows(timeout: float) -> list[dict[str, Any]]:
    rows: dict[tuple[int, str, str | None], dict[str, Any]] = {}
    for part in gather(_observe.read_environments, timeout):
        for known in part.value:
            key = (part.rank, json.dumps(known["runtime_env"], sort_keys=True), known["error"])
            row = rows.setdefault(
                key,
                {
                    "runtime_env": known["runtime_env"],
                    "success": known["error"] is None,
                    "creation_time_ms": 0.0,
                    "node_id": part.node_id,
                    "rank": part.rank,
                    "ref_cnt": 0,
                    "error": known["error"],
                },
            )
            row["creation_time_ms"] = max(row["creation_time_ms"], known["creation_time_ms"])
            row["ref_cnt"] += known["alive"]
    # What went wrong comes first, as in Ray; then what is used most.
    return sorted(rows.values(), key=lambda row: (row["success"], -row["ref_cnt"]))


def timeline_events(timeout: float = 30.0) -> list[dict[str, Any]]:
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


#: Of a running session, by kind.
SOURCES: dict[str, Callable[[float], list[dict[str, Any]]]] = {
    "tasks": _task_rows,
    "actors": _actor_rows,
    "objects": _object_rows,
    "workers": _worker_rows,
    "nodes": _node_rows,
    "placement-groups": _group_rows,
    "jobs": _job_rows,
    "runtime-envs": _environment_rows,
}
