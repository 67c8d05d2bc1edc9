"""What ranks ask of each other does not wait for their threads: C++ code holds all of them while these run."""

from __future__ import annotations

import os
import queue
import threading
from pathlib import Path

import pytest

import trireme
from conftest import eventually
from trireme import cross_language
from trireme.util import state
from trireme.util.state import _gather
from trireme.util.scheduling_strategies import NodeAffinitySchedulingStrategy

LIBRARIES = Path(os.environ["TRIREME_BUILD_DIR"]) / "tests" / "python" / "cross"
#: Seconds; what does not wait for the gate takes some milliseconds.
IN_TIME = 60


def on(node):
    return NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)


@pytest.fixture(scope="module", autouse=True)
def library(runtime):
    trireme.load_library(LIBRARIES / "libcross_test.so")


@pytest.fixture
def nodes(runtime):
    return sorted(trireme.nodes(), key=lambda node: node["rank"])


@pytest.fixture
def members(nodes):
    """An actor of each rank, the driver's first, that does what the test says."""

    class Member:
        def do(self, what, *args):
            return what(*args)

        def pid(self):
            return os.getpid()

        def never_called_before(self):
            return "called"

    make = trireme.remote(Member).options(num_cpus=0, max_restarts=-1, max_concurrency=2)
    made = [make.options(scheduling_strategy=on(node)).remote() for node in nodes]
    trireme.get([member.pid.remote() for member in made], timeout=60)
    trireme.get([member.do.remote(len, "") for member in made], timeout=60)
    yield made
    for member in made:
        trireme.kill(member)


@pytest.fixture
def busy(members, nodes, tmp_path):
    """Every thread of every rank runs a C++ task that waits at a gate."""
    gate = tmp_path / "gate"
    held = []
    for node in nodes:
        for i in range(int(node["Resources"]["CPU"])):
            begun = f"{tmp_path}/begun{node['rank']}.{i}"
            wait = cross_language.cpp_function("wait_for").options(num_cpus=1, scheduling_strategy=on(node))
            held.append(wait.remote(begun, str(gate)))
            eventually(lambda path=begun: os.path.exists(path))
    try:
        yield
        done, _ = trireme.wait(held, num_returns=len(held), timeout=0)
        assert not done, "the gate was closed all the time"
    finally:
        gate.touch()
        trireme.get(held, timeout=60)


def in_time(function, *args, **kwargs):
    """What the function returns; an error when it waits."""
    answers = queue.SimpleQueue()

    def run():
        try:
            answers.put((function(*args, **kwargs), None))
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            answers.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        value, error = answers.get(timeout=IN_TIME)
    except queue.Empty:
        pytest.fail("it waits for a thread of a busy rank")
    if error is not None:
        raise error
    return value


def get(ref):
    return trireme.get(ref, timeout=IN_TIME)


def test_a_method_that_was_never_called(members, busy):
    """What a worker must know of it is with the rank of the caller."""
    for member in members:
        assert get(member.never_called_before.remote()) == "called"


def test_a_method_that_workers_never_called(members, busy):
    def call(others):
        return trireme.get([other.never_called_before.remote() for other in others])

    for member in members:
        others = [other for other in members if other is not member]
        assert get(member.do.remote(call, others)) == ["called"] * len(others)


@pytest.mark.parametrize("size", [1, 3_500_000])
def test_tasks_without_cpus(members, nodes, busy, size):
    def submit(node):
        captured = b"x" * size  # a large function is fetched in pieces

        def task():
            return len(captured)

        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        return trireme.get(trireme.remote(task).options(num_cpus=0, scheduling_strategy=there).remote())

    for node in nodes:
        assert in_time(submit, node) == size
        for member in members:
            assert get(member.do.remote(submit, node)) == size


def test_actors_without_cpus(members, nodes, busy):
    def create(node):
        class Other:
            def call(self):
                return "called"

        class Fails:
            def __init__(self):
                raise RuntimeError("of the constructor")

            def call(self):
                return "called"

        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        made = [trireme.remote(one).options(num_cpus=0, scheduling_strategy=there).remote() for one in (Other, Fails)]
        assert trireme.get([made[0].call.remote() for _ in range(3)]) == ["called"] * 3
        try:
            trireme.get(made[1].call.remote())
        except trireme.exceptions.ActorDiedError as error:
            return "of the constructor" in str(error)

    for node in nodes:
        assert in_time(create, node)
        for member in members:
            assert get(member.do.remote(create, node))


def test_many_calls_wait_for_their_actor(members, nodes, busy, tmp_path):
    """More of them than are started at one go."""
    gate = tmp_path / "constructor"

    def opened():
        return eventually(lambda: os.path.exists(gate), IN_TIME)

    class Other:
        def __init__(self, begin):
            self.calls = 0

        def call(self):
            self.calls += 1
            return self.calls

    there = on(nodes[0])
    made = trireme.remote(Other).options(num_cpus=0, scheduling_strategy=there).remote(members[0].do.remote(opened))
    calls = [made.call.remote() for _ in range(3000)]
    gate.touch()
    assert in_time(trireme.get, calls) == list(range(1, 3001))


