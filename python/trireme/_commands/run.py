"""`trireme run script.py`: the script on rank 0, work on all ranks."""

from __future__ import annotations

import argparse
import os
import runpy
import sys
import types

HELP = "run a script on the ranks that mpirun or srun started"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what comes after `trireme run`."""
    parser.description = (
        "Runs the script on rank 0; the other ranks work for it and never import it. Without a launcher: one rank."
    )
    parser.usage = "trireme run [--ray] (script.py | -m module) [arguments ...]"
    parser.add_argument("--ray", action="store_true", help="serve `import ray` from trireme")
    parser.add_argument("-m", dest="module", action="store_true", help="the name is a module's, as with python -m")
    parser.add_argument("script", help="the script or module")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="what the script finds in sys.argv")


def run(arguments: argparse.Namespace) -> int:
    """Runs the script in this process; on other ranks than 0 does not return."""
    from trireme import _init

    if "PMIX_RANK" in os.environ:
        # Here and not by the runtime alone, whose time may begin late and end early.
        from trireme._native import watch_launcher

        watch_launcher()
    if arguments.ray:
        from trireme import _rayhook

        _rayhook.install()
    if _init.rank_of_launcher() != 0:
        _init.serve()
    sys.argv = [arguments.script, *arguments.arguments]
    try:
        if arguments.module:
            sys.path[0] = os.getcwd()
            runpy.run_module(arguments.script, run_name="__main__", alter_sys=True)
        elif not os.path.exists(arguments.script):
            print(f"trireme run: there is no script {arguments.script}", file=sys.stderr)
            return 2
        else:
            sys.path[0] = os.path.dirname(os.path.abspath(arguments.script))
            _run_script(arguments.script)
    finally:
        _release_others()
    return 0


def _run_script(path: str) -> None:
    # As `python path` does: in a module __main__ that stays, so that functions find their globals to the end.
    with open(path, "rb") as file:
        code = compile(file.read(), path, "exec")
    main = types.ModuleType("__main__")
    main.__file__ = path
    main.__builtins__ = __builtins__  # type: ignore[attr-defined]
    sys.modules["__main__"] = main
    try:
        exec(code, main.__dict__)  # noqa: S102 - running scripts is what it is for
    except BaseException as error:
        # The traceback begins in the script.
        error.__traceback__ = error.__traceback__.tb_next if error.__traceback__ else None
        raise


def _release_others() -> None:
    """Lets the other ranks go when the script ended without having started anything: they wait for this one to join."""
    from trireme import _init

    if "PMIX_RANK" in os.environ and not _init.was_initialized():
        _init.init()
    _init.shutdown()
