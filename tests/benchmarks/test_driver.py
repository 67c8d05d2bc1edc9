"""The benchmark driver keeps its promises: systems in turn, ratios turn by turn, absent peers named."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import check  # noqa: E402
from driver import picture, report  # noqa: E402
from driver.measure import Comparison, Figures, Runner, spread_of  # noqa: E402
from driver.spec import Command, Goal, Measure, Programs, load_rows  # noqa: E402

FAKE = "open(r'{log}', 'a').write('{name} '); print('noise'); print('{{\"unit\": \"ns\", \"value\": {value}}}')"


def measure(**changes: object) -> Measure:
    usual: dict[str, object] = {
        "row": "row", "name": "m", "what": "", "subject": Command("Trireme", "ours"),
        "anchors": (Command("peer", "theirs"),), "goals": (Goal(anchor="peer", at_most=1.5),), "wall": False,
        "polls": 0, "full_only": False, "once": False, "quick_repeats": 0, "limit": "", "session": ""}
    return Measure(**{**usual, **changes})  # type: ignore[arg-type]


class DriverTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.log = self.folder / "log"

    def runner(self, extra: dict[str, object] | None = None, quick: bool = False) -> Runner:
        def fake(name: str, value: float) -> dict[str, object]:
            return {"peer": name, "command": ["{python}", "-c", FAKE.format(log=self.log, name=name, value=value)]}

        manifest = self.folder / "programs.json"
        manifest.write_text(json.dumps({"ours": fake("A", 30), "theirs": fake("B", 10), **(extra or {})}))
        return Runner(Programs(manifest, self.folder / "peers"), self.folder, repeats=5, quick=quick)

    def test_systems_take_turns(self) -> None:
        (result,) = self.runner().compare([measure()])
        self.assertEqual(self.log.read_text().split(), ["B", "A"] * 5)
        self.assertEqual(result.ratios, [3.0] * 5)
        self.assertEqual(result.verdict(), "missed by 2.00x")

    def test_a_run_that_is_ended_leaves_its_results_and_no_program(self) -> None:
        # The second measure's program says who it is and never ends.
        endless = f"import os, time; open(r'{self.log}', 'w').write(str(os.getpid())); os.kill(os.getppid(), 15); time.sleep(600)"
        goals = {"rows": [{"row": "row", "goal": "", "measures": [
            {"name": name, "what": "", "subject": {"program": name}} for name in ("ours", "endless")]}]}
        (self.folder / "benchmarks").mkdir()
        self.runner({"endless": {"peer": "E", "command": ["{python}", "-c", endless]}})
        (self.folder / "programs.json").rename(self.folder / "benchmarks" / "programs.json")
        (self.folder / "goals.json").write_text(json.dumps(goals))
        out = self.folder / "results.json"
        done = subprocess.run([sys.executable, str(BENCHMARKS / "run.py"), "--build", str(self.folder), "--out", str(out),
                               "--goals", str(self.folder / "goals.json"), "--repeats", "1", "--only", "."],
                              capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 130, done.stderr)
        self.assertIn("ended by SIGTERM after 1 comparisons", done.stderr)
        self.assertEqual([record["value"] for record in json.loads(out.read_text())], [30])
        self.assertFalse(Path(f"/proc/{self.log.read_text()}").exists())

    def test_a_quick_run_takes_fewer_turns_of_what_says_so(self) -> None:
        for quick, turns in ((True, 3), (False, 5)):
            self.log.write_text("")
            (result,) = self.runner(quick=quick).compare([measure(quick_repeats=3)])
            self.assertEqual(self.log.read_text().split(), ["B", "A"] * turns)
            self.assertEqual(len(result.ratios), turns)

    def test_cases_of_a_session_share_a_process_each_turn(self) -> None:
        text = (f"import sys; open(r'{self.log}', 'a').write('A ')\n"
                "for i, case in enumerate(sys.argv[1].split(',')): print('{\"case\": \"%s\", \"unit\": \"us\", \"value\": %d}'"
                " % (case, i + 1))")
        runner = self.runner({"ours": {"peer": "A", "command": ["{python}", "-c", text]}})
        first, second, third = (
            measure(name=case, subject=Command("Trireme", "ours", (case,), session=True), anchors=anchors, goals=goals)
            for case, anchors, goals in (
                ("x", (Command("peer", "theirs", scale=0.001, unit="us"),), (Goal("peer", at_most=100),)),
                ("y", (), ()), ("x", (), ())))
        x, y, again = runner.compare([first, second, third])
        self.assertEqual(self.log.read_text().split(), ["B", "A"] * 5)
        self.assertEqual((x.subject_figures.values, y.subject_figures.values), ([1] * 5, [2] * 5))
        self.assertEqual(again.subject_figures.values, [1] * 5)
        self.assertAlmostEqual(x.ratios[0], 100)

    def test_a_case_that_fails_leaves_the_others_of_its_session(self) -> None:
        text = ("print('{\"case\": \"x\", \"error\": \"x: no luck\"}')\n"
                "print('{\"case\": \"y\", \"unit\": \"us\", \"value\": 2}')\n"
                "print('{broken'); raise SystemExit('the end')")
        runner = self.runner({"ours": {"peer": "A", "command": ["{python}", "-c", text]}})
        commands = [Command("Trireme", "ours", (case,), session=True) for case in ("x", "y", "z")]
        results = runner.compare([measure(anchors=(), goals=(), subject=command) for command in commands])
        self.assertEqual([r.subject_figures is None for r in results], [True, False, True])
        self.assertIn("no luck", results[0].note)
        self.assertIn("the end", results[2].note)

    def test_peers_are_found_in_their_environment(self) -> None:
        entry = {"theirs": {"peer": "Ray", "version": "", "command": ["{peers}", "-c", ""]}}
        manifest = self.folder / "programs.json"
        manifest.write_text(json.dumps(entry))
        peers = self.folder / "peers"
        self.assertIn("make bench-peers", Programs(manifest, peers).why_missing(Command("Ray", "theirs")))
        (peers / "lib/python3.11/site-packages/ray-2.55.1.dist-info").mkdir(parents=True)
        found = Programs(manifest, peers)
        self.assertIsNone(found.why_missing(Command("Ray", "theirs")))
        self.assertEqual(found.versions(), {"Ray": "2.55.1"})
        self.assertEqual(found.argv(Command("Ray", "theirs"), "python")[0], str(peers / "bin" / "python"))

    def test_each_goal_stands_at_its_anchor_and_a_bound_on_the_value_at_the_first(self) -> None:
        goals = (Goal("b", at_most=2), Goal(value_at_most=5))
        m = measure(anchors=(Command("a", "x"), Command("b", "y")), goals=goals)
        self.assertEqual([m.goal_against(name) for name in ("a", "b", None)], [goals[1], goals[0], goals[1]])

    def test_none_as_a_bound_is_met_by_nothing_only(self) -> None:
        goal = Goal(value_at_most=0)
        self.assertEqual(goal.excess(0.0, None), 1)
        self.assertEqual(goal.excess(1.0, None), float("inf"))

    def test_check_tells_what_got_worse_from_noise(self) -> None:
        def record(**changes: object) -> dict:
            return {"name": "m", "unit": "us/call", "value": 1.0, "anchor": "Ray", "ratio": 0.5, "spread": 0.05, **changes}

        def worse(before: dict, after: dict) -> bool | None:
            found = check.change(before, after)
            return None if found is None else found[0] > found[1]

        self.assertTrue(worse(record(), record(ratio=0.7)))
        self.assertFalse(worse(record(), record(ratio=0.58)))
        self.assertTrue(worse(record(unit="GB/s"), record(unit="GB/s", ratio=0.3)))
        self.assertFalse(worse(record(unit="GB/s"), record(unit="GB/s", ratio=0.9)))
        count = {"anchor": None, "ratio": None, "spread": 0.0}
        for what, before, after in (("instructions", 1000, 1030), ("allocations", 0, 1)):
            unit = f"{what}/op"
            self.assertTrue(worse(record(**count, unit=unit, value=before), record(**count, unit=unit, value=after)))
        self.assertIsNone(worse(record(**count), record(**count, value=9.0)))  # a time without an anchor

    def test_absent_peer_is_named_and_the_other_side_still_runs(self) -> None:
        runner = self.runner({"theirs": {"peer": "CAF", "missing": "libcaf-dev"}})
        (result,) = runner.compare([measure()])
        self.assertIn("CAF is not installed (libcaf-dev)", result.note)
        self.assertEqual(len(result.subject_figures.values), 5)
        self.assertEqual(result.verdict(), "")

    def test_failing_program_gives_its_last_words_and_no_figure(self) -> None:
        bad = {"peer": "x", "command": ["{python}", "-c", "raise SystemExit('out of luck')"]}
        (result,) = self.runner({"theirs": bad}).compare([measure()])
        self.assertIsNone(result.anchor_figures)
        self.assertIn("out of luck", result.note)

    def test_a_peer_that_fails_in_some_turns_keeps_the_others_and_trireme_does_not(self) -> None:
        def fails_in(turns: set[int], value: float) -> dict[str, object]:
            count = self.folder / f"count{value}"
            text = (f"import pathlib; p = pathlib.Path(r'{count}'); n = len(p.read_text()) if p.exists() else 0\n"
                    f"p.write_text('x' * (n + 1))\n"
                    f"if n in {turns}: raise SystemExit('out of luck')\n"
                    f"print('{{\"unit\": \"ns\", \"value\": %d}}' % ({value} * (n + 1)))")
            return {"peer": "x", "command": ["{python}", "-c", text]}

        (some,) = self.runner({"ours": fails_in(set(), 30), "theirs": fails_in({1, 3}, 10)}).compare([measure()])
        self.assertEqual(some.anchor_figures.values, [10, 30, 50])
        self.assertEqual(some.ratios, [3.0] * 3)  # of the same turns
        self.assertEqual(some.record()["repeats"], 3)
        self.assertIn("peer failed in 2 of its turns: ", some.note)
        self.assertIn("missed by 2.00x; peer failed in 2", report.terminal([some]))
        for index, (ours, theirs) in enumerate((({4}, set()), (set(), {0}), (set(), {1, 2}))):
            entry = {"ours": fails_in(ours, 31 + index), "theirs": fails_in(theirs, 11 + index)}
            (lost,) = self.runner(entry).compare([measure()])
            self.assertEqual(lost.verdict(), "")
            self.assertIs((lost.subject_figures if ours else lost.anchor_figures), None)
            self.assertIn("out of luck", lost.note)

    def test_too_many_busy_processes_are_refused(self) -> None:
        (result,) = self.runner().compare([measure(polls=10**6)])
        self.assertFalse(self.log.exists())
        self.assertIn("cores", result.note)

    def test_ratio_is_the_median_of_turns_not_of_sides(self) -> None:
        result = Comparison(measure(), "peer", Figures("ns", [1, 20, 300]), Figures("ns", [1, 10, 100]), None)
        self.assertEqual(result.record()["ratio"], 2)

    def test_verdicts_on_both_kinds_of_bound(self) -> None:
        def verdict(goal: Goal, value: float) -> str:
            return Comparison(measure(), "peer", Figures("ns", [value]), Figures("ns", [10]), goal).verdict()

        self.assertEqual(verdict(Goal("peer", at_most=1.5), 15), "met")
        self.assertEqual(verdict(Goal("peer", at_least=0.9), 9), "met")
        self.assertEqual(verdict(Goal("peer", at_least=0.9), 4.5), "missed by 2.00x")
        self.assertEqual(verdict(Goal(value_at_most=5), 10), "missed by 2.00x")

    def test_spread_is_the_middle_half_over_the_median(self) -> None:
        self.assertAlmostEqual(spread_of([8, 9, 10, 11, 100]), 0.2)

    def test_docs_keep_everything_outside_the_markers(self) -> None:
        page = self.folder / "page.md"
        page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
        report.write_docs(page, "new")
        self.assertEqual(page.read_text(), f"before\n{report.BEGIN}\n\nnew\n\n{report.END}\nafter\n")

    def test_goals_file_is_whole(self) -> None:
        rows = load_rows(BENCHMARKS / "goals.json")
        measures = [m for row in rows for m in row.measures]
        self.assertEqual(len({m.name for m in measures}), len(measures))
        for m in measures:
            self.assertNotIn("{", m.name + m.what)
            for goal in m.goals:
                if goal.anchor:
                    self.assertIn(goal.anchor, [anchor.name for anchor in m.anchors])
        self.assertIn("<svg", picture.draw([Comparison(measures[0], None, None, None, None)]))

    def test_a_count_below_zero_is_met_and_has_no_bar(self) -> None:
        # A difference of two runs, of what hardly happens.
        count = measure(anchors=(), goals=(Goal(value_at_most=0.05),))
        result = Comparison(count, None, Figures("", [-0.0003]), None, count.goals[0])
        self.assertEqual(result.verdict(), "met")
        self.assertIn("no measure with a goal", picture.draw([result]))


if __name__ == "__main__":
    unittest.main()
