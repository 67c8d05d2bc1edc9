"""Plain values take a path of their own through the compiled module: it must give what the pickle module gives."""

from __future__ import annotations

import gc
import math
import os
import pickle
import random
import time
import weakref

import numpy as np
import pytest

import trireme
from trireme import _native

from conftest import eventually

ATOMS = [
    None, True, False, 0, 1, -1, 255, 256, 65535, 65536, 2**31 - 1, -(2**31), 0.0, -0.0, 1.5, math.inf, -math.inf,
    1e-320, b"", b"\0", b"x" * 255, "", "a", "\0", "\u00e9\u20ac\U0001f600", "x" * 255,
]  # fmt: skip
BEYOND = [2**31, -(2**31) - 1, 10**40, b"x" * 256, "x" * 256, "\u20ac" * 200, 1j, bytearray(b"a"), [1], {}, object, "\udc80"]


def same(a, b) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return a.hex() == b.hex()
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize("value", ATOMS, ids=repr)
def test_an_atom_is_written_and_read_as_pickle_does(value):
    written = _native.dump_plain(value)
    assert same(pickle.loads(written), value)
    for protocol in (4, 5):
        assert same(_native.load_plain(pickle.dumps(value, protocol)), value)


@pytest.mark.parametrize("value", BEYOND, ids=lambda v: repr(v)[:20])
def test_what_is_no_atom_is_left_to_pickle(value):
    assert _native.dump_plain(value) is None
    assert _native.dump_plain((1, value)) is None


def test_tuples_of_any_length():
    chosen = random.Random(7)
    for length in [*range(12), 40, 63]:
        value = tuple(chosen.choice(ATOMS) for _ in range(length))
        assert same(pickle.loads(_native.dump_plain(value)), value)
        assert same(_native.load_plain(_native.dump_plain(value)), value)
    assert _native.dump_plain((0,) * 64) is None
    assert same(_native.load_plain(pickle.dumps(((1, 2), "a", (b"x",)), 5)), ((1, 2), "a", (b"x",)))


def test_a_broken_pickle_is_not_read():
    whole = pickle.dumps((1, "text", [b"bytes", (2.5, [])], {}, None), 5)
    for size in range(len(whole)):
        assert _native.load_plain(whole[:size]) is NotImplemented
    assert _native.load_plain(whole + b".") is NotImplemented
    chosen = random.Random(3)
    for _ in range(3000):
        broken = bytearray(whole)
        for _ in range(chosen.randrange(1, 4)):
            broken[chosen.randrange(len(broken))] = chosen.randrange(256)
        _native.load_plain(bytes(broken))  # anything but a crash


def test_references_to_others_are_left_to_pickle():
    text = "shared" * 3
    assert _native.load_plain(pickle.dumps((text, text), 5)) is NotImplemented
    assert _native.load_plain(pickle.dumps({"a": 1}, 5)) is NotImplemented
    value = [1]
    value.append(value)
    assert _native.load_plain(pickle.dumps(value, 5)) is NotImplemented


def test_lists_are_read():
    for value in ([], [1], [1, "a", None], [[], [1, (2, [b"x"])], ()], [(1, None, 2, 3), {}, [1]]):
        for protocol in (4, 5):
            assert same(_native.load_plain(pickle.dumps(value, protocol)), value)


@pytest.fixture(scope="module")
def echo(runtime):
    @trireme.remote
    def echo(*args, **kwargs):
        return (args, kwargs) if kwargs else args[0] if len(args) == 1 else args

    return echo


@pytest.mark.parametrize("value", [*ATOMS, *BEYOND[:8], (1, (2, [3])), [{"a": 1}]], ids=lambda v: repr(v)[:20])
def test_values_come_back_the_same(echo, value):
    assert same(trireme.get(trireme.put(value)), value)
    assert same(trireme.get(echo.remote(value)), value)
    assert same(trireme.get([echo.remote(value), trireme.put(value)])[0], value)


