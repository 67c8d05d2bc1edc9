"""Regression and upper confidence bounds with a Gaussian process whose function changes with time.

After Parker-Holder et al., Provably Efficient Online Hyperparameter Optimization with Population-Based Bandits (2020), and
Bogunovic et al., Time-Varying Gaussian Process Bandit Optimization (2016): the covariance of two points is a squared
exponential of their distance times ``(1 - forgetting) ** (|t - t'| / 2)``.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

Array = np.ndarray

#: What is tried for the highest likelihood. Distances are in units of the box that the points lie in, times of an interval.
_LENGTHS = (0.1, 0.2, 0.4, 0.8, 1.6)
_FORGETTING = (0.001, 0.03, 0.1, 0.3)
_NOISES = (1e-3, 1e-2, 1e-1)
#: Candidates for the largest bound: at first, and around the best in each of the rounds after that.
_CANDIDATES, _ROUNDS, _NEIGHBOURS = 1000, 4, 100


@dataclass(frozen=True)
class Kernel:
    """The covariance of points. Amplitude 1: what it is for is standardised."""

    length: float
    forgetting: float

    def __call__(self, times: Array, points: Array, other_times: Array, other_points: Array) -> Array:
        """Of each point, ``(n, d)`` at times ``(n,)``, with each of the others, ``(m, d)``; ``(n, m)``."""
        distances = ((points[:, None, :] - other_points[None, :, :]) ** 2).sum(-1)
        ages = np.abs(times[:, None] - other_times[None, :])
        return np.exp(-distances / (2 * self.length**2)) * (1 - self.forgetting) ** (ages / 2)


class GaussianProcess:
    """The process given some values.

    Parameters
    ----------
    times, points, values
        ``(n,)``, ``(n, d)`` and ``(n,)``; the values with a mean of about 0 and a deviation of about 1.
    kernel, noise
        The covariance, and the variance of what is observed beside the function's value.

    Threading: immutable.
    """

    def __init__(self, times: Array, points: Array, values: Array, kernel: Kernel, noise: float) -> None:
        self._times, self._points, self.kernel, self.noise = times, points, kernel, noise
        covariance = kernel(times, points, times, points)
        covariance[np.diag_indices_from(covariance)] += noise
        self._root = np.linalg.cholesky(covariance)
        self._weights = np.linalg.solve(self._root.T, np.linalg.solve(self._root, values))
        log_root = np.log(np.diag(self._root)).sum()
        self.log_likelihood = float(-0.5 * values @ self._weights - log_root - 0.5 * len(values) * np.log(2 * np.pi))

    @classmethod
    def fit(cls, times: Array, points: Array, values: Array) -> GaussianProcess:
        """That whose kernel makes the values the most likely."""
        fits = (
            cls(times, points, values, Kernel(length, forgetting), noise)
            for length, forgetting, noise in itertools.product(_LENGTHS, _FORGETTING, _NOISES)
        )
        return max(fits, key=lambda fit: fit.log_likelihood)

    def mean(self, times: Array, points: Array) -> Array:
        """What is expected at these points."""
        return self.kernel(times, points, self._times, self._points) @ self._weights

    def deviation(self, times: Array, points: Array) -> Array:
        """How uncertain that is."""
        across = np.linalg.solve(self._root, self.kernel(self._times, self._points, times, points))
        return np.sqrt(np.maximum(1.0 - (across**2).sum(0), 1e-12))

    def with_points(self, times: Array, points: Array) -> GaussianProcess:
        """The process that also knows what comes of these points, whatever that is: its deviations are what counts."""
        every = np.concatenate([self._times, times]), np.concatenate([self._points, points])
        return GaussianProcess(*every, np.zeros(len(every[0])), self.kernel, self.noise)


def best_point(
    process: GaussianProcess, pending: tuple[Array, Array], time: float, fixed: Array, free: int, rng: np.random.Generator
) -> Array:
    """Where the upper confidence bound is largest.

    Parameters
    ----------
    process
        Given what is known.
    pending
        Times and points of which the values are still to come: no use in looking there again.
    time, fixed
        When the point is for, and its first coordinates, which are given.
    free
        How many coordinates are to be chosen, each from 0 to 1.

    Returns
    -------
    array of shape (free,)
    """
    uncertain = process.with_points(*pending) if len(pending[0]) else process
    confidence = np.sqrt(0.2 * free * np.log(2 * (len(uncertain._times) + 1)))

    def bounds(candidates: Array) -> Array:
        points = np.hstack([np.tile(fixed, (len(candidates), 1)), candidates])
        times = np.full(len(points), time)
        return process.mean(times, points) + confidence * uncertain.deviation(times, points)

    candidates = rng.random((_CANDIDATES, free))
    width = 0.2
    best = candidates[int(np.argmax(bounds(candidates)))]
    for _ in range(_ROUNDS):
        near = np.clip(best + width * rng.standard_normal((_NEIGHBOURS, free)), 0.0, 1.0)
        candidates = np.vstack([best, near])
        best = candidates[int(np.argmax(bounds(candidates)))]
        width /= 3
    return best
