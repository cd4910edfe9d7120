import statistics

import numpy as np
import pytest
from kerasxfer_serving.benchmarking.percentiles import latency, samples_needed


class TestLatency:
    def test_counts_are_those_of_mlperf(self):
        assert [samples_needed(p) for p in (0.5, 0.9, 0.99)] == [2_654, 23_886, 262_742]

    def test_a_percentile_needs_its_samples(self):
        values = np.random.default_rng(0).permutation(23_886) / 1000
        assert latency(values[:-1])["p90"] is None
        found = latency(values)
        assert found["p50"] == pytest.approx(statistics.median_low(values) * 1000)
        assert found["p90"] == pytest.approx(np.sort(values)[21_497] * 1000)
        assert found["p99"] is None

    def test_bound_needs_enough_samples_to_be_one(self):
        # The largest of n lies above p90 with a probability of 1 - 0.9 ** n: 99 % from 44 on.
        assert latency([1.0] * 43)["at_most"] == {"p50": 1000.0, "p90": None, "p99": None}
        assert latency([1.0] * 44)["at_most"]["p90"] == 1000.0

    @pytest.mark.parametrize(("percentile", "key"), [(0.5, "p50"), (0.9, "p90")])
    def test_bound_holds_in_99_of_100_cases(self, percentile, key):
        rng = np.random.default_rng(1)
        bounds = [latency(rng.random(200))["at_most"][key] / 1000 for _ in range(2000)]
        assert 0.985 <= np.mean(np.array(bounds) >= percentile) < 1
        assert np.mean(bounds) < percentile + 0.1

    def test_bound_is_close_with_many_samples(self):
        values = np.arange(30_000) / 30_000_000
        found = latency(values)
        assert found["p90"] < found["at_most"]["p90"] < found["p90"] * 1.01
