"""The command `trireme`. Its sub-commands are the modules of `trireme._commands`."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys


def main(arguments: list[str] | None = None) -> int:
    """Runs a sub-command; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    from trireme import _commands

    names = sorted(module.name for module in pkgutil.iter_modules(_commands.__path__) if not module.name.startswith("_"))
    parser = argparse.ArgumentParser(prog="trireme", description="Tasks, actors and shared objects over the ranks of a job.")
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="command")
    # Only the one that is asked for is imported: a rank that serves needs nothing of the tools.
    wanted = next((argument for argument in arguments if not argument.startswith("-")), None)
    modules = {}
    for name in [wanted] if wanted in names else names:
        module = modules[name] = importlib.import_module(f"trireme._commands.{name}")
        module.add_arguments(commands.add_parser(name, help=module.HELP))
    parsed = parser.parse_args(arguments)
    if parsed.version:
        from trireme import __version__

        print(__version__)
        return 0
    if parsed.command is None:
        parser.print_help()
        return 2
    return modules[parsed.command].run(parsed) or 0


if __name__ == "__main__":
    sys.exit(main())
