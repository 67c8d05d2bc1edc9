"""Many at once: actors, tasks in flight, arguments, results, and large arrays. conftest.py checks that nothing stays.

TRIREME_TEST_FULL=1 takes the full sizes; the arena must then hold four arrays of 1 GiB (TRIREME_ARENA_BYTES=5g).
"""

# ctest: timeout 300

import os

import pytest

from conftest import eventually

FULL = os.environ.get("TRIREME_TEST_FULL") == "1"
ACTORS = 200 if FULL else 60
TASKS = 100_000 if FULL else 30_000
ARGUMENTS = 10_000
RETURNS = 3_000
ARRAY_BYTES = 1 << 30 if FULL else 32 << 20
TIMEOUT = 280

np = pytest.importorskip("numpy")


def test_actors(runtime):
    @runtime.remote(num_cpus=0)
    class Counter:
        def __init__(self, number):
            self.number = number
            self.calls = 0

        def add(self):
            self.calls += 1
            return self.number, self.calls

        def pid(self):
            return os.getpid()

    actors = [Counter.remote(i) for i in range(ACTORS)]
    for turn in range(1, 4):
        assert runtime.get([a.add.remote() for a in actors], timeout=TIMEOUT) == [(i, turn) for i in range(ACTORS)]
    assert len(set(runtime.get([a.pid.remote() for a in actors], timeout=TIMEOUT))) == ACTORS


def test_tasks_in_flight(runtime, tmp_path):
    @runtime.remote(num_cpus=0)
    def gate():
        import time

        while not (tmp_path / "open").exists():
            time.sleep(0.01)
        return 1

    @runtime.remote
    def add(x, y):
        return x + y

    one = gate.remote()
    waiting = [add.remote(i, one) for i in range(TASKS)]
    assert not runtime.wait(waiting, num_returns=1, timeout=0)[0]
    (tmp_path / "open").touch()
    assert runtime.get(waiting, timeout=TIMEOUT) == list(range(1, TASKS + 1))
    free = [add.remote(i, 2) for i in range(TASKS)]
    assert sum(runtime.get(free, timeout=TIMEOUT)) == sum(range(TASKS)) + 2 * TASKS


def test_arguments(runtime):
    @runtime.remote
    def total(*numbers, **named):
        return sum(numbers) + sum(named.values())

    plain = list(range(ARGUMENTS))
    refs = [runtime.put(i) for i in plain]
    assert runtime.get(total.remote(*plain), timeout=TIMEOUT) == sum(plain)
    assert runtime.get(total.remote(*refs), timeout=TIMEOUT) == sum(plain)
    assert runtime.get(total.remote(**{f"a{i}": ref for i, ref in enumerate(refs)}), timeout=TIMEOUT) == sum(plain)

    @runtime.remote
    def total_of(held):
        return sum(runtime.get(held))

    assert runtime.get(total_of.remote(refs), timeout=TIMEOUT) == sum(plain)


def test_returns(runtime):
    @runtime.remote(num_returns=RETURNS)
    def many():
        return list(range(RETURNS))

    refs = many.remote()
    assert runtime.get(refs, timeout=TIMEOUT) == list(range(RETURNS))

    @runtime.remote
    def stream():
        yield from range(RETURNS)

    assert [runtime.get(ref) for ref in stream.remote()] == list(range(RETURNS))


def test_large_arrays(runtime):
    count = ARRAY_BYTES // 8

    @runtime.remote
    def make(value):
        return np.full(count, value, dtype=np.float64)

    @runtime.remote
    def ends(array):
        return array.nbytes, float(array[0]), float(array[-1]), array.flags.writeable

    own = runtime.put(np.full(count, 1.5))
    assert runtime.get(ends.remote(own), timeout=TIMEOUT) == (ARRAY_BYTES, 1.5, 1.5, False)
    for value in range(3):
        made = make.remote(value)
        assert runtime.get(ends.remote(made), timeout=TIMEOUT) == (ARRAY_BYTES, value, value, False)
        array = runtime.get(made, timeout=TIMEOUT)
        assert array[count // 2] == value
        del array, made
    del own
    # What was freed is there again: an array that leaves room for no second one.
    eventually(lambda: runtime.get(ends.remote(make.remote(7)), timeout=TIMEOUT)[1] == 7)
