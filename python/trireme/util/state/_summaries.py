"""Counts of the state API's records."""

from __future__ import annotations

from collections import Counter
from typing import Any


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
        "summary_by": "func_name",
    }


def count_actors(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Make the summary of the rows."""
    summary: dict[str, dict[str, Any]] = {}
    for row in rows:
        entry = summary.setdefault(row["class_name"], {"class_name": row["class_name"], "state_counts": {}})
        entry["state_counts"][row["state"]] = entry["state_counts"].get(row["state"], 0) + 1
    return {"summary": summary, "total_actors": len(rows), "summary_by": "class"}


def count_objects(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Make the summary of the rows: by what makes the object, a task's name or "(put object)"."""
    summary: dict[str, dict[str, Any]] = {}
    for site in dict.fromkeys(row["call_site"] for row in rows):
        mine = [row for row in rows if row["call_site"] == site]
        summary[site] = {
            "total_objects": len(mine),
            "total_size_mb": _size_mb(mine),
            "total_num_workers": len({(row["rank"], row["pid"]) for row in mine}),
            "total_num_nodes": len({row["rank"] for row in mine}),
            "task_state_counts": dict(Counter(row["task_status"] for row in mine)),
            "ref_type_counts": dict(Counter(row["reference_type"] for row in mine)),
        }
    return {
        "summary": summary,
        "total_objects": len(rows),
        "total_size_mb": _size_mb(rows),
        "callsite_enabled": False,
        "summary_by": "callsite",
    }


def _size_mb(rows: list[dict[str, Any]]) -> float:
    return sum({row["object_id"]: row["object_size"] for row in rows}.values()) / 2**20
