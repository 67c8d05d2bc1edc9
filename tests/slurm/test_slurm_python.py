"""Python programs under srun and sbatch, on nodes of a real Slurm (slurm/testing/cluster.sh up; SLURM_CONF names it)."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 150
SRUN = ["srun", "--mpi=pmix", "--time=3"]
RUN = [sys.executable, "-m", "trireme", "run"]


def eventually(condition: Callable[[], Any], timeout: float = 60) -> Any:
    """Poll until the condition gives something true and return that."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout} s: {value!r}"
        time.sleep(0.05)
    return value


def nodes(count: int) -> list[str]:
    return [f"-N{count}", f"-n{count}"]


def run(*command: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=LIMIT_S, check=False, **more
    )


def alive(pid: int) -> bool:
    """Whether it runs: who has ended and is not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "script.py"
        path.write_text(textwrap.dedent(text))
        return path

    return write


CORE = """
    import os
    import numpy as np
    import trireme
    from trireme.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

    trireme.init()
    everywhere = [On(node["NodeID"], soft=False) for node in trireme.nodes()]
    size = len(everywhere)

    @trireme.remote
    def where():
        return os.environ["SLURMD_NODENAME"], trireme.get_runtime_context().get_rank()

    @trireme.remote
    def scaled(array, factor):
        assert not array.flags.writeable
        return array * factor

    @trireme.remote
    class Sum:
        def __init__(self):
            self.array = 0
        def add(self, array):
            self.array = self.array + array
            return float(self.array.sum())
        def place(self):
            return os.environ["SLURMD_NODENAME"]

    found = trireme.get([where.options(scheduling_strategy=here).remote() for here in everywhere])
    print("nodes", *sorted({name for name, _ in found}), "ranks", *sorted(rank for _, rank in found))
    array = trireme.put(np.ones(1 << 20))
    last = Sum.options(scheduling_strategy=everywhere[-1]).remote()
    parts = [scaled.options(scheduling_strategy=here).remote(array, i + 1) for i, here in enumerate(everywhere)]
    total = trireme.get([last.add.remote(part) for part in parts])[-1]
    print("total", total / (1 << 20), "on another node than rank 0:", trireme.get(last.place.remote()) != found[0][0])
