"""A network with one hidden layer in NumPy, and the Adam optimiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np


class Network:
    """image -> hidden (ReLU) -> class scores; trained on the cross entropy of their softmax."""

    def __init__(self, pixels: int, width: int, classes: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.parameters = {
            "hidden.weight": rng.normal(0, np.sqrt(2 / pixels), (pixels, width)).astype(np.float32),
            "hidden.bias": np.zeros(width, np.float32),
            "output.weight": rng.normal(0, np.sqrt(1 / width), (width, classes)).astype(np.float32),
            "output.bias": np.zeros(classes, np.float32),
        }

    def backward(self, images: np.ndarray, labels: np.ndarray, ready: Callable[[str, np.ndarray], None]) -> float:
        """One forward and backward pass. `ready` gets each gradient as soon as it is known, the last layer's first, so
        that it can travel while the pass goes on. Returns the mean loss."""
        p = self.parameters
        hidden = np.maximum(images @ p["hidden.weight"] + p["hidden.bias"], 0)
        chances = _softmax(hidden @ p["output.weight"] + p["output.bias"])
        rows = np.arange(len(labels))
        loss = float(-np.log(np.maximum(chances[rows, labels], 1e-12)).mean())
        wrong = chances
        wrong[rows, labels] -= 1
        wrong /= len(labels)
        ready("output.bias", wrong.sum(axis=0))
        ready("output.weight", hidden.T @ wrong)
        back = (wrong @ p["output.weight"].T) * (hidden > 0)
        ready("hidden.bias", back.sum(axis=0))
        ready("hidden.weight", images.T @ back)
        return loss

    def accuracy(self, images: np.ndarray, labels: np.ndarray) -> float:
        """Fraction of the images whose highest score is their label's."""
        p = self.parameters
        hidden = np.maximum(images @ p["hidden.weight"] + p["hidden.bias"], 0)
        return float(((hidden @ p["output.weight"] + p["output.bias"]).argmax(axis=1) == labels).mean())


class Adam:
    """Kingma and Ba (2015), on a dict of arrays, in place."""

    def __init__(self, parameters: Mapping[str, np.ndarray], lr: float) -> None:
        self._parameters, self._lr = parameters, lr
        self.state = {"step": np.zeros((), np.int64)}
        for name, value in parameters.items():
            self.state[f"mean.{name}"] = np.zeros_like(value)
            self.state[f"square.{name}"] = np.zeros_like(value)

    def step(self, gradients: Mapping[str, np.ndarray]) -> None:
        """Moves the parameters."""
        self.state["step"] += 1
        t = int(self.state["step"])
        for name, gradient in gradients.items():
            mean, square = self.state[f"mean.{name}"], self.state[f"square.{name}"]
            mean += (1 - 0.9) * (gradient - mean)
            square += (1 - 0.999) * (gradient * gradient - square)
            size = np.sqrt(square / (1 - 0.999**t)) + 1e-8
            self._parameters[name] -= np.float32(self._lr / (1 - 0.9**t)) * mean / size


def _softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
