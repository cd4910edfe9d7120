import json
import threading
from itertools import chain, count, islice, repeat
from types import SimpleNamespace

import pytest
from kerasxfer_serving.benchmarking import measuring
from kerasxfer_serving.benchmarking.measuring import (
    Measurement,
    Repeat,
    Rules,
    concurrently,
    measure,
)


def measurement(rates, name="device", *, seconds=4.0, steps=10, stable=True, batch_size=8):
    """Repeats of equal steps with the given rates."""
    repeats = tuple(Repeat(round(rate * seconds), (seconds / steps,) * steps) for rate in rates)
    return Measurement(name, batch_size, repeats, 1.0, stable)


class TestMeasurement:
    def test_rate_is_the_median_of_the_repeats(self):
        assert measurement([90, 100, 120]).rate == 100
        assert measurement([90, 100, 120]).spread == pytest.approx(0.3)

    def test_padding_is_the_share_of_places_without_an_image(self):
        assert Measurement("end_to_end", 8, (Repeat(12, (1.0, 1.0)),), 0, True).padding == pytest.approx(0.25)

    def test_survives_json(self):
        before = measurement([90, 100.25, 120], "latency")
        data = json.loads(json.dumps(before.to_dict()))
        assert Measurement.from_dict(data) == before
        assert data["latency_ms"]["samples"] == 30
        assert measurement([1, 1, 1], "device").to_dict()["latency_ms"] is None

    def test_trusted_where_all_rules_are_kept(self):
        assert measurement([98, 100, 103]).failures(Rules()) == {}

    @pytest.mark.parametrize(
        ("found", "rule", "value"),
        [
            (measurement([90, 100, 120]), "the repeats differ by more than 10%", "30%"),
            (measurement([100] * 3, stable=False), "no stable rate in the warm-up", "1.0 s"),
            (measurement([100] * 3, seconds=2), "measured for less than 10 s", "6.0 s"),
            (measurement([100] * 3, steps=2), "less than 3 repeats of 3 steps", "3 of 2"),
            (measurement([100] * 2, seconds=5), "less than 3 repeats of 3 steps", "2 of 10"),
            (measurement([100] * 3, "single_stream"), "too few queries to know anything of p90", "30"),
        ],
    )
    def test_every_broken_rule_is_named(self, found, rule, value):
        assert found.failures(Rules()) == {rule: value}


@pytest.fixture
def work(monkeypatch):
    """Work whose steps take the seconds given, on a clock of its own."""
    now = 0.0

    def steps(seconds, images=1):
        nonlocal now
        for step in seconds:
            now += step
            yield images

    monkeypatch.setattr(measuring, "time", SimpleNamespace(perf_counter=lambda: now))
    return steps


class TestMeasure:
    def test_counts_images_and_times_every_step(self, work):
        found = measure(work(repeat(0.25), images=5), "device", 5, duration=12, rules=Rules())
        assert found.repeats == (Repeat(80, (0.25,) * 16),) * 3
        assert found.rate == 20
        assert found.spread == 0

    def test_slow_steps_still_make_the_least_number(self, work):
        found = measure(work(repeat(60.0)), "device", duration=1, rules=Rules(batches=4))
        assert [len(one.steps) for one in found.repeats] == [4, 4, 4]

    def test_warm_up_lasts_until_the_rate_is_stable(self, work):
        found = measure(work(chain([4.0, 2.0, 1.0, 0.5], repeat(0.25))), "x", duration=10, rules=Rules())
        assert found.stable
        assert found.warm_up_seconds == 4 + 2 + 1 + 0.5 + 3 * 0.5
        assert {step for one in found.repeats for step in one.steps} == {0.25}

    def test_rate_that_never_settles_is_said(self, work):
        found = measure(work(1.5**number for number in count()), "x", duration=30, rules=Rules(batches=1))
        assert not found.stable
        assert found.warm_up_seconds >= 30


class TestConcurrently:
    def test_results_come_in_order(self):
        assert list(islice(concurrently(lambda number: number, 4), 50)) == list(range(50))

    def test_that_many_at_once(self):
        barrier = threading.Barrier(3, timeout=10)
        assert next(concurrently(lambda number: number > 2 or barrier.wait() >= 0, 3))

    def test_errors_are_raised(self):
        with pytest.raises(ZeroDivisionError):
            next(concurrently(lambda number: 1 // number, 2))
