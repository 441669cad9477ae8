"""What could be wrong in a record without anyone noticing. Needs neither the rivals nor numpy:
`python3 -m unittest discover bench`."""

import unittest

from rivals import block_parts, cases, machine, record, topkast
from rivals.__main__ import what_was_measured
from rivals.contestants import Failed, environment, medians, variants
from rivals.measure import Cell, measure, rotated
from rivals.stats import Spread, best, geometric_mean, names, part_median, ratio, spread

CASE = cases.LayerCase(8, 4, 2, 0.9, 0.8)


def cell(**millis: list[float]) -> Cell:
    """A cell with a series for each `rival__variant`."""
    made = Cell(1, CASE)
    for key, times in millis.items():
        name, label = key.split("__")
        made.series[name, label] = [{"forward": time / 4, "backward": time * 3 / 4} for time in times]
    return made


class Statistics(unittest.TestCase):
    def test_spread_holds_the_quartiles_with_the_ends_included(self) -> None:
        self.assertEqual(spread([5.0, 1.0, 3.0, 2.0, 4.0]), Spread(2.0, 3.0, 4.0))
        self.assertEqual(spread([7.0]), Spread(7.0, 7.0, 7.0))

    def test_medians_are_taken_part_by_part(self) -> None:
        turn = [{"forward": 1.0, "backward": 9.0}, {"forward": 3.0, "backward": 5.0}, {"forward": 2.0, "backward": 7.0}]
        self.assertEqual(medians(turn), {"forward": 2.0, "backward": 7.0})

    def test_backward_is_all_but_the_forward_part(self) -> None:
        series = [{"forward": 1.0, "input_gradient": 2.0, "weight_gradient": 3.0}]
        self.assertEqual(part_median(series, "forward"), 1.0)
        self.assertEqual(part_median(series, "backward"), 5.0)

    def test_geometric_mean(self) -> None:
        self.assertAlmostEqual(geometric_mean([1.0, 4.0]), 2.0)


class Choice(unittest.TestCase):
    def test_the_best_variant_has_the_smallest_median_not_the_smallest_time(self) -> None:
        chosen = best(cell(other__steady=[4.0, 4.0, 4.0], other__jumpy=[1.0, 5.0, 9.0], we__us=[0.5]), "other")
        assert chosen
        self.assertEqual((chosen.label, chosen.total.median), ("steady", 4.0))

    def test_who_has_no_times_has_no_best_and_no_ratio(self) -> None:
        some = cell(we__us=[1.0])
        some.failures["other", "only"] = "not supported"
        self.assertIsNone(best(some, "other"))
        self.assertIsNone(ratio(some, "other", "we"))
        self.assertEqual(names([some]), ["we", "other"])

    def test_a_ratio_above_one_means_we_are_faster(self) -> None:
        self.assertEqual(ratio(cell(we__us=[2.0], other__a=[6.0], other__b=[9.0]), "other", "we"), 3.0)

    def test_the_best_rival_is_the_one_with_the_smallest_ratio(self) -> None:
        some = cell(Topkast__topkast=[2.0], slow__a=[8.0], fast__a=[3.0])
        self.assertEqual(record.against(some, record.BEST_RIVAL, ["slow", "fast"]), 1.5)


class Turns(unittest.TestCase):
    def test_every_round_starts_with_the_next_contestant(self) -> None:
        self.assertEqual(rotated([1, 2, 3], 0), [1, 2, 3])
        self.assertEqual(rotated([1, 2, 3], 4), [2, 3, 1])

    def test_who_fails_is_recorded_and_never_counted(self) -> None:
        class Stub:
            def __init__(self, name: str, fails_in_turn: int) -> None:
                self.key, self.left = (name, "only"), fails_in_turn

            def prepare(self, case: cases.Case) -> None:
                self.turn("wrong result")

            def visit(self) -> dict:
                self.turn("crashed")
                return {self.key: {"step": 1.0}}

            def turn(self, why: str) -> None:
                self.left -= 1
                if self.left == 0:
                    raise Failed(why)

            def parts(self) -> dict:
                return {self.key: {"other": 1.0}}

            def close(self) -> None: ...

        done = measure([Stub("good", 99), Stub("wrong", 1), Stub("crashing", 3)], CASE, 1, 4)
        self.assertEqual({key[0]: len(series) for key, series in done.series.items()}, {"good": 4})
        self.assertEqual([key[0] for key in done.parts], ["good"])
        self.assertEqual({key[0]: why for key, why in done.failures.items()}, {"wrong": "wrong result", "crashing": "crashed"})

    def test_waiting_policies_are_compared_only_where_threads_wait(self) -> None:
        self.assertEqual([one.label for one in variants({"it": ["a"]}, 1)], ["a"])
        self.assertEqual([one.label for one in variants({"it": ["a"]}, 2)], ["a", "a, passive"])
        self.assertEqual(environment(2, True)["OMP_WAIT_POLICY"], "passive")
        self.assertNotIn("OMP_WAIT_POLICY", {**environment(2, False)})


