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
    code = "import time, numpy; start = time.process_time(); import trireme; print(time.process_time() - start)"
    # The best of some: other processes on the machine make single ones slow.
    assert min(float(run(code)) for _ in range(7)) < 0.05
