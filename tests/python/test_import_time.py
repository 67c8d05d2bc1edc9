"""`import trireme` costs little beyond NumPy and brings no heavy library along."""

# ctest: one rank

import subprocess
import sys

HEAVY = ("torch", "pandas", "sklearn", "joblib", "h5py", "matplotlib", "optuna", "asyncio", "multiprocessing.pool")


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True).stdout


def test_no_heavy_library_is_imported():
    loaded = run("import sys, trireme; print(' '.join(sys.modules))").split()
    assert "trireme" in loaded
    assert not [name for name in HEAVY if name in loaded]


def test_importing_takes_less_than_50_ms_of_processor_time_beyond_numpy():
    code = """
import time
begin = time.process_time()
import numpy
middle = time.process_time()
import trireme
print(middle - begin, time.process_time() - middle)
"""
    times = [[float(part) for part in run(code).split()] for _ in range(7)]
    # The best of some: other processes on the machine make single ones slow. A machine on which NumPy takes more than
    # 70 ms is slower, or busier, than the one that the 50 ms are meant for, and gets as much more.
    numpy, ours = (min(column) for column in zip(*times))
    assert ours < 0.05 * max(1.0, numpy / 0.07), (numpy, ours)