class Topkast(unittest.TestCase):
    def test_layer_times_come_from_what_bench_prints(self) -> None:
        report = {f"{dense}{part}_ms": 1.0 for dense in ("", "dense_") for part in topkast.LAYER_PARTS} | {"forward_ms": 3.0}
        times = topkast.parse(report, CASE)
        self.assertEqual(sum(times[topkast.NAME, "topkast"].values()), 5.0)
        self.assertEqual(sum(times[topkast.DENSE, "topkast"].values()), 3.0)

    def test_step_command_and_times(self) -> None:
        case = cases.StepCase((784, 1024, 512, 10), 128, 0.9, 0.8)
        self.assertEqual(
            " ".join(topkast.command("topkast", case, 2)),
            "topkast bench step --inputs 784 --hidden 1024,512 --outputs 10 --batch 128 "
            "--rounds 1 --forward 0.9 --backward 0.8 --threads 2 --json",
        )
        times = topkast.parse({"step_ms": 2.0, "dense_step_ms": 8.0}, case)
        self.assertEqual([sum(parts.values()) for parts in times.values()], [2.0, 8.0])

    def test_block_command_and_times(self) -> None:
        case = cases.BlockCase(512, 2048, 8, 4, 128, 0.9, 0.8)
        self.assertEqual(
            " ".join(topkast.command("topkast", case, 2)),
            "topkast bench block --width 512 --feed-forward 2048 --heads 8 --streams 4 --segment 128 "
            "--rounds 1 --forward 0.9 --backward 0.8 --threads 2 --json",
        )
        times = topkast.parse({"step_ms": 2.0, "dense_step_ms": 8.0}, case)
        self.assertEqual([sum(parts.values()) for parts in times.values()], [2.0, 8.0])

    def test_the_update_is_told_apart_from_all_else(self) -> None:
        sides = ("", "dense_")
        report = {f"{side}{part}_ms": 4.0 for side in sides for part in ("linear", "attention", "other")}
        report |= {f"{side}phases_ms": {"update": 1.0} for side in sides}
        parts = topkast.parse_parts(report)
        self.assertEqual([name for name, _ in parts], [topkast.NAME, topkast.DENSE])
        self.assertEqual(parts[topkast.DENSE, "topkast"], {"linear": 4.0, "attention": 4.0, "update": 1.0, "other": 3.0})

    def test_a_missing_field_is_a_failure_that_names_it(self) -> None:
        with self.assertRaisesRegex(Failed, "input_gradient_ms"):
            topkast.parse({"forward_ms": 1.0}, CASE)


class Event:
    """As the profiler tells of one."""

    def __init__(self, name: str, micros: float, number: int = -1, within: list["Event"] | None = None) -> None:
        self.name, self.cpu_time_total, self.sequence_nr, self.cpu_children = name, micros, number, within or []


class PartsOfAStep(unittest.TestCase):
    def test_a_gradient_belongs_to_the_part_that_its_forward_operation_is_of(self) -> None:
        linear = Event("linear", 10, within=[Event("aten::linear", 9, 1, [Event("aten::addmm", 8, 2), Event("aten::t", 1, -1)])])
        attention = Event("attention", 20, within=[Event("aten::bmm", 20, 3)])
        backward = [
            Event(f"{block_parts.BACKWARD}{name}", micros, number)
            for name, micros, number in (
                ("BmmBackward0", 40, 3),
                ("AddmmBackward0", 25, 2),
                ("NativeLayerNormBackward0", 7, 4),
                ("AccumulateGrad", 3, -1),
            )
        ]
        # The operation itself, within a function, is not counted again.
        inner = Event("aten::mm", 24, 2)
        update = Event("update", 5)
        step = Event("step", 200)
        found = block_parts.by_part([step, linear, attention, *backward, inner, update])
        self.assertEqual(found, {"linear": 35.0, "attention": 60.0, "update": 5.0, "other": 100.0})


