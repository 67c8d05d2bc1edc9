"""What all Python tests share: a runtime per file, and a check that a file leaves nothing behind.

Every file runs once on one rank and once under mpirun (CMakeLists.txt); TRIREME_TEST_RANKS says which.
"""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

RANKS = int(os.environ.get("TRIREME_TEST_RANKS", "1"))
# How long what ends in the background (workers, the template process) may take on a loaded machine.
SETTLE_S = 30

TEMPORARY: Path


def pytest_configure() -> None:
    """Gives this process and its workers a folder of temporary files of their own (workers that import this module do not).

    pytest's own stays where people look for it. What tests want to keep, or cannot clean because they kill who would, belongs
    into tmp_path.
    """
    global TEMPORARY
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    TEMPORARY = Path(tempfile.mkdtemp(prefix="trireme-tests-"))
    os.environ["TMPDIR"] = str(TEMPORARY)
    tempfile.tempdir = None


def pytest_unconfigure() -> None:
    shutil.rmtree(TEMPORARY, ignore_errors=True)


@pytest.fixture(scope="session")
def ranks() -> int:
    """Ranks of the job that runs the tests."""
    return RANKS


@pytest.fixture(scope="module")
def runtime(no_leaks: None, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The runtime, for all tests of the file; yields the module `trireme`. A file's INIT are further arguments of init()."""
    import trireme

    trireme.init(ignore_reinit_error=True, **getattr(request.module, "INIT", {}))
    yield trireme
    # References that outlive the runtime keep its memory mapped: those of the last test's fixtures, and those in cycles
    # (tracebacks of expected errors).
    for item in request.session.items:
        (getattr(item, "funcargs", None) or {}).clear()
    gc.collect()
    trireme.shutdown()


@pytest.fixture
def where(runtime: Any) -> Any:
    """A function that returns the identity of the node it runs on."""

    @runtime.remote
    def where():
        return runtime.get_runtime_context().get_node_id()

    return where


def eventually(condition: Callable[[], Any], timeout: float = SETTLE_S) -> Any:
    """Poll until the condition gives something true and return that; fail with its last value when it never does."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout} s: {value!r}"
        time.sleep(0.02)
    return value


def _descriptors() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the one that lists
    return found


def _shared_memory() -> set[str]:
    """Names that the tests' own processes made: others use the machine too."""
    return {
        path.name for path in Path("/dev/shm").iterdir() if "trireme" in path.name and str(os.getpid()) in path.name
    }


def _temporary() -> list[str]:
    # Of sessions, without the folder that they share, which one that was killed cannot remove; mpirun has one like it.
    with contextlib.suppress(OSError):
        Path(TEMPORARY, f"trireme-{os.getuid()}").rmdir()
    return sorted(name for name in os.listdir(TEMPORARY) if not name.startswith("ompi."))


def _children() -> dict[int, str]:
    found = {}
    for task in os.listdir("/proc/self/task"):
        try:
            pids = Path(f"/proc/self/task/{task}/children").read_text().split()
        except OSError:
            continue
        for pid in pids:
            try:
                found[int(pid)] = (
                    Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") or "(ended, not waited for)"
                )
            except OSError:
                continue
    return found


@pytest.fixture(scope="module", autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the file whose tests leave file descriptors, shared memory, processes, temporary files or session folders."""
    descriptors, shared, children = _descriptors(), _shared_memory(), _children()
    yield

    def left() -> dict[str, Any]:
        more = {fd: target for fd, target in _descriptors().items() if fd not in descriptors}
        return {
            name: what
            for name, what in {
                "descriptors": more,
                "shared memory": _shared_memory() - shared,
                "temporary files": _temporary(),
                "processes": {pid: line for pid, line in _children().items() if pid not in children},
            }.items()
            if what
        }

    deadline = time.monotonic() + SETTLE_S
    while (leaked := left()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not leaked, f"{request.node.name} left behind: {leaked}"
