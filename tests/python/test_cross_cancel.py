"""cancel() of C++ functions and methods that Python called."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import trireme
from conftest import eventually
from trireme import cross_language
from trireme.util.scheduling_strategies import NodeAffinitySchedulingStrategy

LIBRARIES = Path(os.environ["TRIREME_BUILD_DIR"]) / "tests" / "python" / "cross"


@pytest.fixture(scope="module", autouse=True)
def library(runtime):
    trireme.load_library(LIBRARIES / "libcross_test.so")


def function(name, **options):
    return cross_language.cpp_function(name).options(**options)


def on(node):
    return NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)


def cancelled(ref, match=""):
    with pytest.raises(trireme.exceptions.TaskCancelledError, match=match):
        trireme.get(ref, timeout=60)


class Files:
    """Names in the test's folder, as text."""

    def __init__(self, folder):
        self.folder = folder

    def __getattr__(self, name):
        return str(self.folder / name)

    def has(self, name):
        return (self.folder / name).exists()


@pytest.fixture
def files(tmp_path):
    yield Files(tmp_path)
    for name in ("gate", "second"):
        (tmp_path / name).touch()  # what waits for them must not outlive a test that failed


@pytest.fixture
def gate(runtime, files):
    """A Python task that ends once the file "gate" is there."""

    @trireme.remote(num_cpus=0)
    def wait(path):
        while not os.path.exists(path):
            time.sleep(0.01)
        return "open"

    return wait.remote(files.gate)


@pytest.mark.parametrize("options", [{}, {"num_cpus": 0.5}, {"scheduling_strategy": "SPREAD"}, {"max_retries": 0}])
def test_a_call_whose_argument_is_not_there(files, gate, options):
    touch = function("touch_after", **options)
    waits, other = touch.remote(files.ran, gate), touch.remote(files.other, gate)

    @trireme.remote
    def takes(path):
        return path

    behind = takes.remote(waits)
    trireme.cancel(waits)
    cancelled(waits, "before it began")  # the gate is closed: it cannot be the argument that ended it
    cancelled(behind)
    assert not gate._ref.ready
    Path(files.gate).touch()
    assert trireme.get(other, timeout=60) == files.other
    cancelled(waits)
    assert not files.has("ran")


def test_a_call_that_is_queued(files):
    nodes = trireme.nodes()
    busy = []
    for i, node in enumerate(nodes):
        # All of the rank's CPUs.
        wait = function("wait_for", num_cpus=node["Resources"]["CPU"], scheduling_strategy=on(node))
        busy.append(wait.remote(f"{files.begun}{i}", files.gate))
        eventually(lambda: os.path.exists(f"{files.begun}{i}"))
    queued = [function("touch", num_cpus=1, scheduling_strategy=on(node)).remote(files.ran) for node in nodes]
    later = [function("touch", num_cpus=1, scheduling_strategy=on(node)).remote(files.later) for node in nodes]
    for ref in queued:
        trireme.cancel(ref)
    for ref in queued:
        cancelled(ref, "before it began")
    Path(files.gate).touch()
    assert trireme.get(busy, timeout=60) == ["value"] * len(busy)
    trireme.get(later, timeout=60)  # those before them are through
    assert not files.has("ran")


def test_one_that_runs_ends_where_it_asks(files):
    for i, node in enumerate(trireme.nodes()):
        begun = f"{files.begun}{i}"
        ref = function("wait_asking", scheduling_strategy=on(node)).remote(begun, files.gate)
        eventually(lambda: os.path.exists(begun))
        trireme.cancel(ref)
        cancelled(ref, "wait_asking was cancelled")


def test_one_that_runs_and_never_asks_gives_its_value(files):
    ref = function("wait_for").remote(files.begun, files.gate)
    eventually(lambda: files.has("begun"))
    trireme.cancel(ref)
    Path(files.gate).touch()
    assert trireme.get(ref, timeout=60) == "value"
    trireme.cancel(ref)  # it has ended: nothing changes
    assert trireme.get(ref) == "value"


def test_with_force_nobody_waits_for_it(files):
    for i, node in enumerate(trireme.nodes()):
        begun = f"{files.begun}{i}"
        ref = function("wait_for", scheduling_strategy=on(node)).remote(begun, files.gate)
        eventually(lambda: os.path.exists(begun))
        trireme.cancel(ref, force=True)
        cancelled(ref, "runs to its end")
    Path(files.gate).touch()
    trireme.get([function("touch", num_cpus=1, scheduling_strategy=on(n)).remote(files.last) for n in trireme.nodes()], timeout=60)
    cancelled(ref)