def test_arguments_by_position_and_name(echo):
    assert trireme.get(echo.remote(1, "b", None, 2.5, b"c")) == (1, "b", None, 2.5, b"c")
    assert trireme.get(echo.remote(1, b=2)) == ((1,), {"b": 2})
    assert trireme.get(echo.remote([1, 2], {"a": 1})) == ([1, 2], {"a": 1})
    assert trireme.get(echo.remote(echo.remote(7), 8)) == (7, 8)


def test_references_among_plain_arguments(echo):
    one, pair, array, text = map(trireme.put, (1, (2, "b"), np.arange(3), "long" * 5000))
    assert trireme.get(echo.remote(one)) == 1
    assert trireme.get(echo.remote(0, pair, None, one, "d", 2.5)) == (0, (2, "b"), None, 1, "d", 2.5)
    got = trireme.get(echo.remote(array, text, [1], echo.remote(array), echo.remote([one])))
    assert got[0].tolist() == got[3].tolist() == [0, 1, 2] and got[1] == "long" * 5000 and got[2] == [1]
    assert trireme.get(got[4]) == [1]
    assert trireme.get(echo.remote("x" * 1000, one)) == ("x" * 1000, 1)
    assert trireme.get(echo.remote(one, key=pair)) == ((1,), {"key": (2, "b")})


def test_a_reference_among_the_arguments_of_a_call_that_fails_is_there_again_in_its_retry(runtime, tmp_path):
    @trireme.remote(max_retries=1, retry_exceptions=True)
    def once(mark, value):
        if not mark.exists():
            mark.write_text("")
            raise ValueError(value)
        return value

    assert trireme.get(once.remote(trireme.put(tmp_path / "mark"), trireme.put((1, "a")))) == (1, "a")


def test_a_long_chain_of_calls_fails_with_the_first(runtime, tmp_path):
    @trireme.remote
    def begin():
        while not (tmp_path / "the chain is there").exists():
            time.sleep(0.01)
        raise ValueError("first")

    @trireme.remote
    def pass_on(value):
        return value

    ref = begin.remote()
    for _ in range(5000):
        ref = pass_on.remote(ref)
    (tmp_path / "the chain is there").touch()
    with pytest.raises(ValueError, match="first"):
        trireme.get(ref, timeout=60)


def test_a_wrong_number_of_arguments_is_refused_where_the_call_is_made(runtime):
    @trireme.remote
    def two(a, b=0):
        return a, b

    assert trireme.get(two.remote(1)) == (1, 0)
    for args in [(), (1, 2, 3)]:
        with pytest.raises(TypeError, match="two"):
            two.remote(*args)


def test_a_failing_plain_call_keeps_its_traceback_and_is_retried(runtime):
    @trireme.remote(max_retries=2, retry_exceptions=[KeyError])
    def fails(kind):
        if kind == "key":
            trireme.get_runtime_context()
            raise KeyError("k")
        raise ZeroDivisionError("divided")

    with pytest.raises(ZeroDivisionError, match="divided") as caught:
        trireme.get(fails.remote("zero"))
    assert "in fails" in str(caught.value)
    with pytest.raises(KeyError):
        trireme.get(fails.remote("key"))

    @trireme.remote
    class Counter:
        def __init__(self):
            self.n = 0

        @trireme.method(max_task_retries=3, retry_exceptions=True)
        def at_third(self):
            self.n += 1
            if self.n < 3:
                raise ValueError(self.n)
            return self.n

    assert trireme.get(Counter.remote().at_third.remote()) == 3


def test_a_result_that_cannot_be_pickled(runtime):
    @trireme.remote
    def lock():
        import threading

        return threading.Lock()

    with pytest.raises(TypeError, match="lock"):
        trireme.get(lock.remote())


def test_a_method_that_raises_timeout_error_is_no_timeout_of_get(runtime):
    @trireme.remote
    def late():
        raise TimeoutError("of the task")

    with pytest.raises(TimeoutError, match="of the task") as caught:
        trireme.get(late.remote())
    assert not isinstance(caught.value, trireme.exceptions.GetTimeoutError)


