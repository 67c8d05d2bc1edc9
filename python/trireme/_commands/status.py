"""`trireme status`: the ranks, their resources, and what runs."""

from __future__ import annotations

import argparse
import sys
import time

from trireme._tools import options, render

HELP = "the ranks, their resources and what runs"

add_arguments = options.add_session


@options.reports_errors
def run(arguments: argparse.Namespace) -> int:
    sys.stdout.write(text(arguments))
    return 0


def text(arguments: argparse.Namespace) -> str:
    """Return what is shown."""
    nodes = options.rows(arguments, "nodes")
    tasks = [row for row in options.rows(arguments, "tasks") if row["state"] == "RUNNING"]
    actors = [row for row in options.rows(arguments, "actors") if row["state"] == "ALIVE"]
    lines = [f"{len(nodes)} rank(s), {sum(node['state'] == 'ALIVE' for node in nodes)} alive\n"]
    for node in nodes:
        used = ", ".join(render.resources(node["resources_total"], node["resources_available"]))
        lines.append(f"  rank {node['rank']} on {node['node_name']}: {node['state'].lower()}; used: {used}\n")
    lines.append(f"{len(actors)} actor(s), {len(tasks)} task(s) and call(s) running\n")
    now = time.time() * 1000
    for task in sorted(tasks, key=lambda row: row["start_time_ms"]):
        seconds = (now - task["start_time_ms"]) / 1000
        lines.append(f"  {seconds:8.1f} s  rank {task['rank']}  pid {task['worker_pid']}  {task['name']}\n")
    return "".join(lines)
