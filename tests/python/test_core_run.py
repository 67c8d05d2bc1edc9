# ctest: one rank
# ctest: timeout 400
"""Starting and ending: init(), shutdown(), `trireme run`, mpirun, exceptions, Ctrl-C, what workers print."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import warnings

import pytest

from conftest import eventually

LIMIT_S = 90
needs_mpirun = pytest.mark.skipif(shutil.which("mpirun") is None, reason="there is no mpirun")
MPIRUN = ["mpirun", "-n", "3", "--bind-to", "none", "--oversubscribe", "--allow-run-as-root", "--timeout", str(LIMIT_S)]


@pytest.fixture
def script(tmp_path):
    def write(text):
        path = tmp_path / "script.py"
        path.write_text(textwrap.dedent(text))
        return str(path)

    return write


def run(*command, **more):
    environment = {**os.environ, "TRIREME_THREADS": "2", "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT_S, env=environment, check=False, **more
    )


HELLO = """
    import os
    import trireme
    trireme.init()
    @trireme.remote
    def rank():
        return trireme.get_runtime_context().get_rank()
    ranks = trireme.get([rank.options(scheduling_strategy="SPREAD").remote() for _ in range(12)])
    print("ranks", sorted(set(ranks)), "of", len(trireme.nodes()))
"""


def test_a_script_alone(script):
    done = run(sys.executable, script(HELLO))
    assert done.returncode == 0, done.stderr
    assert "ranks [0] of 1" in done.stdout


def test_trireme_run_alone_passes_arguments(script):
    path = script("import sys; print(sys.argv[1:], __name__, __file__.endswith('script.py'))")
    done = run(sys.executable, "-m", "trireme", "run", path, "a", "--b")
    assert done.stdout.strip() == "['a', '--b'] __main__ True"
    assert run(sys.executable, "-m", "trireme", "run", "/no/such.py").returncode == 2


@needs_mpirun
@pytest.mark.parametrize("how", [["script"], ["-m", "trireme", "run", "script"]])
def test_mpirun(script, how):
    path = script(HELLO)
    done = run(*MPIRUN, sys.executable, *[path if word == "script" else word for word in how])
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ranks [0, 1, 2] of 3") == 1


@needs_mpirun
def test_only_rank_0_imports_the_script(script):
    done = run(*MPIRUN, sys.executable, "-m", "trireme", "run", script("print('imported')\n" + textwrap.dedent(HELLO)))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("imported") == 1


@needs_mpirun
def test_a_job_of_several_ranks_starts_once(script):
    path = script("import trireme\ntrireme.init()\ntrireme.shutdown()\ntrireme.init()\n")
    done = run(*MPIRUN, sys.executable, "-m", "trireme", "run", path)
    assert done.returncode != 0
    assert "the 2 other ranks of this job ended with shutdown()" in done.stderr


@needs_mpirun
def test_a_script_that_starts_nothing_ends(script):
    done = run(*MPIRUN, sys.executable, "-m", "trireme", "run", script("print('nothing')"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("nothing") == 1


@needs_mpirun
@pytest.mark.parametrize("how", [[], ["-m", "trireme", "run"]])
def test_an_exception_ends_all_ranks_and_is_printed_once(script, how):
    path = script("import trireme\ntrireme.init()\nraise ValueError('ends it')\n")
    done = run(*MPIRUN, sys.executable, *how, path)
    assert done.returncode != 0
    assert done.stderr.count("ValueError: ends it") == 1


def test_an_exception_gives_a_non_zero_status_alone(script):
    path = script("import trireme\ntrireme.get(trireme.put(1))\nraise ValueError('ends it')\n")
    done = run(sys.executable, "-m", "trireme", "run", path)
    assert done.returncode != 0
    assert done.stderr.count("ValueError: ends it") == 1


def test_ctrl_c_ends_the_job(script, tmp_path):
    path = script(f"""
        import os, time, trireme
        @trireme.remote
        def sleeps():
            open({str(tmp_path / "pid")!r}, "w").write(str(os.getpid()))
            time.sleep(300)
        trireme.get(sleeps.remote())
    """)
    process = subprocess.Popen([sys.executable, path], stderr=subprocess.PIPE, text=True)
    eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    worker = int((tmp_path / "pid").read_text())
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode != 0
    assert errors.count("KeyboardInterrupt") == 1
    eventually(lambda: not os.path.exists(f"/proc/{worker}"))


def test_a_killed_driver_takes_its_workers_along(script, tmp_path):
    path = script(f"""
        import os, time, trireme
        @trireme.remote
        def sleeps():
            open({str(tmp_path / "pid")!r}, "w").write(str(os.getpid()))
            time.sleep(300)
        trireme.get(sleeps.remote())
    """)
    process = subprocess.Popen([sys.executable, path])
    eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    worker = int((tmp_path / "pid").read_text())
    process.kill()
    process.wait(LIMIT_S)
    eventually(lambda: not os.path.exists(f"/proc/{worker}"))


def alive(pid):
    """Whether it runs: who has ended and is not waited for does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@needs_mpirun
