"""`trireme timeline`: what ran when, as a trace."""

from __future__ import annotations

import argparse
import sys

from trireme._tools import options, render

HELP = "what ran when, for Perfetto or chrome://tracing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_session(parser)
    parser.add_argument("--output", "-o", default="timeline.json", help="file (timeline.json); - for standard output")


@options.reports_errors
def run(arguments: argparse.Namespace) -> int:
    events = options.ask(arguments, "timeline")
    if arguments.output == "-":
        sys.stdout.write(render.as_json(events))
        return 0
    with open(arguments.output, "w", encoding="utf-8") as file:
        file.write(render.as_json(events))
    print(f"{len(events)} events in {arguments.output}; open it in Perfetto or chrome://tracing")
    return 0
