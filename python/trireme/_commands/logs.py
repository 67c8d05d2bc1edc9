"""`trireme logs`: what the workers printed last."""

from __future__ import annotations

import argparse
import sys
import time

from trireme._tools import client, options

HELP = "what the workers printed last"
POLL_S = 0.3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_session(parser)
    parser.add_argument("--pid", type=int, help="of this process alone")
    parser.add_argument("--tail", type=options.positive, default=100, metavar="LINES", help="so many of the last (100)")
    parser.add_argument("--follow", action="store_true", help="go on until the session ends")


@options.reports_errors
def run(arguments: argparse.Namespace) -> int:
    seen = 0.0
    lines = options.ask(arguments, "logs", pid=arguments.pid, lines=arguments.tail)
    while True:
        for line in lines:
            out = sys.stderr if line["stream"] == 2 else sys.stdout
            label = f"{line['label']} " if line["label"] else ""
            print(f"({label}pid={line['pid']} rank={line['rank']}) {line['text']}", file=out, flush=True)
            seen = line["time"]
        if not arguments.follow:
            return 0
        time.sleep(POLL_S)
        try:
            lines = options.ask(arguments, "logs", pid=arguments.pid, lines=arguments.tail, after=seen)
        except client.NoSessionError:
            return 0
