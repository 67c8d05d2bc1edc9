"""A C++ library (field.cpp) called from Python with NumPy arrays.

python use_field.py PATH_OF_libfield.so
mpirun -n 2 trireme run use_field.py PATH_OF_libfield.so
"""

import sys

import numpy as np

import trireme
from trireme import cross_language

trireme.init()
trireme.load_library(sys.argv[1])
diffuse = cross_language.cpp_function("diffuse")
monitor = cross_language.cpp_actor_class("Monitor").remote("heat")

field = np.zeros((400, 400))
field[200, 200] = 1000.0
step = trireme.put(field)
for _ in range(10):
    step = diffuse.remote(step, 0.2)  # a reference: each step reads the one before where it lies
    monitor.show.remote(step)

norms = trireme.get(monitor.norms.remote())
heat = trireme.get(step).sum()
print(f"{trireme.get(monitor.name.remote())}: norm {norms[0]:.3f} -> {norms[-1]:.3f}, total {heat:.3f}")
assert len(norms) == 10 and all(a > b for a, b in zip(norms, norms[1:])), norms
assert abs(heat - 1000.0) < 1e-6