def test_get_of_one_and_of_many_times_out_once(runtime):
    @trireme.remote
    class Gate:
        def __init__(self):
            self.open = False

        async def wait(self):
            import asyncio

            while not self.open:
                await asyncio.sleep(0.01)
            return "open"

        async def let(self):
            self.open = True

    gate = Gate.remote()
    waiting = gate.wait.remote()
    ready = trireme.put(1)
    with pytest.raises(trireme.exceptions.GetTimeoutError, match="1 of 1"):
        trireme.get(waiting, timeout=0.05)
    begin = time.monotonic()
    with pytest.raises(trireme.exceptions.GetTimeoutError, match="1 of 2"):
        trireme.get([ready, waiting], timeout=3)
    assert time.monotonic() - begin < 5.9
    assert trireme.wait([waiting, ready], timeout=0) == ([ready], [waiting])
    gate.let.remote()
    assert trireme.get([ready, waiting]) == [1, "open"]


def test_an_error_among_many_comes_before_the_rest_is_there(runtime):
    @trireme.remote
    def fails():
        raise LookupError("early")

    @trireme.remote
    class Never:
        async def end(self):
            import asyncio

            await asyncio.Event().wait()

    never = Never.remote()
    with pytest.raises(LookupError, match="early"):
        trireme.get([trireme.put(1), never.end.remote(), fails.remote()])


def test_wait_splits_in_the_order_of_the_list(echo):
    refs = [echo.remote(i) for i in range(30)]
    trireme.get(refs)
    assert trireme.wait(refs, num_returns=3) == (refs[:3], refs[3:])
    assert trireme.wait(refs, num_returns=30) == (refs, [])
    ready, rest = trireme.wait(tuple(refs), num_returns=2)
    assert (ready, rest) == (refs[:2], refs[2:])
    seen = []
    left = [echo.remote(i) for i in range(200)]
    while left:
        ready, left = trireme.wait(left, num_returns=min(7, len(left)))
        seen += trireme.get(ready)
    assert sorted(seen) == list(range(200))


def test_wait_for_more_than_are_ready_again_and_again(runtime, tmp_path):
    @trireme.remote(num_cpus=0)
    def after(gate):
        while gate is not None and not gate.exists():
            time.sleep(0.01)

    slow = after.remote(tmp_path / "gate")
    refs = [slow, *(after.remote(None) for _ in range(6))]
    ready, rest = trireme.wait(refs, num_returns=6)
    assert rest == [slow] and len(ready) == 6
    assert trireme.wait([slow], timeout=0.0) == ([], [slow])
    (tmp_path / "gate").touch()
    assert trireme.wait([slow], num_returns=1) == ([slow], [])


def test_wait_refuses_what_is_twice_in_the_list(runtime):
    one, other = trireme.put(1), trireme.put(2)
    with pytest.raises(ValueError, match="twice"):
        trireme.wait([one, other, one])
    assert trireme.wait([one, other]) == ([one], [other])  # and goes on


def test_a_reference_is_counted_once_however_it_is_copied(runtime):
    ref = trireme.put("x" * 100_000)
    copy = type(ref)(ref)
    assert copy == ref and hash(copy) == hash(ref) and len({ref, copy}) == 1
    assert repr(copy) == repr(ref)
    del ref
    assert trireme.get(copy) == "x" * 100_000
    gone = weakref.ref(copy)
    del copy
    gc.collect()
    assert gone() is None
    with pytest.raises(TypeError):
        trireme.ObjectRef()
    with pytest.raises(TypeError):
        trireme.ObjectRef("abc")


def test_calls_of_a_handle_end_with_it(runtime):
    """A method that was called keeps the actor no longer than the handle does."""

    @trireme.remote
    class Short:
        def pid(self):
            return os.getpid()

    handle = Short.remote()
    pid = trireme.get(handle.pid.remote())
    gone = weakref.ref(handle)
    del handle
    assert gone() is None
    eventually(lambda: not os.path.exists(f"/proc/{pid}"))