@pytest.mark.parametrize(
    ("ending", "between"),
    [
        (signal.SIGINT, []),  # Ctrl-C at the terminal
        (signal.SIGTERM, []),
        # Nobody tells the ranks, neither those that mpirun started itself nor those behind a shell.
        (signal.SIGKILL, []),
        (signal.SIGKILL, ["sh", "-c", '"$@"; exit $?', "sh"]),
    ],
)
def test_the_job_ends_with_its_mpirun(script, tmp_path, ending, between):
    path = script("""
        import os, pathlib, sys, time, trireme
        @trireme.remote
        def sleeps(here):
            pathlib.Path(here, f"worker-{trireme.get_runtime_context().get_rank()}-{os.getpid()}").touch()
            time.sleep(300)
        trireme.init()
        everywhere = [trireme.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                      for node in trireme.nodes()]
        trireme.get([sleeps.options(scheduling_strategy=where).remote(sys.argv[1]) for where in everywhere])
    """)
    workers, sessions = tmp_path / "workers", tmp_path / "sessions"
    workers.mkdir()
    sessions.mkdir()
    command = [*MPIRUN, *between, "env", f"TMPDIR={sessions}", sys.executable, "-m", "trireme", "run", path, str(workers)]
    environment = {**os.environ, "TRIREME_THREADS": "2", "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    with open(tmp_path / "output", "w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        eventually(lambda: len(list(workers.iterdir())) == 3 or process.poll() is not None, LIMIT_S)
        assert process.poll() is None, (tmp_path / "output").read_text()
        ranks = [int(folder.name.partition("-")[0]) for folder in sessions.glob("trireme-*/*-*")]
        pids = [*ranks, *(int(file.name.rpartition("-")[2]) for file in workers.iterdir())]
        assert len(ranks) == 3
        assert all(map(alive, pids))
    finally:
        process.send_signal(ending)
        process.wait(LIMIT_S)
    eventually(lambda: not any(map(alive, pids)))
    eventually(lambda: not list(sessions.glob("trireme-*/*")))
    assert process.returncode != 0


@needs_mpirun
@pytest.mark.parametrize("first", ["", "trireme.init(); trireme.shutdown()"])
def test_a_script_without_a_runtime_ends_with_its_mpirun(script, tmp_path, first):
    path = script(f"""
        import pathlib, sys, time, trireme
        {first}
        pathlib.Path(sys.argv[1]).touch()
        time.sleep(300)
    """)
    there = tmp_path / "there"
    mark = f"TRIREME_TEST_OF={tmp_path}"
    command = [*MPIRUN, "env", mark, sys.executable, "-m", "trireme", "run", path, str(there)]
    environment = {**os.environ, "TRIREME_THREADS": "2", "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    with open(tmp_path / "output", "w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        eventually(lambda: there.exists() or process.poll() is not None, LIMIT_S)
        assert process.poll() is None, (tmp_path / "output").read_text()
        ranks = processes_with(mark)
        assert len(ranks) >= (1 if first else 3)
    finally:
        process.kill()
        process.wait(LIMIT_S)
    eventually(lambda: not any(map(alive, ranks)))
    eventually(lambda: not processes_with(mark))


def processes_with(variable):
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                if variable.encode() in file.read().split(b"\0") and alive(int(name)):
                    found.append(int(name))
        except OSError:
            continue  # it ended, or is somebody else's
    return found


def test_output_of_workers_is_shown_with_who_wrote_it(script):
    done = run(
        sys.executable,
        script("""
        import sys, trireme
        @trireme.remote
        def speaks():
            print("to stdout")
            print("to stderr", file=sys.stderr)
        @trireme.remote
        class Speaker:
            def say(self): print("an actor says")
        trireme.get(speaks.remote())
        speaker = Speaker.remote()
        trireme.get(speaker.say.remote())
        """),
    )
    assert re.search(r"^\(speaks pid=\d+ rank=0\) to stdout$", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"^\(speaks pid=\d+ rank=0\) to stderr$", done.stderr, re.MULTILINE), done.stderr
    assert re.search(r"^\(Speaker pid=\d+ rank=0\) an actor says$", done.stdout, re.MULTILINE), done.stdout


def test_log_to_driver_false_shows_nothing(script):
    done = run(
        sys.executable,
        script("""
        import trireme
        trireme.init(log_to_driver=False)
        @trireme.remote
        def speaks(): print("not to be seen")
        trireme.get(speaks.remote())
        """),
    )
    assert done.returncode == 0, done.stderr
    assert "not to be seen" not in done.stdout


def test_lines_that_several_workers_write_are_folded(script):
    done = run(
        sys.executable,
        script("""
        import trireme
        @trireme.remote
        class A:
            def say(self): print("the same everywhere")
            def here(self): pass
        actors = [A.remote() for _ in range(4)]
        trireme.get([a.here.remote() for a in actors])  # what counts is the time between the lines
        trireme.get([a.say.remote() for a in actors])
        """),
    )
    lines = [line for line in done.stdout.splitlines() if "the same everywhere" in line]
    assert len(lines) == 2, done.stdout
    assert "repeated 3x" in lines[1]


def test_functions_of_the_script_and_of_its_modules(script, tmp_path):
    (tmp_path / "neighbour.py").write_text("def triple(x):\n    return 3 * x\n")
    path = script("""
        import neighbour, trireme
        K = 2
        class Box:
            def __init__(self, x): self.x = x
        def twice(x): return K * x
        @trireme.remote
        def f(x): return Box(neighbour.triple(twice(x)))
        print(trireme.get(f.remote(1)).x, trireme.get(trireme.remote(neighbour.triple).remote(5)))
    """)
    for how in ([], ["-m", "trireme", "run"]):
        done = run(sys.executable, *how, path, cwd="/")
        assert done.stdout.strip() == "6 15", done.stderr


# In this process.


@pytest.fixture
def trireme():
    import trireme

    yield trireme
    trireme.shutdown()


def test_init_and_shutdown_again_and_again(trireme):
    @trireme.remote
    def f(x):
        return x + 1

    @trireme.remote
    class A:
        def m(self):
            return 7

    assert not trireme.is_initialized()
    for i in range(3):
        trireme.init()
        assert trireme.is_initialized()
        assert trireme.get(f.remote(i), timeout=60) == i + 1
        actor = A.remote()
        assert trireme.get(actor.m.remote(), timeout=60) == 7
        trireme.shutdown()
        assert not trireme.is_initialized()
        del actor
    trireme.shutdown()


def test_first_use_initialises(trireme):
    assert trireme.get(trireme.put(1)) == 1
    assert trireme.is_initialized()


def test_init_twice(trireme):
    trireme.init(num_cpus=1)
    with pytest.raises(RuntimeError, match="ignore_reinit_error"):
        trireme.init()
    context = trireme.init(ignore_reinit_error=True)
    assert context.address_info["ranks"] == 1
    assert "Ranks" in context._repr_html_()


def test_resources_of_init(trireme):
    trireme.init(num_cpus=3, num_gpus=2, resources={"widget": 5}, labels={"zone": "a"}, object_store_memory=64 << 20)
    total = trireme.cluster_resources()
    assert (total["CPU"], total["GPU"], total["widget"]) == (3, 2, 5)
    assert trireme.nodes()[0]["Labels"]["zone"] == "a"

    @trireme.remote(num_gpus=1)
    def devices():
        return trireme.get_gpu_ids(), os.environ["CUDA_VISIBLE_DEVICES"]

    ids, visible = trireme.get(devices.remote(), timeout=60)
    assert len(ids) == 1
    assert visible == str(ids[0])


def test_init_as_context_manager(trireme):
    with trireme.init(namespace="here"):
        assert trireme.get_runtime_context().namespace == "here"
    assert not trireme.is_initialized()


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"num_cpu": 1}, TypeError, "num_cpus"),
        ({"num_cpus": -1}, ValueError, "num_cpus"),
        ({"num_cpus": "2"}, ValueError, "num_cpus"),
        ({"num_gpus": -1}, ValueError, "num_gpus"),
        ({"resources": {"CPU": 1}}, ValueError, "num_cpus"),
        ({"resources": [1]}, TypeError, "resources"),
        ({"labels": {"a": 1}}, TypeError, "labels"),
        ({"object_store_memory": -1}, ValueError, "object_store_memory"),
        ({"namespace": ""}, ValueError, "namespace"),
        ({"runtime_env": {"nonsense": 1}}, ValueError, "nonsense"),
    ],
)
def test_wrong_arguments_of_init(trireme, arguments, error, says):
    with pytest.raises(error, match=says):
        trireme.init(**arguments)
    assert not trireme.is_initialized()


