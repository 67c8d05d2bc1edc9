"""References and objects: resolved, borrowed, immutable, read in place, awaited, counted."""

from __future__ import annotations

import asyncio
import gc
import pickle
import random
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest

from trireme import _pickler
from trireme._native import load_references

from conftest import eventually


def test_references_as_arguments_are_resolved(runtime):
    @runtime.remote
    def add(a, b=0):
        return a + b

    first = add.remote(1, b=2)
    assert runtime.get(add.remote(first, b=first)) == 6
    assert runtime.get(add.remote(runtime.put(5))) == 5


def test_nested_references_stay_references(runtime):
    inner = runtime.put(41)

    @runtime.remote
    def open_it(box):
        (ref,) = box["refs"]
        assert isinstance(ref, runtime.ObjectRef)
        return runtime.get(ref) + 1

    assert runtime.get(open_it.remote({"refs": [inner]})) == 42
    (back,) = runtime.get(runtime.put([inner]))
    assert back == inner
    assert hash(back) == hash(inner)


def test_borrowed_references_keep_the_object(runtime):
    @runtime.remote
    class Keeper:
        def keep(self, box):
            self.box = box

        def read(self):
            return runtime.get(self.box[0]).sum()

    keeper = Keeper.remote()
    ref = runtime.put(np.ones(100_000))
    runtime.get(keeper.keep.remote([ref]))
    del ref
    gc.collect()
    assert runtime.get(keeper.read.remote()) == 100_000


def test_references_returned_by_tasks(runtime):
    @runtime.remote
    def make():
        return [runtime.put(i) for i in range(5)]

    assert runtime.get(runtime.get(make.remote())) == [0, 1, 2, 3, 4]


def test_functions_close_over_references(runtime):
    ref = runtime.put("closed over")

    @runtime.remote
    def read(extra):
        return runtime.get(ref) + extra

    assert runtime.get(read.remote("!")) == "closed over!"
    assert runtime.get(read.remote(runtime.put("?"))) == "closed over?"


def test_the_same_reference_twice(runtime):
    ref = runtime.put(2)

    @runtime.remote
    def f(a, b, box):
        return a + b + sum(runtime.get(box))

    assert runtime.get(f.remote(ref, ref, [ref, ref])) == 8
    assert runtime.get([ref, ref]) == [2, 2]


def test_arrays_are_read_in_place_and_read_only(runtime):
    array = np.arange(1_000_000, dtype=np.int64)
    ref = runtime.put(array)
    array[0] = 7  # the object was copied when it was put
    one, two = runtime.get(ref), runtime.get(ref)
    assert one[0] == 0
    assert one.ctypes.data == two.ctypes.data
    assert not one.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        one[0] = 1

    @runtime.remote
    def check(x):
        return x.flags.writeable, int(x.sum())

    assert runtime.get(check.remote(ref)) == (False, 499_999_500_000)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(0),
        np.array(3.5),
        np.arange(12, dtype=np.int16).reshape(3, 4),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.arange(100)[::3],
        np.array(["a", "bc"]),
        np.array([{"x": 1}, None], dtype=object),
        np.zeros(4, dtype=[("x", "f4"), ("n", "i8")]),
        np.random.default_rng(1).random((300, 300)),
    ],
    ids=["empty", "scalar", "2d", "fortran", "strided", "text", "object", "record", "large"],
)
def test_arrays_of_all_kinds(runtime, array):
    @runtime.remote
    def same(x):
        return x

    for got in (runtime.get(runtime.put(array)), runtime.get(same.remote(array))):
        assert got.dtype == array.dtype
        assert got.shape == array.shape
        assert np.array_equal(got, array)


def test_arrays_stay_when_their_reference_is_gone(runtime):
    array = runtime.get(runtime.put(np.full(500_000, 3.0)))
    gc.collect()
    others = [runtime.put(np.zeros(500_000)) for _ in range(4)]
    assert (array == 3).all()
    del others


def test_large_arguments_and_results(runtime):
    @runtime.remote
    def double(x):
        return 2 * x

    x = np.ones(4_000_000)
    assert runtime.get(double.remote(x)).sum() == 8_000_000
    big = b"x" * 5_000_000
    assert runtime.get(double.remote(big)) == big * 2


