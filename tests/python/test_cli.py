"""The command's tools against a running session, from another process."""

# ctest: one rank
# ctest: timeout 300

import json
import os
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import eventually
from trireme import _session


@pytest.fixture(scope="module", autouse=True)
def own_folder(no_leaks, tmp_path_factory):
    """Sessions of other programs of the same user are elsewhere."""
    import tempfile

    before = os.environ.get("TMPDIR"), tempfile.tempdir
    os.environ["TMPDIR"] = str(tmp_path_factory.mktemp("sessions"))
    tempfile.tempdir = None
    yield
    if before[0] is None:
        del os.environ["TMPDIR"]
    else:
        os.environ["TMPDIR"] = before[0]
    tempfile.tempdir = before[1]


@pytest.fixture(scope="module")
def session(own_folder, runtime):
    return runtime


def tool(*arguments, check=True, stdin=None):
    command = [sys.executable, "-m", "trireme", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, input=stdin)
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def actor(session):
    @session.remote
    class Worker:
        def sleep(self, gate):
            while not gate.exists():
                time.sleep(0.01)

        def speak(self, text):
            print(text)
            return os.getpid()

    made = Worker.options(name="worker of the tools").remote()
    yield made
    session.kill(made)


def test_help_names_every_command():
    text = tool("--help").stdout
    for name in "run status list summary timeline memory stack logs debug submit top metrics".split():
        assert f"    {name} " in text, name


def test_without_a_session_it_says_where_it_looked(tmp_path):
    command = [sys.executable, "-m", "trireme", "status"]
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)
    assert done.returncode == 1
    assert str(tmp_path) in done.stderr
    assert "Traceback" not in done.stderr


def test_the_folder_is_the_users_own(session):
    for folder in (_session.base(), _session.current()):
        assert folder.stat().st_mode & 0o777 == 0o700
    with pytest.raises(PermissionError, match="can enter"):
        try:
            _session.base().chmod(0o755)
            _session.create()
        finally:
            _session.base().chmod(0o700)


def test_status_and_top(session, actor, tmp_path):
    ref = actor.sleep.remote(tmp_path / "gate")
    eventually(lambda: "Worker.sleep" in tool("status").stdout)
    text = tool("top", "--once").stdout
    assert "1 rank(s), 1 alive" in text
    assert "CPU" in text
    (tmp_path / "gate").touch()
    session.get(ref)


def test_list_and_summary(session, actor):
    session.get(actor.speak.remote("listed"))
    assert "worker of the tools" in tool("list", "actors").stdout
    rows = json.loads(tool("list", "tasks", "--json", "--filter", "type=ACTOR_TASK", "--limit", "1000").stdout)
    assert any(row["name"].endswith("speak") for row in rows)
    assert {row["type"] for row in rows} == {"ACTOR_TASK"}
    assert "speak" in tool("summary", "tasks").stdout
    assert "Worker" in tool("summary", "actors").stdout
    kept = session.put("kept for the tools")
    assert kept.hex() in tool("list", "objects", "--limit", "10000").stdout
    assert "(put object)" in tool("summary", "objects").stdout
    assert "DRIVER" in tool("list", "jobs").stdout
    assert "ALIVE" in tool("list", "nodes").stdout
    assert tool("list", "workers").stdout.count("\n") >= 2
    assert "PLACEMENT_GROUP_ID" in tool("list", "placement-groups").stdout


def test_wrong_arguments_are_explained(session):
    assert "no field 'colour'" in tool("list", "tasks", "--filter", "colour=red", check=False).stderr
    assert "FIELD=VALUE" in tool("list", "tasks", "--filter", "colour", check=False).stderr
    assert tool("list", "galaxies", check=False).returncode == 2
    assert "not positive" in tool("list", "tasks", "--limit", "0", check=False).stderr


def test_timeline(session, actor, tmp_path):
    session.get(actor.speak.remote("timed"))
    path = tmp_path / "trace.json"
    tool("timeline", "--output", str(path))
    assert any(event["name"].endswith("speak") for event in json.loads(path.read_text()))


