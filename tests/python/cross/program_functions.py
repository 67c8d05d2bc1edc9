"""What program.cpp calls."""

import os

import numpy as np

import trireme


def echo(value):
    return value


def double(array):
    assert not array.flags.writeable
    return array * 2


def raise_value_error(text):
    raise ValueError(text)


def complain():
    return object()


@trireme.remote
def remote_add(a, b=10):
    return a + b


class Counter:
    def __init__(self, start=0):
        if start < 0:
            raise ValueError("a counter does not start below 0")
        self.value = start

    def add(self, amount):
        self.value += amount
        return self.value

    def leave(self):
        os._exit(3)

    def zeros(self, n):
        return np.zeros((2, n), np.float32)


NUMBER = 3