def test_arguments_without_meaning_warn(trireme):
    with pytest.warns(UserWarning, match="address"):
        trireme.init("somewhere:6379", _node_ip_address="1.2.3.4")
    trireme.shutdown()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trireme.init(address="auto", include_dashboard=False)


def test_references_of_another_session_are_refused(script):
    # In a process of its own: what a program keeps of a runtime keeps that runtime's memory until the process ends.
    done = run(
        sys.executable,
        script("""
        import trireme
        @trireme.remote
        class A:
            def m(self): pass
        ref = trireme.put(1)
        actor = A.remote()
        trireme.shutdown()
        trireme.init()
        for use in (lambda: trireme.get(ref, timeout=5), lambda: trireme.remote(lambda x: x).remote(ref), lambda: actor.m.remote()):
            try:
                print("went through", use())
            except (RuntimeError, trireme.exceptions.RayError) as error:
                print("refused:", error)
        """),
    )
    assert done.stdout.count("refused: ") == 3, done.stdout + done.stderr
    assert done.stdout.count("session that was shut down") == 3
    assert done.returncode == 0


def test_import_is_quick():
    program = (
        "import numpy, sys, time; begun = time.perf_counter(); import trireme; "
        "print(time.perf_counter() - begun, 'cloudpickle' in sys.modules, 'asyncio' in sys.modules)"
    )
    best = min(float(run(sys.executable, "-c", program).stdout.split()[0]) for _ in range(5))
    print(f"import trireme: {best * 1e3:.1f} ms beyond NumPy")
    assert "False False" in run(sys.executable, "-c", program).stdout




