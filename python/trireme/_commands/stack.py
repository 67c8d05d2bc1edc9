"""`trireme stack`: the stacks of the driver and of all workers."""

from __future__ import annotations

import argparse

from trireme._tools import options

HELP = "the stacks of the driver and of all workers"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_session(parser)
    parser.add_argument("--pid", type=int, help="of this process alone")


@options.reports_errors
def run(arguments: argparse.Namespace) -> int:
    found = options.ask(arguments, "stack", pid=arguments.pid)
    if not found:
        raise RuntimeError(f"no process {arguments.pid} in this session")
    for process in found:
        print(f"=== rank {process['rank']} pid {process['pid']} {process['what']}\n{process['text']}")
    return 0