def test_who_is_asked_is_the_call_and_not_what_runs_on_its_thread(files):
    """A call that waits leaves its thread to others, and what they are asked is not asked of it."""
    outer = [function("wait_within").remote(f"{files.begun}{i}", files.gate) for i in range(4)]
    eventually(lambda: any(files.has(f"begun{i}") for i in range(4)))
    trireme.cancel(outer[0])
    Path(files.gate).touch()
    assert trireme.get(outer[1:], timeout=60) == ["value"] * 3
    cancelled(outer[0])
    with pytest.raises(trireme.exceptions.RayTaskError, match="Cancelled"):
        trireme.get(function("throws_cancelled").remote(), timeout=60)  # nobody cancelled this one


def test_calls_of_actors(files, gate):
    desks = [
        cross_language.cpp_actor_class("Desk").options(num_cpus=0, scheduling_strategy=on(node)).remote()
        for node in trireme.nodes()
    ]
    for i, desk in enumerate(desks):
        begun = f"{files.begun}{i}"
        runs = desk.wait_asking.remote(begun, files.gate)
        queued = desk.touch.remote(files.ran)
        waits = desk.touch_after.remote(files.ran, gate)
        after = desk.touch.remote(f"{files.after}{i}")
        eventually(lambda: os.path.exists(begun))
        for ref in (waits, queued):
            trireme.cancel(ref)
            cancelled(ref, "before it began")
        assert not os.path.exists(f"{files.after}{i}")
        trireme.cancel(runs)
        cancelled(runs, "Desk.wait_asking was cancelled")
        del runs, queued, waits
    Path(files.gate).touch()
    assert trireme.get(after, timeout=60)
    assert not files.has("ran")
    forced = desks[-1].wait_for.remote(files.forced, files.second)
    eventually(lambda: files.has("forced"))
    trireme.cancel(forced, force=True)
    cancelled(forced, "runs to its end")
    Path(files.second).touch()
    assert trireme.get(desks[-1].touch.remote(files.last), timeout=60) == files.last


def test_from_workers_by_references_that_were_sent_there(files, gate):
    @trireme.remote(num_cpus=0)
    def cancels(refs):
        trireme.cancel(refs[0])

    @trireme.remote(num_cpus=0)
    def calls_and_cancels(path, gate, begun):
        waits = cross_language.cpp_function("touch_after").remote(path, gate[0])
        runs = cross_language.cpp_function("wait_asking").remote(begun, path)
        while not os.path.exists(begun):
            time.sleep(0.01)
        found = []
        for ref in (waits, runs):
            trireme.cancel(ref)
            try:
                found.append(trireme.get(ref))
            except trireme.exceptions.TaskCancelledError as error:
                found.append(str(error).partition("before")[1])
        return found

    for i, node in enumerate(trireme.nodes()):
        waits = function("touch_after").remote(files.ran, gate)
        trireme.get(cancels.options(scheduling_strategy=on(node)).remote([waits]), timeout=60)
        cancelled(waits, "before it began")
        inside = calls_and_cancels.options(scheduling_strategy=on(node)).remote(files.ran, [gate], f"{files.begun}{i}")
        assert trireme.get(inside, timeout=60) == ["before", ""]
    Path(files.gate).touch()
    trireme.get(gate, timeout=60)
    assert not files.has("ran")


def test_children_of_a_task(files, gate):
    @trireme.remote(num_cpus=0, max_retries=0)
    def parent(begun, gate, never):
        desk = cross_language.cpp_actor_class("Desk").options(num_cpus=0).remote()
        waits = cross_language.cpp_function("touch_after").remote(never, gate[0])
        runs = cross_language.cpp_function("wait_asking").remote(begun, never)
        called = desk.wait_asking.remote(begun + "-desk", never)
        trireme.get([runs, waits, called])

    for i, node in enumerate(trireme.nodes()):
        begun = f"{files.begun}{i}"
        ref = parent.options(scheduling_strategy=on(node)).remote(begun, [gate], files.ran)
        eventually(lambda: os.path.exists(begun) and os.path.exists(begun + "-desk"))
        trireme.cancel(ref, recursive=True)
        cancelled(ref)
        eventually(lambda: os.path.exists(begun + ".left") and os.path.exists(begun + "-desk.left"))
    Path(files.gate).touch()
    trireme.get(gate, timeout=60)
    assert not files.has("ran")
