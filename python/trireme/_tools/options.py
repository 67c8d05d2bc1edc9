"""What the sub-commands that ask a running session have in common."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable
from typing import Any

from trireme._tools import client

KINDS = ("tasks", "actors", "objects", "workers", "nodes", "placement-groups", "runtime-envs", "jobs")


def add_session(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say which session, and how long to wait."""
    parser.add_argument(
        "--session", metavar="JOB", help="name or pid of the job, when several of yours run on this node"
    )
    parser.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS", help="to wait for other nodes (30)")


def positive(text: str) -> int:
    """Read a positive integer."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value


def ask(arguments: argparse.Namespace, do: str, **more: Any) -> Any:
    """Ask rank 0 of the session that the arguments mean."""
    return client.ask(do, job=arguments.session, timeout=arguments.timeout, **more)


def rows(arguments: argparse.Namespace, kind: str) -> list[dict[str, Any]]:
    """Return the records of one of KINDS."""
    return ask(arguments, "list", kind=kind)


def reports_errors(function: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """Turn the errors that a user can do something about into a line and a status of 1."""

    @functools.wraps(function)
    def run(arguments: argparse.Namespace) -> int:
        try:
            return function(arguments)
        except (client.NoSessionError, RuntimeError, ValueError) as error:
            print(f"trireme {arguments.command}: {error}", file=sys.stderr)
            return 1
        except BrokenPipeError:
            sys.stderr.close()  # as `trireme list | head` does
            return 1

    return run
