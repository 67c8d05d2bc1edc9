"""`trireme debug`: attach to a task that waits in breakpoint()."""

from __future__ import annotations

import argparse

from trireme._tools import options

HELP = "attach to a task that waits in breakpoint() or trireme.util.rpdb.set_trace()"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--session", metavar="JOB", help="name or pid of the job, when several of yours run on this node"
    )
    parser.add_argument("number", type=int, nargs="?", help="which one, as listed")
    parser.add_argument("--list", action="store_true", help="only list them")


@options.reports_errors
def run(arguments: argparse.Namespace) -> int:
    from trireme._tools import debugger

    return debugger.run(arguments.session, arguments.number, arguments.list)
