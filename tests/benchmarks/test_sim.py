"""trireme-sim on a few thousand ranks: balance, messages, silence, the same figures from the same seed, bad options.

usage: test_sim.py PATH_OF_TRIREME_SIM [unittest options]
"""

from __future__ import annotations

import json
import subprocess
import sys
import unittest

PROGRAM = ""


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROGRAM, *options, "--json", "-"], capture_output=True, text=True, timeout=60, check=False)


def figures(*options: str) -> dict[str, float]:
    """The figures that depend on the seed alone."""
    done = run(*options)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    del result["seconds"], result["memory_mb"]
    return result


class Stealing(unittest.TestCase):
    RANKS = 3000

    def figures(self, workload: str, seed: int = 1) -> dict[str, float]:
        return figures("--ranks", str(self.RANKS), "--cores", "2", "--tasks-per-core", "20", "--workload", workload,
                       "--seed", str(seed))

    def test_work_of_one_rank_keeps_thousands_busy_by_few_messages(self) -> None:
        for workload in ("bag", "tree", "uts", "ramp"):
            with self.subTest(workload):
                found = self.figures(workload)
                self.assertEqual(found["tasks"], self.RANKS * 2 * 20)
                self.assertGreater(found["efficiency"], 0.9)
                self.assertLessEqual(found["efficiency"], 1)
                self.assertGreater(found["messages"], self.RANKS)  # nobody gets work without asking
                self.assertLess(found["messages_per_task"], 8)

    def test_idle_ranks_fall_silent(self) -> None:
        # The run ends when no event is left, so silence is what ends it; these count what came before.
        found = self.figures("bag")
        self.assertLess(found["messages_before_work"], 30 * self.RANKS)
        self.assertLess(found["messages_after_work"], self.RANKS)

    def test_a_seed_gives_the_same_run_and_another_seed_another(self) -> None:
        self.assertEqual(self.figures("uts", seed=7), self.figures("uts", seed=7))
        self.assertNotEqual(self.figures("uts", seed=7)["messages"], self.figures("uts", seed=8)["messages"])


class Placement(unittest.TestCase):
    def figures(self, seed: int = 1) -> dict[str, float]:
        return figures("--ranks", "200", "--cores", "4", "--tasks-per-core", "20", "--workload", "placement",
                       "--seed", str(seed))

    def test_tasks_with_resources_keep_all_ranks_busy(self) -> None:
        found = self.figures()
        self.assertEqual(found["tasks"], 200 * 4 * 20)
        self.assertGreater(found["efficiency"], 0.8)
        self.assertLessEqual(found["efficiency"], 1)
        self.assertGreaterEqual(found["messages_per_task"], 1)
        self.assertLess(found["messages_per_task"], 12)
        self.assertEqual(found["messages_after_work"], 0)

    def test_thousands_of_ranks_are_placed_on_through_the_index(self) -> None:
        found = figures("--ranks", "2000", "--tasks-per-core", "20", "--workload", "placement")
        self.assertEqual(found["tasks"], 2000 * 20)
        self.assertGreater(found["efficiency"], 0.8)
        self.assertLess(found["messages_per_task"], 8)
        self.assertEqual(found["messages_after_work"], 0)

    def test_a_seed_gives_the_same_run(self) -> None:
        self.assertEqual(self.figures(seed=5), self.figures(seed=5))


class BadOptions(unittest.TestCase):
    def test_a_value_that_makes_no_sense_is_refused_by_name(self) -> None:
        for option, value in (("--ranks", "0"), ("--ranks", "many"), ("--workload", "nonsense"), ("--task-ms", "0"),
                              ("--task-ms", "-3"), ("--tasks-per-core", "0"), ("--submitters", "0"),
                              ("--outstanding", "0"), ("--gbytes-per-s", "0"), ("--latency-far-us", "-1"),
                              ("--spread", "2"), ("--no-such-option", "1")):
            with self.subTest(option, value=value):
                done = run(option, value)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(option, done.stderr + done.stdout)
                self.assertNotIn("broken invariant", done.stderr)

    def test_more_submitters_than_ranks_are_refused_with_both_numbers(self) -> None:
        done = run("--workload", "placement", "--ranks", "4", "--submitters", "5")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("asked 5 of a job of 4 ranks", done.stderr + done.stdout)


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    unittest.main()