def test_await_in_the_driver(runtime):
    @runtime.remote
    def f(x):
        return x

    @runtime.remote
    def boom():
        raise ValueError("awaited")

    async def main():
        assert await f.remote(1) == 1
        assert await asyncio.gather(*[f.remote(i) for i in range(20)]) == list(range(20))
        with pytest.raises(ValueError, match="awaited"):
            await boom.remote()
        ref = runtime.put(3)
        return await asyncio.wait_for(ref, 30)

    assert asyncio.run(main()) == 3


def test_future(runtime):
    @runtime.remote
    def f(x):
        if x < 0:
            raise ValueError("negative")
        return x

    assert f.remote(3).future().result(60) == 3
    assert runtime.put(4).future().result(60) == 4
    assert isinstance(f.remote(-1).future().exception(60), ValueError)
    done = threading.Event()
    f.remote(1).future().add_done_callback(lambda _: done.set())
    assert done.wait(60)


def test_references_are_counted(runtime):
    # More than fits unless what nobody refers to is given up.
    size = 8 << 20
    for i in range(80):
        ref = runtime.put(np.full(size, i % 7, dtype=np.uint8))
        assert runtime.get(ref)[-1] == i % 7


def test_references_in_cycles_are_given_up_while_the_program_waits(runtime):
    @runtime.remote
    class A:
        def pid(self):
            import os

            return os.getpid()

    actor = A.remote()
    pid = runtime.get(actor.pid.remote())
    cycle = [actor]
    cycle.append(cycle)
    del actor, cycle
    eventually(lambda: not Path(f"/proc/{pid}").exists())


def test_references_cannot_be_pickled_outside(runtime):
    with pytest.raises(TypeError, match="arguments, results and put"):
        pickle.dumps(runtime.put(1))


def test_iterating_over_a_reference_says_what_to_do(runtime):
    with pytest.raises(TypeError, match="get"):
        list(runtime.put([1]))


def test_unpicklable_things_are_named_with_the_path_to_them(runtime):
    @runtime.remote
    def f(*args, **kwargs):
        pass

    with pytest.raises(TypeError, match=r"argument 1 of .*\['locks'\]\[1\].*lock"):
        f.remote({"locks": [1, threading.Lock()]})
    with pytest.raises(TypeError, match=r"argument 'where' of .*lock"):
        f.remote(where=threading.Lock())
    with pytest.raises(TypeError, match="lock"):
        runtime.put([threading.Lock()])

    class Holder:
        def __init__(self):
            self.inner = {"deep": threading.Lock()}

    with pytest.raises(TypeError, match=r"\.inner\['deep'\]"):
        runtime.put(Holder())
    lock = threading.Lock()

    @runtime.remote
    def closes_over_it():
        return lock

    with pytest.raises(TypeError, match="'lock'"):
        closes_over_it.remote()

    @runtime.remote
    def returns_one():
        import threading

        return threading.Lock()

    with pytest.raises(TypeError, match="lock"):
        runtime.get(returns_one.remote())


def test_custom_serializers(runtime):
    class Unpicklable:
        def __init__(self, x):
            self.x = x
            self.lock = threading.Lock()

    with pytest.raises(TypeError):
        runtime.put(Unpicklable(1))
    runtime.util.register_serializer(Unpicklable, serializer=lambda u: u.x, deserializer=Unpicklable)
    try:

        @runtime.remote
        def read(u):
            return u.x

        assert runtime.get(read.remote(Unpicklable(5))) == 5
        assert runtime.get(runtime.put([Unpicklable(6)]))[0].x == 6
    finally:
        runtime.util.deregister_serializer(Unpicklable)
    with pytest.raises(TypeError):
        runtime.put(Unpicklable(1))


def test_put_of_a_reference_says_what_to_do(runtime):
    with pytest.raises(TypeError, match="put it in a list"):
        runtime.put(runtime.put(1))


