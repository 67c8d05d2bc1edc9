"""Asynchronous descent: workers fetch parameters from an actor, compute gradients on their data, and send them back."""

import numpy as np

import trireme

DIMENSION = 10
SAMPLES = 2_000
ROUNDS = 60


@trireme.remote
class ParameterServer:
    """Holds the parameters of a linear model and applies gradients as they come."""

    def __init__(self, dimension, rate):
        self.weights = np.zeros(dimension)
        self.rate = rate

    def apply(self, gradient):
        self.weights -= self.rate * gradient
        return self.weights

    def current(self):
        return self.weights


@trireme.remote
def gradient(weights, features, targets):
    """Return the gradient of the mean squared error on one part of the data."""
    return 2 * features.T @ (features @ weights - targets) / len(targets)


trireme.init()
generator = np.random.default_rng(seed=7)
truth = generator.standard_normal(DIMENSION)
parts = []
for _ in range(4):
    features = generator.standard_normal((SAMPLES, DIMENSION))
    parts.append((trireme.put(features), trireme.put(features @ truth)))

server = ParameterServer.remote(DIMENSION, rate=0.1)
running = {gradient.remote(server.current.remote(), *part): part for part in parts}
for _ in range(ROUNDS):
    (done,), _ = trireme.wait(list(running))
    part = running.pop(done)
    running[gradient.remote(server.apply.remote(done), *part)] = part
error = np.abs(trireme.get(server.current.remote()) - truth).max()
print(f"largest error of {DIMENSION} weights: {'below 0.01' if error < 0.01 else error}")
assert error < 0.01
