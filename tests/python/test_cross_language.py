"""C++ functions and actors of a library, called from Python by name."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

import trireme
from conftest import eventually
from trireme import cross_language

LIBRARIES = Path(os.environ["TRIREME_BUILD_DIR"]) / "tests" / "python" / "cross"


@pytest.fixture(scope="module", autouse=True)
def library(runtime):
    names = trireme.load_library(LIBRARIES / "libcross_test.so")
    assert {"echo", "add", "Counter"} <= set(names)


def call(name: str, *args):
    return trireme.get(cross_language.cpp_function(name).remote(*args), timeout=60)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -1,
        255,
        65536,
        -(2**31),
        2**62,
        -(2**63),
        1.5,
        float("inf"),
        "",
        "text with ü and \0",
        "x" * 70000,
        b"",
        b"bytes" * 5000,
        (),
        (1, "two", (3.0,)),
        [],
        [[1], [2, [3]]],
        {},
        {"a": 1, 2: [True, None]},
        list(range(5000)),
    ],
)
def test_plain_values_come_back_as_they_went(value):
    assert call("echo", value) == value
    assert type(call("echo", value)) is type(value)


@pytest.mark.parametrize("dtype", ["?", "i1", "u1", "i2", "u4", "i8", "u8", "f4", "f8", "c8", "c16"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (50, 7, 11)])
def test_arrays_come_back_as_they_went(dtype, shape):
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    back = call("echo", array)
    assert back.dtype == array.dtype and back.shape == array.shape
    np.testing.assert_array_equal(back, array)
    nested = call("echo", {"arrays": [array, (array, 1)]})
    np.testing.assert_array_equal(nested["arrays"][1][0], array)


def test_scalars_of_numpy_are_numbers():
    assert call("echo", [np.float64(1.5), np.float32(0.5), np.int8(-3), np.uint16(7), np.bool_(True)]) == [
        1.5,
        0.5,
        -3,
        7,
        True,
    ]


def test_a_list_that_is_there_twice_stays_equal():
    inner = [1, 2]
    assert call("echo", [inner, inner]) == [inner, inner]


def test_typed_functions():
    assert call("add", 2, 3) == 5
    assert call("repeat", "ab", 3) == "ababab"
    assert call("negate", True) is False
    assert call("nothing") is None
    assert call("halves", [1, 2.5]) == [0.5, 1.25]
    assert call("halves", np.array([1.0, 3.0])) == [0.5, 1.5]
    np.testing.assert_array_equal(call("scale", np.ones((2, 3), np.float32), 2), np.full((2, 3), 2, np.float32))


def test_arrays_that_do_not_lie_row_by_row_are_sent_so():
    array = np.arange(12.0).reshape(3, 4)
    assert call("shape", array.T) == [4, 3]
    np.testing.assert_array_equal(call("echo", array.T), array.T)
    np.testing.assert_array_equal(call("echo", array[:, ::2]), array[:, ::2])
    # Inside another value it is not looked for: pickle sends the steps in one piece, Fortran's order is refused.
    np.testing.assert_array_equal(call("echo", [array[:, ::2]])[0], array[:, ::2])
    with pytest.raises(trireme.exceptions.RayTaskError, match="Fortran"):
        call("echo", [array.T])


def test_references_arrive_as_values():
    assert call("add", cross_language.cpp_function("add").remote(1, 2), trireme.put(4)) == 7

    @trireme.remote
    def make(n):
        return np.arange(float(n))

    scale = cross_language.cpp_function("scale")
    array = trireme.put(np.ones((2, 3), np.float32))
    for _ in range(3):
        array = scale.remote(array, 2)
    np.testing.assert_array_equal(trireme.get(array, timeout=60), np.full((2, 3), 8, np.float32))

    big = make.remote(100_000)
    np.testing.assert_array_equal(call("echo", big), np.arange(100_000.0))


def test_results_are_arguments_of_python_tasks():
    @trireme.remote
    def total(array):
        return float(array.sum())

    big = cross_language.cpp_function("echo").remote(np.ones(100_000))
    small = cross_language.cpp_function("echo").remote(np.ones(3))
    assert trireme.get([total.remote(big), total.remote(small)], timeout=60) == [100_000.0, 3.0]


def test_an_array_is_read_in_place(ranks):
    if ranks > 1:
        pytest.skip("the ranks of this job are forced onto nodes of their own")
    ref = trireme.put(np.zeros(1 << 20))
    place = call("first_page", ref)
    assert call("first_page", ref) == place
    # The driver's own view of the object lies at the same address: it is the same process and the same memory.
    view = trireme.get(ref)
    assert view.__array_interface__["data"][0] // 4096 == place


def test_results_are_read_only_and_live_on():
    result = call("scale", np.ones(100_000, np.float32), 3)
    for _ in range(20):
        call("scale", np.ones(100_000, np.float32), 1)
    assert not result.flags.writeable
    assert result.sum() == 300_000
    with pytest.raises(trireme.exceptions.RayTaskError, match="read-only"):
        call("write_to", np.ones(3))


def test_placed_on_every_rank(ranks):
    from trireme.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    function = cross_language.cpp_function("rank")
    for node in trireme.nodes():
        place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        refs = [function.options(num_cpus=1, scheduling_strategy=place).remote() for _ in range(3)]
        found = set(trireme.get(refs, timeout=60))
        assert len(found) == 1
    echo = cross_language.cpp_function("echo").options(scheduling_strategy="SPREAD")
    array = np.arange(50_000)
    for back in trireme.get([echo.remote(array) for _ in range(2 * ranks)], timeout=60):
        np.testing.assert_array_equal(back, array)


def test_many_calls():
    add = cross_language.cpp_function("add")
    assert trireme.get([add.remote(i, i) for i in range(5000)], timeout=120) == [2 * i for i in range(5000)]


def test_exceptions_name_function_and_type():
    with pytest.raises(trireme.exceptions.RayTaskError) as caught:
        call("fail", "no such thing")
    assert "fail" in str(caught.value)
    assert "std::out_of_range: no such thing" in str(caught.value)


def test_an_actor_keeps_its_state():
    living = call("living")
    counter = cross_language.cpp_actor_class("Counter").remote(10)
    refs = [counter.add.remote(1) for _ in range(100)]
    assert trireme.get(refs, timeout=60) == list(range(11, 111))
    np.testing.assert_array_equal(trireme.get(counter.history.remote(), timeout=60), [110])
    assert trireme.get(counter.add.remote(trireme.put(5)), timeout=60) == 115
    with pytest.raises(trireme.exceptions.RayTaskError, match="the counter is broken"):
        trireme.get(counter.fail.remote(), timeout=60)
    assert trireme.get(counter.add.remote(0), timeout=60) == 115
    del counter, refs
    if trireme.cluster_resources().get("CPU") and len(trireme.nodes()) == 1:
        eventually(lambda: call("living") == living)


def test_an_actor_that_cannot_be_made():
    counter = cross_language.cpp_actor_class("Counter").remote(-1)
    with pytest.raises(trireme.exceptions.ActorDiedError, match="does not start below 0"):
        trireme.get(counter.add.remote(1), timeout=60)


def test_a_killed_actor():
    counter = cross_language.cpp_actor_class("Counter").options(num_cpus=0).remote(0)
    assert trireme.get(counter.add.remote(1), timeout=60) == 1
    trireme.kill(counter)

    def ended():
        try:
            trireme.get(counter.add.remote(1), timeout=60)
        except trireme.exceptions.ActorDiedError:
            return True
        return False  # in another rank a call may still come before the end

    assert eventually(ended)


# Bad input.


def test_unknown_names_tell_what_there_is():
    with pytest.raises(ValueError, match="'ad' is loaded; there are: add, echo"):
        cross_language.cpp_function("ad")
    with pytest.raises(ValueError, match="'Cuonter' is loaded; there are: Counter, Desk"):
        cross_language.cpp_actor_class("Cuonter")
    with pytest.raises(AttributeError, match="exports no method 'sub'; it exports add, fail, history"):
        _ = cross_language.cpp_actor_class("Counter").remote(1).sub


@pytest.mark.parametrize(
    ("name", "args", "text"),
    [
        ("add", (1, "2"), "argument 2 needs int, and got a str"),
        ("add", (1.5, 2), "argument 1 needs int, and got the float 1.5"),
        ("small", (256,), "argument 1 needs int from 0 to 255, and got the int 256"),
        ("repeat", (b"x", 1), "argument 1 needs str, and got bytes"),
        ("negate", (None,), "argument 1 needs bool, and got None"),
        (
            "scale",
            (np.ones((2, 3)), 1.0),
            r"argument 1 needs array of float32, and got an array of float64 with shape \(2, 3\)",
        ),
        ("halves", ([1, "x"],), "argument 1 needs float, and got a str"),
    ],
)
def test_a_wrong_argument_is_named(name, args, text):
    with pytest.raises(trireme.exceptions.RayTaskError, match=text):
        call(name, *args)


class Unsupported:
    pass


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Unsupported(), "Unsupported"),
        ({1, 2}, "a set is no plain value"),
        (1 + 2j, "complex"),
        (2**63, "does not fit 64 bits"),
        (np.array(["a", "b"]), "'U1'"),
        (np.array([None, 1]), "Python objects|'O8'"),
        (np.arange(3, dtype=">i4"), "byte order"),
        (len, "builtins"),
    ],
)
def test_what_cannot_cross_is_named(value, text):
    with pytest.raises(trireme.exceptions.RayTaskError, match=f"(?s)({text}).*can cross between Python and C"):
        call("echo", value)


def test_wrong_calls_fail_where_they_are_made():
    add = cross_language.cpp_function("add")
    with pytest.raises(TypeError, match=r"add\(int, int\) -> int: takes 2 arguments, and 1 were given"):
        add.remote(1)
    with pytest.raises(TypeError, match="no keyword arguments; b must go by position"):
        add.remote(1, b=2)
    with pytest.raises(TypeError, match="a reference inside another argument"):
        cross_language.cpp_function("echo").remote([trireme.put(1)])
    with pytest.raises(TypeError, match="cannot be called directly"):
        add(1, 2)
    with pytest.raises(ValueError, match="runtime_env"):
        add.options(runtime_env={})
    with pytest.raises(ValueError, match="num_cpu"):
        add.options(num_cpu=1)
    with pytest.raises(TypeError, match="in arguments, results and put"):
        pickle.dumps(cross_language.cpp_actor_class("Counter").remote(1))


def test_a_cycle_is_refused():
    cycle: list = []
    cycle.append(cycle)
    with pytest.raises(trireme.exceptions.RayTaskError, match="contains itself"):
        call("echo", cycle)


def here():
    """The rank of the program."""
    from trireme.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    (node,) = [node["NodeID"] for node in trireme.nodes() if node["rank"] == 0]
    return NodeAffinitySchedulingStrategy(node, soft=False)


def everywhere(function):
    """The function as a remote one on each rank."""
    from trireme.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in trireme.nodes()]
    return [trireme.remote(num_cpus=0)(function).options(scheduling_strategy=place) for place in there]


def test_workers_call_by_name_what_the_program_loaded():
    def inside(x):
        add = cross_language.cpp_function("add")
        first = add.remote(1, x)
        return trireme.get(add.remote(first, trireme.put(10)))

    assert trireme.get([each.remote(2) for each in everywhere(inside)], timeout=60) == [13] * len(trireme.nodes())


def test_workers_load_libraries_of_their_own():
    path = str(LIBRARIES / "libcross_test.so")

    def inside():
        names = trireme.load_library(path)
        with pytest.raises(ValueError, match="'ad'"):
            cross_language.cpp_function("ad")
        return "add" in names

    assert all(trireme.get([each.remote() for each in everywhere(inside)], timeout=60))


def test_functions_and_classes_are_sent():
    scale = cross_language.cpp_function("scale").options(max_retries=0)
    counter_class = cross_language.cpp_actor_class("Counter")

    def inside(scale):
        counter = counter_class.options(max_concurrency=1).remote(5)  # from the closure
        result = trireme.get(scale.remote(np.ones((50, 100), dtype=np.float32), 3.0))
        return result.sum(), trireme.get(counter.add.remote(2))

    for total, value in trireme.get([each.remote(scale) for each in everywhere(inside)], timeout=60):
        assert (total, value) == (15000, 7)


def test_handles_go_everywhere_and_the_last_one_counts():
    living = cross_language.cpp_function("living")
    before = trireme.get(living.remote(), timeout=60)
    counter = cross_language.cpp_actor_class("Counter").options(scheduling_strategy=here()).remote(0)

    def add(counter, amount):
        return counter, trireme.get(counter.add.remote(amount))

    given = []
    for i, each in enumerate(everywhere(add)):
        back, value = trireme.get(each.remote(counter, 1), timeout=60)
        assert value == i + 1
        given.append(back)
    assert trireme.get(given[-1].add.remote(0), timeout=60) == len(given)
    del counter, back
    assert trireme.get(given[0].add.remote(0), timeout=60) == len(given)

    @trireme.remote(num_cpus=0)
    class Keeper:
        def make(self, cls):
            self.counter = cls.options(scheduling_strategy=here()).remote(40)
            return [self.counter]  # within a value

    keeper = Keeper.remote()
    (theirs,) = trireme.get(keeper.make.remote(cross_language.cpp_actor_class("Counter")), timeout=60)
    assert trireme.get(theirs.add.remote(2), timeout=60) == 42
    trireme.kill(theirs)
    with pytest.raises(trireme.exceptions.ActorDiedError):
        trireme.get(theirs.add.remote(2), timeout=60)
    del given
    eventually(lambda: trireme.get(living.options(scheduling_strategy=here()).remote(), timeout=60) == before)


def test_arrays_of_workers_are_read_in_place():
    first_page = cross_language.cpp_function("first_page").options(scheduling_strategy=here())

    @trireme.remote(num_cpus=0, scheduling_strategy=here())
    def inside(first_page):
        array = trireme.put(np.arange(100_000.0))
        pages = trireme.get([first_page.remote(array), first_page.remote(array)])
        scaled = trireme.get(cross_language.cpp_function("scale").remote(np.ones(100_000, dtype=np.float32), 2.0))
        return pages, scaled.flags.writeable, float(scaled[-1])

    pages, writeable, last = trireme.get(inside.remote(first_page), timeout=60)
    assert pages[0] == pages[1]
    assert (writeable, last) == (False, 2.0)


def test_errors_reach_the_worker():
    def inside():
        caught = []
        for name, args in [("fail", ("deep",)), ("add", (1, "2"))]:
            try:
                trireme.get(cross_language.cpp_function(name).remote(*args))
            except trireme.exceptions.RayTaskError as error:
                caught.append(str(error))
        counter = cross_language.cpp_actor_class("Counter").remote(-1)
        try:
            trireme.get(counter.add.remote(1))
        except trireme.exceptions.ActorDiedError as error:
            caught.append(str(error))
        impossible = cross_language.cpp_function("add").options(resources={"no such thing": 1})
        try:
            trireme.get(impossible.remote(1, 2))
        except trireme.exceptions.TaskUnschedulableError as error:
            caught.append(str(error))
        return caught

    for deep, wrong, below, nowhere in trireme.get([each.remote() for each in everywhere(inside)], timeout=60):
        assert "deep" in deep
        assert "argument 2 needs int" in wrong
        assert "below 0" in below
        assert "no such thing" in nowhere


def test_libraries_that_cannot_be_loaded(tmp_path):
    trireme.load_library(LIBRARIES / "libcross_test.so")  # twice is once
    with pytest.raises(FileNotFoundError, match="no file"):
        trireme.load_library(tmp_path / "none.so")
    text = tmp_path / "text.so"
    text.write_text("no library")
    with pytest.raises(RuntimeError, match=r"text\.so cannot be loaded"):
        trireme.load_library(text)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="the function 'echo', whose name is taken by .*libcross_test"):
            trireme.load_library(LIBRARIES / "libcross_duplicate.so")
    assert call("echo", 1) == 1
