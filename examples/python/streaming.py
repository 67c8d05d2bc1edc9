"""A producer that yields blocks of a field, consumers that work on them while it goes on, and never far ahead of them."""

import numpy as np

import trireme
from trireme.util import metrics
from trireme.util.tqdm import tqdm

BLOCKS = 8


@trireme.remote(num_returns="streaming", _generator_backpressure_num_objects=2)
def simulate(blocks):
    """Yield one block of the field after the other; at most two wait to be read."""
    generator = np.random.default_rng(seed=1)
    for _ in tqdm(range(blocks), desc="simulate"):
        yield generator.standard_normal((256, 256))


@trireme.remote
def moments(block):
    """Return count, sum and sum of squares; the block is read in place."""
    metrics.Counter("blocks_analysed", "blocks whose moments are known").inc()
    return block.size, block.sum(), np.square(block).sum()


trireme.init()
results = [moments.remote(block) for block in simulate.remote(BLOCKS)]  # each block goes on as a reference
counts, sums, squares = zip(*trireme.get(results), strict=True)
mean = sum(sums) / sum(counts)
deviation = (sum(squares) / sum(counts) - mean**2) ** 0.5
analysed = next(sample.value for sample in metrics.collect() if sample.name == "blocks_analysed")
print(f"{analysed:.0f} blocks: mean {mean:+.2f}, standard deviation {deviation:.2f}")
