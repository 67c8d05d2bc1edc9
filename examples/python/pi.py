"""Pi by integration: tasks wherever a core is free, an actor that adds up, references as arguments."""

import math

import trireme

SLICES = 16
STEPS = 200_000


@trireme.remote
def integrate(slice_number):
    """Return the area under 4 / (1 + x^2) over one slice of [0, 1]; all slices together are pi."""
    width = 1.0 / SLICES / STEPS
    start = slice_number / SLICES
    return sum(4 / (1 + (start + (i + 0.5) * width) ** 2) * width for i in range(STEPS))


@trireme.remote
class Statistics:
    """Adds up."""

    def __init__(self):
        self.sum = 0.0

    def add(self, part):
        self.sum += part

    def total(self):
        return self.sum


trireme.init()
parts = [integrate.remote(i) for i in range(SLICES)]
statistics = Statistics.remote()
for part in parts:
    statistics.add.remote(part)  # a reference: the actor gets the value once it is there
pi = trireme.get(statistics.total.remote())
print(f"{len(trireme.nodes())} rank(s): pi = {pi:.9f}")
assert abs(pi - math.pi) < 1e-9