def named(name):
    """For a member: an actor that it keeps."""

    def create():
        class Other:
            def call(self):
                return name

        made = trireme.remote(Other).options(num_cpus=0, name=name).remote()
        trireme.__dict__.setdefault("_kept_by_tests", []).append(made)
        return trireme.get(made.call.remote())

    return create


def test_actors_are_named(members, busy):
    for i, member in enumerate(members):
        assert get(member.do.remote(named(f"named{i}"))) == f"named{i}"
        with pytest.raises(ValueError, match="named0"):
            get(member.do.remote(named("named0")))


def test_actors_are_found_by_name(members, request):
    def find(name):
        return trireme.get(trireme.get_actor(name).call.remote())

    for i, member in enumerate(members):
        trireme.get(member.do.remote(named(f"found{i}")), timeout=60)
    request.getfixturevalue("busy")
    for i in range(len(members)):
        assert in_time(find, f"found{i}") == f"found{i}"
        for member in members:
            assert get(member.do.remote(find, f"found{i}")) == f"found{i}"
    with pytest.raises(ValueError, match="nobody"):
        in_time(find, "nobody")


def test_actors_are_started_again(members, busy):
    def by_itself(actor):
        trireme.kill(actor, no_restart=False)

    def pid_of(actor):
        try:
            return get(actor.pid.remote())
        except trireme.exceptions.ActorUnavailableError:
            return None

    for member in members:
        others = [other for other in members if other is not member]
        for by in [None, *others]:
            before = get(member.pid.remote())
            by_itself(member) if by is None else get(by.do.remote(by_itself, member))
            eventually(lambda member=member, before=before: pid_of(member) not in (None, before), IN_TIME)


def test_actors_are_killed(members, nodes, request):
    class Other:
        def call(self):
            return 1

    made = [trireme.remote(Other).options(num_cpus=0, scheduling_strategy=on(node)).remote() for node in nodes for _ in (0, 1)]
    trireme.get([actor.call.remote() for actor in made], timeout=60)
    request.getfixturevalue("busy")
    for i, actor in enumerate(made):
        trireme.kill(actor) if i % 2 else get(members[-1].do.remote(trireme.kill, actor))
        with pytest.raises(trireme.exceptions.ActorDiedError):
            get(actor.call.remote())


def test_actors_have_handles_on_themselves(members, busy):
    def own():
        return trireme.get_runtime_context().current_actor is not None

    for member in members:
        assert get(member.do.remote(own))


def test_placement_groups(members, busy):
    def group():
        from trireme.util import placement_group, remove_placement_group

        made = placement_group([{"memory": 1.0}], "PACK")
        trireme.get(made.ready())
        remove_placement_group(made)
        try:
            placement_group([], "PACK")
        except ValueError:
            return "placed"

    assert in_time(group) == "placed"
    for member in members:
        assert get(member.do.remote(group)) == "placed"


@pytest.mark.parametrize("size", [1, 200_000])
def test_streams(members, busy, size):
    def produce():
        for i in range(5):
            yield [i] * size

    def consume(other):
        stream = other.do.options(num_returns="streaming").remote(produce)
        return [trireme.get(ref)[0] for ref in stream]

    for member in members:
        assert in_time(consume, member) == [0, 1, 2, 3, 4]
        for other in members:
            if other is not member:
                assert get(member.do.remote(consume, other)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("size", [1, 1_000_000])
def test_objects(members, busy, size):
    def put():
        return [trireme.put(b"x" * size)]

    def read(refs):
        return len(trireme.get(refs[0]))

    mine = trireme.put(b"x" * size)
    for member in members:
        assert get(member.do.remote(read, [mine])) == size
        theirs = get(member.do.remote(put))
        assert len(get(theirs[0])) == size
        for other in members:
            assert get(other.do.remote(read, theirs)) == size


@pytest.mark.parametrize(
    "what", ["list_tasks", "list_actors", "list_objects", "list_workers", "list_nodes", "summarize_tasks", "summarize_actors"]
)
def test_state(members, busy, what):
    assert in_time(getattr(state, what))


def test_state_of_other_hosts(members, busy):
    parts = in_time(_gather.gather, os.listdir, IN_TIME, through_tasks=True)
    assert len(parts) == len(members)


def test_logs(members, nodes, busy):
    pid = get(members[-1].pid.remote())
    get(members[-1].do.remote(print, "a line of the member"))

    def logged():
        return [line for line in state.get_log(pid=pid, node_id=nodes[-1]["NodeID"]) if "a line of the member" in line]

    # The call may end before its rank has read what it printed.
    in_time(eventually, logged)


@pytest.mark.parametrize("what", ["nodes", "cluster_resources", "available_resources", "timeline"])
def test_what_the_job_is(members, busy, what):
    assert in_time(getattr(trireme, what)) is not None
    for member in members:
        assert get(member.do.remote(getattr(trireme, what))) is not None