"""


@pytest.mark.parametrize("count", [2, 4])
def test_tasks_actors_and_arrays_on_nodes(script: Callable[[str], Path], count: int) -> None:
    done = run(*SRUN, *nodes(count), *RUN, script(CORE))
    assert done.returncode == 0, done.stdout + done.stderr
    names = " ".join(f"n{i + 1}" for i in range(count))
    assert f"nodes {names} ranks {' '.join(map(str, range(count)))}\n" in done.stdout, done.stdout + done.stderr
    assert f"total {count * (count + 1) / 2} on another node than rank 0: True" in done.stdout


@pytest.mark.parametrize("how", [RUN, [sys.executable]])
def test_an_exception_ends_the_step_and_is_printed_once(script: Callable[[str], Path], how: list[str]) -> None:
    done = run(*SRUN, *nodes(2), *how, script("import trireme\ntrireme.init()\nraise ValueError('ends the step')\n"))
    assert done.returncode != 0
    assert done.stderr.count("ValueError: ends the step") == 1, done.stderr
    assert done.stderr.count("Traceback") == 1, done.stderr


def cancel(name: str, _: subprocess.Popen[str]) -> None:
    subprocess.run(["scancel", "--name", name], check=True, timeout=60)


def terminate(_: str, srun: subprocess.Popen[str]) -> None:
    srun.send_signal(signal.SIGTERM)


def kill_launcher(_: str, srun: subprocess.Popen[str]) -> None:
    # srun alone: its helper process and the step's daemons on the nodes find out by themselves.
    srun.kill()


def kill_tasks(name: str, _: subprocess.Popen[str]) -> None:
    subprocess.run(["scancel", "--signal=KILL", "--name", name], check=True, timeout=60)


def kill_daemons(name: str, _: subprocess.Popen[str]) -> None:
    """The step's daemons, which started the ranks: nobody is left who would tell them, or end them."""
    listed = ["squeue", "--noheader", "--format=%i", "--name", name]
    job = subprocess.run(listed, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    commands = {int(path.parent.name): _command(path) for path in Path("/proc").glob("[0-9]*/cmdline")}
    daemons = [pid for pid, command in commands.items() if command.startswith(f"slurmstepd: [{job}.0]")]
    assert len(daemons) == 3, f"slurmstepd of job {job}: {daemons}"
    for pid in daemons:
        os.kill(pid, signal.SIGKILL)


def _command(path: Path) -> str:
    try:
        return path.read_text().replace("\0", " ")
    except OSError:
        return ""  # it ended


@pytest.mark.parametrize("ending", [cancel, terminate, kill_launcher, kill_tasks, kill_daemons])
def test_an_ended_step_leaves_nothing(script: Callable[[str], Path], tmp_path: Path, ending: Callable) -> None:
    path = script("""
        import os, pathlib, sys, time, trireme
        from trireme.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

        @trireme.remote
        def sleeps(here):
            pathlib.Path(here, f"{trireme.get_runtime_context().get_rank()}-{os.getpid()}").touch()
            time.sleep(300)

        trireme.init()
        everywhere = [On(node["NodeID"], soft=False) for node in trireme.nodes()]
        trireme.get([sleeps.options(scheduling_strategy=here).remote(sys.argv[1]) for here in everywhere])
    """)
    workers, sessions = tmp_path / "workers", tmp_path / "sessions"
    workers.mkdir()
    sessions.mkdir()
    name = f"ended-{ending.__name__}-{os.getpid()}"
    command = [*SRUN, *nodes(3), f"--job-name={name}", "env", f"TMPDIR={sessions}", *RUN, str(path), str(workers)]
    srun = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    pids: list[int] = []
    try:
        eventually(lambda: len(list(workers.iterdir())) == 3 or srun.poll() is not None, LIMIT_S)
        assert srun.poll() is None, srun.communicate()
        ranks = [int(folder.name.partition("-")[0]) for folder in sessions.glob("trireme-*/*-*")]
        pids = [*ranks, *(int(file.name.partition("-")[2]) for file in workers.iterdir())]
        assert len(ranks) == 3
        assert all(map(alive, pids))
        shared = [path for path in Path("/dev/shm").iterdir() if any(str(pid) in path.name for pid in pids)]
        assert not shared, "names in /dev/shm would outlive killed ranks"
    finally:
        try:
            ending(name, srun)
            eventually(lambda: not any(map(alive, pids)))
        finally:
            # Without its daemons Slurm may take the step for one that goes on.
            subprocess.run(["scancel", "--name", name], check=True, timeout=60)
            srun.communicate(timeout=LIMIT_S)
    if ending is not kill_daemons:  # of tasks whose end nobody told srun says nothing, and returns 0
        assert srun.returncode != 0
    assert not [path for path in Path("/dev/shm").iterdir() if any(str(pid) in path.name for pid in pids)]
    # Slurm may kill a rank's template process, which removes the session's folder, in the same moment; the next job does.
    after = run(sys.executable, script("import trireme\ntrireme.init()\n"), env={**os.environ, "TMPDIR": str(sessions)})
    assert after.returncode == 0, after.stderr
    assert not list(sessions.glob("trireme-*/*"))


def test_the_search_of_make_demo(tmp_path: Path) -> None:
    example = ROOT / "examples" / "digits" / "main.py"
    done = run(*SRUN, *nodes(2), sys.executable, example, "--trials", "2", "--epochs", "8", "--output", tmp_path, "--need", "0.9")
    assert done.returncode == 0, done.stdout + done.stderr
    assert float(re.search(r"best test accuracy ([0-9.]+)", done.stdout).group(1)) > 0.9
    assert "kills itself in epoch 2" in done.stdout + done.stderr
    assert "restart 1" in done.stdout + done.stderr


@pytest.fixture
def command(tmp_path: Path) -> str:
    """A PATH on which `trireme` is."""
    path = tmp_path / "bin" / "trireme"
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, "-m", "trireme"])} "$@"\n')
    path.chmod(0o755)
    return f"{path.parent}:{os.environ['PATH']}"


def test_the_batch_script_of_the_examples(command: str, tmp_path: Path) -> None:
    output = tmp_path / "output"
    done = run(
        "sbatch", "--wait", f"--output={output}", ROOT / "examples" / "slurm" / "python.sbatch",
        cwd=ROOT, env={**os.environ, "PATH": command},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + output.read_text()
    assert output.read_text() == "2 rank(s): pi = 3.141592654\n"


def test_trireme_submit(script: Callable[[str], Path], tmp_path: Path) -> None:
    path = script("import sys, trireme\ntrireme.init()\nprint(len(trireme.nodes()), sys.argv[1:])\n")
    output = tmp_path / "output"
    done = run(
        sys.executable, "-m", "trireme", "submit", "--wait", "-N", "2", "-t", "3", "-o", output, path, "a", "--b"
    )
    assert done.returncode == 0, done.stderr + output.read_text()
    assert output.read_text() == "2 ['a', '--b']\n"
