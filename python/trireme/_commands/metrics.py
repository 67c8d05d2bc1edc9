"""`trireme metrics`: the values of `trireme.util.metrics`."""

from __future__ import annotations

import argparse
import sys

from trireme._tools import options

HELP = "the values of trireme.util.metrics, as Prometheus reads them"

add_arguments = options.add_session


@options.reports_errors
def run(arguments: argparse.Namespace) -> int:
    sys.stdout.write(options.ask(arguments, "metrics"))
    return 0
