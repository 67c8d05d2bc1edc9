"""`trireme top`: as status, again and again."""

from __future__ import annotations

import argparse
import sys
import time

from trireme._commands import status
from trireme._tools import options

HELP = "as status, again and again until Ctrl-C"
REFRESH_S = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_session(parser)
    parser.add_argument("--once", action="store_true", help="once, without clearing the screen")


@options.reports_errors
def run(arguments: argparse.Namespace) -> int:
    if arguments.once:
        return status.run(arguments)
    try:
        while True:
            text = status.text(arguments)
            sys.stdout.write(f"\x1b[H\x1b[J{text}")
            sys.stdout.flush()
            time.sleep(REFRESH_S)
    except KeyboardInterrupt:
        return 0