def test_hooks_of_forks_run_in_workers_and_in_what_they_fork(script, tmp_path):
    (tmp_path / "hooked.py").write_text(
        textwrap.dedent("""
            import os
            seen = []
            os.register_at_fork(
                before=lambda: seen.append("before"),
                after_in_parent=lambda: seen.append("parent"),
                after_in_child=lambda: seen.append("child"),
            )
        """)
    )
    path = script("""
        import os
        os.environ["TRIREME_PRELOAD"] = "hooked"
        os.environ["PYTHONPATH"] = os.path.dirname(__file__)
        import trireme

        @trireme.remote
        class Forks:
            def seen(self):
                import hooked
                return hooked.seen

            def fork(self):
                import hooked, random, threading
                before = len(hooked.seen)
                inlet, outlet = os.pipe()
                pid = os.fork()
                if pid == 0:
                    os.write(outlet, f"{hooked.seen[before:]} {random.random()}".encode())
                    os._exit(0)
                os.waitpid(pid, 0)
                child = os.read(inlet, 200).decode()
                assert threading.main_thread().native_id == threading.get_native_id() == os.getpid()
                return hooked.seen[before:], child, random.random()

        trireme.init()
        actors = [Forks.remote() for _ in range(3)]
        drawn = set()
        for actor in actors:
            *others, before, mine = trireme.get(actor.seen.remote())
            assert (before, mine) == ("before", "child"), mine
            assert others == ["before", "parent"] * (len(others) // 2), others
            parent, child, number = trireme.get(actor.fork.remote())
            assert parent == ["before", "parent"], parent
            seen, _, other = child.rpartition(" ")
            assert seen == "['before', 'child']", seen
            drawn |= {number, float(other)}
        assert len(drawn) == 6, drawn
        print("all run")
    """)
    done = run(sys.executable, path)
    assert "all run" in done.stdout, done.stderr


def test_an_actor_is_a_worker_that_waits_for_its_first_work(script):
    path = script("""
        import os
        import time
        import trireme
        from trireme.util import state

        @trireme.remote
        class Actor:
            def pid(self):
                return os.getpid()

        @trireme.remote
        def pid():
            return os.getpid()

        trireme.init(num_cpus=2)
        deadline = time.monotonic() + 60
        while len(waiting := {worker.pid for worker in state.list_workers() if worker.is_alive}) < 2:
            assert time.monotonic() < deadline, waiting
            time.sleep(0.01)
        actors = [Actor.remote() for _ in range(3)]
        pids = trireme.get([actor.pid.remote() for actor in actors])
        assert len(set(pids)) == 3, pids
        assert waiting < set(pids), (waiting, pids)
        # Tasks run in none of them, and a worker that has run one becomes no actor.
        task = trireme.get(pid.remote())
        assert task not in pids
        assert trireme.get(Actor.remote().pid.remote()) not in (task, *pids)
        print("as it should")
    """)
    done = run(sys.executable, path)
    assert "as it should" in done.stdout, done.stderr
