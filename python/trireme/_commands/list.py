"""`trireme list`: tasks, actors, objects, workers, nodes, placement groups, runtime environments or the job."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from trireme._tools import options, render

HELP = "tasks, actors, objects, workers, nodes, placement groups, runtime environments or the job"
COLUMNS = {
    "tasks": ("task_id", "name", "state", "type", "attempt_number", "rank", "worker_pid", "error_type"),
    "actors": ("actor_id", "class_name", "state", "name", "rank", "pid"),
    "objects": ("object_id", "object_size", "task_status", "reference_type", "call_site", "type", "rank", "pid"),
    "workers": ("worker_id", "is_alive", "rank", "pid", "actor_id"),
    "nodes": ("rank", "state", "node_name", "pid", "resources_total", "node_id"),
    "placement-groups": ("placement_group_id", "name", "state", "strategy", "bundles"),
    "runtime-envs": ("success", "ref_cnt", "rank", "creation_time_ms", "runtime_env", "error"),
    "jobs": ("job_id", "type", "status", "entrypoint"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_session(parser)
    parser.add_argument("kind", choices=options.KINDS)
    parser.add_argument("--filter", "-f", action="append", default=[], metavar="FIELD=VALUE", help="or FIELD!=VALUE")
    parser.add_argument("--limit", type=options.positive, default=100, metavar="ROWS", help="at most so many (100)")
    parser.add_argument("--json", action="store_true", help="complete records")


@options.reports_errors
def run(arguments: argparse.Namespace) -> int:
    rows = _filtered(options.rows(arguments, arguments.kind), arguments)
    shown = rows[: arguments.limit]
    sys.stdout.write(render.as_json(shown) if arguments.json else render.table(shown, COLUMNS[arguments.kind]))
    if len(shown) < len(rows):
        print(f"{len(shown)} of {len(rows)} shown; --limit gives more", file=sys.stderr)
    return 0


def _filtered(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    from trireme.util.state.api import SCHEMAS
    from trireme.util.state.schema import field_names

    known = field_names(SCHEMAS[arguments.kind])
    for text in arguments.filter:
        name, equal, value = text.partition("=")
        if not equal:
            raise ValueError(f"--filter takes FIELD=VALUE or FIELD!=VALUE, not {text!r}")
        wanted = not name.endswith("!")
        name = name.rstrip("!")
        if name not in known:
            raise ValueError(f"{arguments.kind} have no field {name!r}; there are: {', '.join(known)}")
        rows = [row for row in rows if (str(row[name]).lower() == value.lower()) == wanted]
    return rows
