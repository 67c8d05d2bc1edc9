"""`trireme submit`: a Python program as a Slurm job."""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys

HELP = "run a Python program as a Slurm job, one rank per task"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "trireme submit [options] (script.py | -m module) [arguments ...]"
    parser.description = f"{HELP[0].upper()}{HELP[1:]}. Options of sbatch that are not listed here go after --sbatch."
    parser.add_argument("--nodes", "-N", type=int, default=1, help="nodes (1)")
    parser.add_argument("--ntasks-per-node", type=int, default=1, help="ranks on each node (1)")
    parser.add_argument("--cpus-per-task", "-c", type=int, help="cores of each rank; all of the node's by default")
    parser.add_argument("--gpus-per-node", help="as sbatch's")
    parser.add_argument("--time", "-t", help="time limit, as sbatch's")
    parser.add_argument("--partition", "-p", help="as sbatch's")
    parser.add_argument("--account", "-A", help="as sbatch's")
    parser.add_argument("--job-name", "-J", help="name of the job; the program's by default")
    parser.add_argument("--output", "-o", default="slurm-%j.out", help="file of the output (slurm-%%j.out)")
    parser.add_argument("--sbatch", action="append", default=[], metavar="OPTION", help="one more option of sbatch")
    parser.add_argument(
        "--setup", action="append", default=[], metavar="LINE", help="shell line to run before, as `module load x`"
    )
    parser.add_argument("--ray", action="store_true", help="run an unmodified Ray program")
    parser.add_argument("--mpi", default="pmix", help="srun's --mpi (pmix)")
    parser.add_argument("--wait", action="store_true", help="return when the job has ended, with its status")
    parser.add_argument("--print", action="store_true", help="print the script instead of submitting it")
    parser.add_argument("program", nargs=argparse.REMAINDER, help="script.py and its arguments, or -m module ...")


def script(arguments: argparse.Namespace) -> str:
    """Return the batch script."""
    name = arguments.job_name or arguments.program[0].rpartition("/")[2]
    options = [
        f"--job-name={name}",
        f"--nodes={arguments.nodes}",
        f"--ntasks-per-node={arguments.ntasks_per_node}",
        f"--output={arguments.output}",
    ]
    for option in ("cpus_per_task", "gpus_per_node", "time", "partition", "account"):
        if (value := getattr(arguments, option)) is not None:
            options.append(f"--{option.replace('_', '-')}={value}")
    if arguments.cpus_per_task is None:
        options.append("--exclusive")
    options += arguments.sbatch
    run_options = ["--ray"] if arguments.ray else []
    command = [sys.executable, "-m", "trireme", "run", *run_options, *arguments.program]
    # A rank's death must not take the step down: the runtime retries what ran there.
    launch = ["srun", f"--mpi={arguments.mpi}", "--no-kill", "--kill-on-bad-exit=0"]
    # srun of Slurm 22.05 and newer does not take these over from the job.
    if arguments.cpus_per_task is not None:
        launch.append(f"--cpus-per-task={arguments.cpus_per_task}")
    lines = ["#!/bin/bash", *(f"#SBATCH {option}" for option in options), "set -e", *arguments.setup]
    return "\n".join([*lines, "exec " + shlex.join([*launch, *command])]) + "\n"


def run(arguments: argparse.Namespace) -> int:
    if arguments.program[:1] == ["--"]:
        del arguments.program[0]
    if not arguments.program:
        print("trireme submit: no program given, as in: trireme submit -N 4 script.py", file=sys.stderr)
        return 2
    text = script(arguments)
    if arguments.print:
        sys.stdout.write(text)
        return 0
    sbatch = shutil.which("sbatch")
    if sbatch is None:
        print("trireme submit: sbatch is not in PATH; --print shows the script for another machine", file=sys.stderr)
        return 1
    command = [sbatch, *(["--wait"] if arguments.wait else [])]
    return subprocess.run(command, input=text, text=True, check=False).returncode
