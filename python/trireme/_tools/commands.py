"""The sub-commands of `trireme` that look at a running session. `trireme run` is in `_cli`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

from trireme._tools import client, render

KINDS = ("tasks", "actors", "workers", "nodes", "placement-groups")
COLUMNS = {
    "tasks": ("task_id", "name", "state", "type", "attempt_number", "rank", "worker_pid", "error_type"),
    "actors": ("actor_id", "class_name", "state", "name", "rank", "pid"),
    "workers": ("worker_id", "is_alive", "rank", "pid", "actor_id"),
    "nodes": ("rank", "state", "node_name", "pid", "resources_total", "node_id"),
    "placement-groups": ("placement_group_id", "name", "state", "strategy", "bundles"),
}
REFRESH_S = 1.0


def add(commands: Any) -> None:
    """Add the tools to the sub-parsers of `trireme`; each sets `func`, which takes the arguments and gives a status."""
    _command(commands, "status", status, "the ranks, their resources and what runs")
    listing = _command(commands, "list", list_, "tasks, actors, workers, nodes or placement groups")
    listing.add_argument("kind", choices=KINDS)
    listing.add_argument("--filter", "-f", action="append", default=[], metavar="FIELD=VALUE", help="or FIELD!=VALUE")
    listing.add_argument("--limit", type=_positive, default=100)
    listing.add_argument("--json", action="store_true", help="complete records")
    summary = _command(commands, "summary", summarize, "how many tasks or actors are in which state")
    summary.add_argument("kind", choices=("tasks", "actors"))
    timeline = _command(commands, "timeline", write_timeline, "what ran when, for chrome://tracing or Perfetto")
    timeline.add_argument("--output", "-o", default="timeline.json", help="file (timeline.json); - for standard output")
    _command(commands, "memory", memory, "memory of ranks and workers")
    stack = _command(commands, "stack", stacks, "the stacks of the driver and of all workers")
    stack.add_argument("--pid", type=int, help="of this process alone")
    logs = _command(commands, "logs", show_logs, "what the workers printed last")
    logs.add_argument("--pid", type=int, help="of this process alone")
    logs.add_argument("--tail", type=_positive, default=100, metavar="LINES")
    logs.add_argument("--follow", action="store_true", help="go on until the session ends")
    _command(commands, "metrics", metrics, "the values of trireme.util.metrics, as Prometheus reads them")
    top = _command(commands, "top", show_top, "as status, again and again")
    top.add_argument("--once", action="store_true", help="once, without clearing the screen")
    debug = _command(commands, "debug", attach, "attach to a task that waits in breakpoint() or rpdb.set_trace()")
    debug.add_argument("number", type=int, nargs="?", help="which one, as listed")
    debug.add_argument("--list", action="store_true", help="only list them")
    from trireme._tools import submit

    submit.add(commands)


def _command(
    commands: Any, name: str, function: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.add_argument("--session", metavar="JOB", help="name or pid of the job, when several of yours run on this node")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds to wait for other nodes (30)")
    parser.set_defaults(func=_guarded(function))
    return parser


def _guarded(function: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """Turn the errors that a user can do something about into a line and a status."""

    def run(arguments: argparse.Namespace) -> int:
        try:
            return function(arguments)
        except (client.NoSessionError, RuntimeError, ValueError) as error:
            print(f"trireme {arguments.command}: {error}", file=sys.stderr)
            return 1

    return run


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value


def _ask(arguments: argparse.Namespace, do: str, **more: Any) -> Any:
    return client.ask(do, job=arguments.session, **more)


def _rows(arguments: argparse.Namespace, kind: str) -> list[dict[str, Any]]:
    return _ask(arguments, "list", kind=kind, timeout=arguments.timeout)


def status(arguments: argparse.Namespace) -> int:
    sys.stdout.write(_status(arguments))
    return 0


def _status(arguments: argparse.Namespace) -> str:
    nodes = _rows(arguments, "nodes")
    tasks = [row for row in _rows(arguments, "tasks") if row["state"] == "RUNNING"]
    actors = [row for row in _rows(arguments, "actors") if row["state"] == "ALIVE"]
    text = [f"{len(nodes)} rank(s), {sum(node['state'] == 'ALIVE' for node in nodes)} alive\n"]
    for node in nodes:
        used = ", ".join(render.resources(node["resources_total"], node["resources_available"]))
        text.append(f"  rank {node['rank']} on {node['node_name']}: {node['state'].lower()}; used: {used}\n")
    text.append(f"{len(actors)} actor(s), {len(tasks)} task(s) and call(s) running\n")
    now = time.time() * 1000
    for task in sorted(tasks, key=lambda row: row["start_time_ms"]):
        seconds = (now - task["start_time_ms"]) / 1000
        text.append(f"  {seconds:8.1f} s  rank {task['rank']}  pid {task['worker_pid']}  {task['name']}\n")
    return "".join(text)


def list_(arguments: argparse.Namespace) -> int:
    rows = _filtered(_rows(arguments, arguments.kind), arguments)
    shown = rows[: arguments.limit]
    sys.stdout.write(render.as_json(shown) if arguments.json else render.table(shown, COLUMNS[arguments.kind]))
    if len(shown) < len(rows):
        print(f"{len(shown)} of {len(rows)} shown; --limit gives more", file=sys.stderr)
    return 0


def _filtered(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    from trireme.util.state.api import SCHEMAS
    from trireme.util.state.schema import field_names

    for text in arguments.filter:
        name, equal, value = text.partition("=")
        if not equal:
            raise ValueError(f"--filter takes FIELD=VALUE or FIELD!=VALUE, not {text!r}")
        wanted = not name.endswith("!")
        name = name.rstrip("!")
        known = field_names(SCHEMAS[arguments.kind])
        if name not in known:
            raise ValueError(f"{arguments.kind} have no field {name!r}; there are: {', '.join(known)}")
        rows = [row for row in rows if (str(row[name]).lower() == value.lower()) == wanted]
    return rows


def summarize(arguments: argparse.Namespace) -> int:
    from trireme.util.state import api

    count, label = (api.count_tasks, "name") if arguments.kind == "tasks" else (api.count_actors, "class")
    rows = [
        {label: name, **{state.lower(): number for state, number in entry["state_counts"].items()}}
        for name, entry in count(_rows(arguments, arguments.kind))["summary"].items()
    ]
    states = sorted({key for row in rows for key in row} - {label})
    sys.stdout.write(render.table([{**dict.fromkeys(states, 0), **row} for row in rows], (label, *states)))
    return 0


def write_timeline(arguments: argparse.Namespace) -> int:
    events = _ask(arguments, "timeline", timeout=arguments.timeout)
    if arguments.output == "-":
        sys.stdout.write(render.as_json(events))
        return 0
    with open(arguments.output, "w", encoding="utf-8") as file:
        file.write(render.as_json(events))
    print(f"{len(events)} events in {arguments.output}; open it in https://ui.perfetto.dev or chrome://tracing")
    return 0


def memory(arguments: argparse.Namespace) -> int:
    rows = []
    for rank in _ask(arguments, "memory", timeout=arguments.timeout):
        print(f"rank {rank['rank']}: {render.size(rank['arena'])} of shared memory written to")
        for process in rank["processes"]:
            sizes = {key: render.size(process[key]) for key in ("private", "shared")}
            rows.append({"rank": rank["rank"], "pid": process["pid"], "what": process["what"], **sizes})
    sys.stdout.write(render.table(rows, ("rank", "pid", "what", "private", "shared")))
    return 0


def stacks(arguments: argparse.Namespace) -> int:
    found = _ask(arguments, "stack", pid=arguments.pid, timeout=arguments.timeout)
    if not found:
        raise RuntimeError(f"no process {arguments.pid} in this session")
    for process in found:
        print(f"=== rank {process['rank']} pid {process['pid']} {process['what']}\n{process['text']}")
    return 0


def show_logs(arguments: argparse.Namespace) -> int:
    lines = _ask(arguments, "logs", pid=arguments.pid, lines=arguments.tail)
    seen = 0
    while True:
        for line in lines:
            pid, error, label, text = line[:4]
            print(f"({label or 'worker'} pid={pid}) {text}", file=sys.stderr if error else sys.stdout, flush=True)
        if not arguments.follow:
            return 0
        seen = lines[-1][4] if lines else seen
        try:
            while not (lines := _ask(arguments, "logs", pid=arguments.pid, lines=arguments.tail, after=seen)):
                time.sleep(0.3)
        except client.NoSessionError:
            return 0


def metrics(arguments: argparse.Namespace) -> int:
    sys.stdout.write(_ask(arguments, "metrics", timeout=arguments.timeout))
    return 0


def show_top(arguments: argparse.Namespace) -> int:
    if arguments.once:
        return status(arguments)
    try:
        while True:
            text = _status(arguments)
            sys.stdout.write("\x1b[H\x1b[J" + text)
            sys.stdout.flush()
            time.sleep(REFRESH_S)
    except KeyboardInterrupt:
        return 0


def attach(arguments: argparse.Namespace) -> int:
    from trireme._tools import debugger

    return debugger.run(arguments.session, arguments.number, arguments.list)
