"""`trireme summary`: how many tasks or actors are in which state."""

from __future__ import annotations

import argparse
import sys

from trireme._tools import options, render

HELP = "how many tasks or actors are in which state"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_session(parser)
    parser.add_argument("kind", choices=("tasks", "actors"))


@options.reports_errors
def run(arguments: argparse.Namespace) -> int:
    from trireme.util.state import api

    count, label = (api.count_tasks, "name") if arguments.kind == "tasks" else (api.count_actors, "class")
    rows = [
        {label: name, **{state.lower(): number for state, number in entry["state_counts"].items()}}
        for name, entry in count(options.rows(arguments, arguments.kind))["summary"].items()
    ]
    states = sorted({key for row in rows for key in row} - {label})
    sys.stdout.write(render.table([{**dict.fromkeys(states, 0), **row} for row in rows], (label, *states)))
    return 0
