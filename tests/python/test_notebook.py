# ctest: one rank
"""A Jupyter kernel: the cells of the example notebook, and what people do in notebooks."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import zmq
from jupyter_client.manager import KernelManager

from conftest import eventually

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "notebook" / "pi.ipynb"
LIMIT_S = 60


@dataclass
class Ran:
    """What a cell came to."""

    status: str = ""  # ok or error
    error: str = ""  # the exception's class
    text: str = ""  # what it printed
    results: list[dict[str, Any]] = field(default_factory=list)  # by MIME type


@pytest.fixture(scope="module", autouse=True)
def no_leaks() -> None:
    """Jupyter's client keeps descriptors in this process, which runs no Trireme; each kernel is looked after instead."""


class Kernel:
    """A kernel of its own, with this interpreter."""

    def __init__(self, context: zmq.Context, sessions: Path) -> None:
        self.sessions = sessions
        self.manager = KernelManager(context=context)
        self.manager.start_kernel(env={**os.environ, "TRIREME_THREADS": "2", "TMPDIR": str(sessions)})
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=LIMIT_S)

    def run(self, code: str, interrupt_when: Path | None = None) -> Ran:
        """Run a cell to its end; interrupt it once the file is there."""
        ran = Ran()

        def collect(message: dict[str, Any]) -> None:
            content = message["content"]
            if message["msg_type"] == "stream":
                ran.text += content["text"]
            elif message["msg_type"] == "execute_result":
                ran.results.append(content["data"])

        if interrupt_when is not None:
            request = self.client.execute(code, stop_on_error=False)
            eventually(interrupt_when.exists, LIMIT_S)
            self.manager.interrupt_kernel()
            reply = self.client.get_shell_msg(timeout=LIMIT_S)
            while reply["parent_header"].get("msg_id") != request:
                reply = self.client.get_shell_msg(timeout=LIMIT_S)
        else:
            reply = self.client.execute_interactive(code, stop_on_error=False, timeout=LIMIT_S, output_hook=collect)
        if trace := reply["content"].get("traceback"):
            print("\n".join(trace))
        ran.status, ran.error = reply["content"]["status"], reply["content"].get("ename", "")
        return ran

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel()
        # The template process removes the folder when it has ended the workers.
        eventually(lambda: not list(self.sessions.glob("trireme-*/*")))


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    # The machine's kernel is that of the system's interpreter.
    spec = tmp_path / "jupyter_data_dir" / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec.write_text(json.dumps({"argv": command, "display_name": "Python 3", "language": "python"}))
    context = zmq.Context()
    try:
        sessions = tmp_path / "sessions"
        sessions.mkdir()
        with contextlib.closing(Kernel(context, sessions)) as made:
            yield made
    finally:
        context.destroy(linger=0)


def test_the_example_notebook(kernel: Kernel) -> None:
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    ran = [kernel.run("".join(cell["source"])) for cell in cells]
    assert [(one.status, one.error) for one in ran] == [("ok", "")] * len(cells)
    assert "pi is near 3.14" in ran[-1].text
    # init() as the last line of a cell: a table.
    assert re.search(r"<table>.*<th>Ranks</th><td>1</td>", ran[0].results[0]["text/html"], re.DOTALL)


def test_functions_of_cells_are_redefined_and_init_is_run_again(kernel: Kernel) -> None:
    kernel.run("import trireme\ntrireme.init()\nfactor = 2")
    define = "@trireme.remote\ndef f(x):\n    return {} * x"
    assert kernel.run(define.format("factor")).status == "ok"
    assert kernel.run("trireme.get(f.remote(21))").results[0]["text/plain"] == "42"
    kernel.run(define.format("(10 + factor)"))
    assert kernel.run("trireme.get(f.remote(2))").results[0]["text/plain"] == "24"
    # The first cell again: Ray's error, its way around, and a new session with functions of the old.
    assert kernel.run("trireme.init()").error == "RuntimeError"
    assert kernel.run("trireme.init(ignore_reinit_error=True)").results[0]["text/html"]
    assert kernel.run("trireme.shutdown()\ntrireme.init()").status == "ok"
    assert kernel.run("trireme.get(f.remote(3))").results[0]["text/plain"] == "36"


def test_what_tasks_print_is_shown_under_the_cell(kernel: Kernel) -> None:
    kernel.run("import trireme\ntrireme.init()\n@trireme.remote\ndef speaks():\n    print('from a task')")
    # The line comes by a thread of its own, so the cell goes on until it has been written.
    ran = kernel.run(f"""
import sys, threading
written = threading.Event()
for stream in (sys.stdout, sys.stderr):
    def write(text, inner=stream.write):
        inner(text)
        if "from a task" in text:
            written.set()
    stream.write = write
trireme.get(speaks.remote())
assert written.wait({LIMIT_S}), "nothing was written"
""")
    assert ran.status == "ok"
    assert re.search(r"\(speaks pid=\d+ rank=0\) from a task", ran.text)


def test_an_interrupted_cell_leaves_the_runtime_usable(kernel: Kernel, tmp_path: Path) -> None:
    kernel.run("""
import pathlib, time, trireme
trireme.init()

@trireme.remote
def sleeps(path):
    pathlib.Path(path).touch()
    time.sleep(300)

@trireme.remote
class Counter:
    n = 0
    def add(self):
        self.n += 1
        return self.n

counter = Counter.remote()
assert trireme.get(counter.add.remote()) == 1
""")
    for call in ("trireme.get(ref)", "trireme.wait([ref])"):
        began = tmp_path / call[8:11]
        ran = kernel.run(f"ref = sleeps.remote({str(began)!r})\n{call}", interrupt_when=began)
        assert (ran.status, ran.error) == ("error", "KeyboardInterrupt")
        # What was waited for goes on: it is the user's to cancel.
        assert kernel.run("trireme.wait([ref], timeout=0)[0]").results[0]["text/plain"] == "[]"
        assert kernel.run("trireme.cancel(ref, force=True)").status == "ok"
        assert kernel.run("trireme.get(ref)").error in ("TaskCancelledError", "WorkerCrashedError")
    assert kernel.run("trireme.get(counter.add.remote())").results[0]["text/plain"] == "2"


def test_it_ran_with_the_interpreter_of_the_tests(kernel: Kernel) -> None:
    assert kernel.run("import sys; sys.executable").results[0]["text/plain"] == repr(sys.executable)