def test_memory(session, actor):
    session.get(actor.speak.remote("here"))
    text = tool("memory").stdout
    assert "shared memory written to" in text
    assert "Worker" in text
    assert str(os.getpid()) in text


def test_stacks_of_driver_and_workers(session, actor, tmp_path):
    pid = session.get(actor.speak.remote("stack"))
    ref = actor.sleep.remote(tmp_path / "gate")
    eventually(lambda: "Worker.sleep" in tool("status").stdout)
    text = tool("stack").stdout
    assert "test_stacks_of_driver_and_workers" in text
    assert "in sleep" in text or "sleep (" in text
    alone = tool("stack", "--pid", str(pid)).stdout
    assert alone.count("===") == 1
    assert "no process 1 " in tool("stack", "--pid", "1", check=False).stderr
    (tmp_path / "gate").touch()
    session.get(ref)


def test_logs(session, actor):
    pid = session.get(actor.speak.remote("a line to find"))
    eventually(lambda: "a line to find" in tool("logs").stdout)
    assert "a line to find" in tool("logs", "--pid", str(pid)).stdout
    assert tool("logs", "--pid", "1").stdout == ""


def test_metrics(session):
    from trireme.util.metrics import Counter

    Counter("test_cli_total", "of the tools").inc(3)
    assert "test_cli_total 3" in tool("metrics").stdout


def test_debug_attaches_to_a_breakpoint(session):
    @session.remote(max_retries=0)
    def stops():
        secret = 40
        breakpoint()
        return secret + 2

    ref = stops.remote()
    eventually(lambda: "stops at" in tool("debug", "--list", check=False).stdout)
    done = tool("debug", stdin="p secret * 100\ncontinue\n")
    assert "4000" in done.stdout
    assert session.get(ref, timeout=60) == 42
    assert "waits for a debugger" in tool("debug", check=False).stderr


def test_submit_prints_a_batch_script():
    text = tool(
        "submit", "-N", "4", "-c", "8", "-t", "1:00:00", "--setup", "module load x", "--print", "job.py", "--size", "3"
    ).stdout
    lines = text.splitlines()
    assert lines[0] == "#!/bin/bash"
    assert "#SBATCH --nodes=4" in lines
    assert "#SBATCH --cpus-per-task=8" in lines
    assert "#SBATCH --time=1:00:00" in lines
    assert "#SBATCH --exclusive" not in lines
    assert "module load x" in lines
    assert lines[-1].startswith("exec srun --mpi=pmix --no-kill --kill-on-bad-exit=0 --cpus-per-task=8 ")
    assert lines[-1].endswith("-m trireme run job.py --size 3")
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)


def test_submit_needs_a_program_and_sbatch(tmp_path):
    assert tool("submit", check=False).returncode == 2
    env = {**os.environ, "PATH": str(tmp_path)}
    command = [sys.executable, "-m", "trireme", "submit", "job.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)
    assert done.returncode == 1
    assert "sbatch" in done.stderr


def test_submit_hands_the_script_to_sbatch(tmp_path):
    fake = tmp_path / "sbatch"
    fake.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\ncat > {tmp_path}/script\n')
    fake.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = [sys.executable, "-m", "trireme", "submit", "--wait", "job.py"]
    subprocess.run(command, timeout=60, check=True, env=env)
    assert Path(tmp_path, "arguments").read_text().strip() == "--wait"
    assert "-m trireme run job.py" in Path(tmp_path, "script").read_text()


def test_a_stranger_on_the_socket_does_no_harm(session):
    with _session.socket_path(_session.current() / _session.CONTROL_SOCKET) as path:
        for message in (b"", b"not json\n", b'{"do": "unknown"}\n'):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(path)
                connection.sendall(message)
                connection.shutdown(socket.SHUT_WR)
                assert select.select([connection], [], [], 30)[0]
                assert b"error" in connection.recv(4096)
    assert "1 rank(s)" in tool("status").stdout