class Writing(unittest.TestCase):
    def test_a_table_has_as_many_cells_in_every_line(self) -> None:
        text = record.table(["a", "b"], [["1", "x|y"]])
        self.assertEqual(text, "| a | b |\n| --- | --- |\n| 1 | x/y |")

    def test_the_command_does_not_tell_where_binary_and_record_lie(self) -> None:
        given = ["--topkast", "/a/topkast", "--only", "layer", "--out", "/b", "--threads", "1"]
        self.assertEqual(what_was_measured(given), ["--only", "layer", "--threads", "1"])
        self.assertEqual(what_was_measured(["--out=/b", "--quick"]), ["--quick"])

    def test_three_digits_or_so(self) -> None:
        self.assertEqual([record.ms(value) for value in (0.123, 9.876, 12.34, 123.4)], ["0.12", "9.88", "12.3", "123"])

    def test_a_page_shows_times_ratios_variants_and_failures(self) -> None:
        some = cell(Topkast__topkast=[2.0, 2.0], other__a=[6.0, 6.0])
        some.failures["broken", "only"] = "not supported"
        text = record.page(record.Record("2026-01-01", "bench/run", 2, {"CPU": "one"}, [some]))
        self.assertIn("| 8×4, batch 2 | 90/80 | 2.00 (2.00–2.00) | 6.00 (6.00–6.00) | – |", text)
        self.assertIn("| 8×4, batch 2 | 90/80 | 3.00× | – | 3.00× |", text)
        self.assertIn("| 8×4, batch 2 | 90/80 | 0.50 + 1.50 | 1.50 + 4.50 | – |", text)
        self.assertIn("- broken, only, 8×4, batch 2, 90/80, 1 thread(s): not supported", text)

    def test_one_rival_needs_no_best_of_them(self) -> None:
        text = record.page(record.Record("2026-01-01", "bench/run", 1, {}, [cell(Topkast__topkast=[2.0], other__a=[6.0])]))
        self.assertNotIn(f"{record.BEST_RIVAL} |", text)
        self.assertIn("geometric mean 3.00×", text)

    def test_raw_times_keep_every_turn(self) -> None:
        made = record.raw(record.Record("2026-01-01", "bench/run", 2, {}, [cell(we__us=[4.0, 8.0])]))
        self.assertEqual(
            made["cells"][0]["times_ms"][0]["turns"], [{"forward": 1.0, "backward": 3.0}, {"forward": 2.0, "backward": 6.0}]
        )

    def test_a_block_shows_its_dense_path_and_what_a_step_goes_to(self) -> None:
        some = cell(Topkast__topkast=[2.0], other__a=[6.0])
        some.case = cases.BlockCase(8, 16, 2, 1, 4, 0.9, 0.8)
        some.series[topkast.DENSE, "topkast"] = [{"step": 5.0}]
        some.parts["other", "a"] = {"linear": 3.0, "attention": 2.0, "update": 0.5, "other": 0.25}
        text = record.page(record.Record("2026-01-01", "bench/run", 1, {}, [some]))
        self.assertIn("| d = 8, ff = 16, 2 heads, 1×4 tokens | 90/80 | 1.20× |", text)
        self.assertIn("| other | a | 3.00 | 2.00 | 0.50 | 0.25 |", text)

    def test_of_lscpu_only_what_bears_on_speed(self) -> None:
        told = machine.processor("Model name:  A CPU\nVulnerability X: Not affected\nFlags: fpu avx2 fma\n")
        self.assertEqual(told, {"Model name": "A CPU", "Vector flags": "fma avx2"})


class Cases(unittest.TestCase):
    def test_rivals_see_one_case_where_only_the_backward_set_differs(self) -> None:
        layer = cases.layer_cases(quick=False)
        self.assertEqual(len(layer), 24)
        self.assertEqual(cases.as_rivals_see(layer[0]), cases.as_rivals_see(layer[1]))
        self.assertNotEqual(cases.as_rivals_see(layer[1]), cases.as_rivals_see(layer[2]))

    def test_cases_survive_the_pipe(self) -> None:
        step = cases.step_cases(quick=False)[0]
        self.assertEqual(cases.step_from_json(cases.to_json(step)), step)
        self.assertEqual(cases.layer_from_json(cases.to_json(CASE)), CASE)
        block = cases.block_cases(quick=False)[0]
        self.assertEqual(cases.block_from_json(cases.to_json(block)), block)
        self.assertEqual(*(cases.as_rivals_see(case) for case in cases.block_cases(quick=False)))


if __name__ == "__main__":
    unittest.main()