def test_ten_thousand_arguments(runtime):
    @runtime.remote
    def total(*values):
        return sum(values)

    ref = runtime.put(1)
    assert runtime.get(total.remote(*[ref] * 10_000), timeout=120) == 10_000


def test_three_thousand_returns(runtime):
    @runtime.remote(num_returns=3000)
    def many():
        return list(range(3000))

    assert runtime.get(many.remote(), timeout=120) == list(range(3000))


def test_get_of_an_object_with_ten_thousand_references(runtime):
    refs = [runtime.put(i) for i in range(10_000)]
    back = runtime.get(runtime.put(refs))
    assert back == refs
    assert runtime.get(back[-1]) == 9_999


@pytest.mark.parametrize("count", [0, 1, 2, 255, 256, 257, 1000, 1001, 2000, 2001, 20_000])
def test_a_list_of_references_is_read_as_pickle_does(runtime, count):
    few = [runtime.put(i) for i in range(min(count, 7))]
    refs = [runtime.ObjectRef(few[i % len(few)]) for i in range(count)]  # equal ones are objects of their own
    data, buffers, found = _pickler.dump(refs)
    read = load_references(data, [runtime.ObjectRef(ref) for ref in found])
    assert type(read) is list
    assert read == refs
    assert runtime.get(runtime.put(refs)) == refs


def test_other_values_with_references_are_left_to_pickle(runtime):
    ref = runtime.put(1)
    for value in ([ref, ref], [ref, 1], [[ref]], (ref,), {"a": ref}, [ref, None], ref, [], 1, "text"):
        data, buffers, found = _pickler.dump(value)
        read = load_references(data, [runtime.ObjectRef(each) for each in found])
        assert read is None or (read == value and type(read) is list)
        if value != ref:
            assert runtime.get(runtime.put(value)) == value
    # The same object twice is the same object again.
    first, second = runtime.get(runtime.put([ref, ref]))
    assert first is second


def test_broken_lists_of_references_are_not_read(runtime):
    data, buffers, found = _pickler.dump([runtime.put(i) for i in range(5)])
    refs = [runtime.ObjectRef(ref) for ref in found]
    assert load_references(data, refs) == refs
    for size in range(len(data)):
        assert load_references(data[:size], refs) is None
    random.seed(7)
    for _ in range(20_000):
        broken = bytearray(data)
        for _ in range(random.randint(1, 3)):
            broken[random.randrange(len(broken))] = random.randrange(256)
        read = load_references(bytes(broken), refs)
        assert read is None or (len(read) == len(refs) and all(ref in refs for ref in read))
    assert load_references(data, refs[:-1]) is None
    assert load_references(data, [*refs, refs[0]]) is None
    assert load_references(data, [None] * 5) is None


def test_a_reference_has_one_identity_wherever_it_is_asked_for(runtime):
    @runtime.remote
    def identify(box):
        return [ref.hex() for ref in box for _ in range(2)], [hash(runtime.ObjectRef(ref)) == hash(ref) for ref in box]

    refs = [runtime.put(i) for i in range(3)]
    there, equal = runtime.get(identify.remote(refs))
    assert there == [ref.hex() for ref in refs for _ in range(2)]
    assert len(set(there)) == 3
    assert all(equal)


def test_the_collector_passes_references_by_and_finds_what_holds_them(runtime):
    ref = runtime.put(1)
    assert not gc.is_tracked(ref)

    class Own(runtime.ObjectRef):
        pass

    mine = Own(ref)
    mine.itself = mine
    assert runtime.get(runtime.ObjectRef(mine)) == 1
    gone = weakref.ref(mine)
    cycle = [ref]
    cycle.append(cycle)
    object_of = weakref.ref(ref)
    del ref, mine, cycle
    gc.collect()
    assert gone() is None
    assert object_of() is None


@pytest.mark.parametrize("function", ["_object_ref\nload_ref", "_native\n_loading_ref"])
def test_a_pickle_with_a_reference_is_read_only_where_the_runtime_delivers_it(runtime, function):
    with pytest.raises(pickle.UnpicklingError, match="only where the runtime delivers it"):
        pickle.loads(b"ctrireme." + function.encode() + b"\n(I0\ntR.")
