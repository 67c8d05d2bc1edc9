"""A program written for Ray, run as it is: trireme run --ray ray_program.py"""

import ray
from ray.util import ActorPool
from ray.util.queue import Queue


@ray.remote
class Squarer:
    """Squares numbers and says so in a queue."""

    def __init__(self, results):
        self.results = results

    def square(self, value):
        self.results.put((value, value * value))
        return value * value


ray.init()
results = Queue()
pool = ActorPool([Squarer.remote(results) for _ in range(2)])
print(list(pool.map(lambda actor, value: actor.square.remote(value), range(6))))
print(sorted(results.get_nowait_batch(6))[-1])
