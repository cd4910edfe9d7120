import json
import subprocess
import sys
from dataclasses import replace

import pytest
from kerasxfer_serving import benchmark
from kerasxfer_serving.benchmarking import Report, Rules, compare
from kerasxfer_serving.benchmarking.data import draw_images, open_images
from kerasxfer_serving.benchmarking.measuring import Contention, Measurement, Repeat
from kerasxfer_serving.benchmarking.report import ReportError
from kerasxfer_serving.benchmarking.tables import figures, headlines
from kerasxfer_serving.errors import ModelError, UsageError
from kerasxfer_serving.golden import golden_hashes
from kerasxfer_serving.image_io.decoding import ERROR_CODES
from kerasxfer_serving.images import load_image
from PIL import Image

LENIENT = Rules(seconds=0.06, repeats=3, batches=1, spread=1e9, stable=1e9)
RED, GREEN = (200, 30, 30), (30, 200, 30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve red images called red, four green ones called red, and two bad files."""
    root = tmp_path_factory.mktemp("images")
    (root / "red").mkdir()
    for number in range(16):
        Image.new("RGB", (20, 16), RED if number < 12 else GREEN).save(root / "red" / f"{number}.png")
    (root / "red" / "empty.png").write_bytes(b"")
    (root / "red" / "text.jpg").write_text("text")
    return root


@pytest.fixture(scope="module")
def report(model, folder):
    rules = replace(LENIENT, batches=15)  # 45 queries: enough for single-stream
    return benchmark(model, folder, device="cpu", batch_sizes=(1, 4), duration=0.06, rules=rules, threads=1)


def made_up(rates, *, device="cpu", batch=8, placement=None, **changes):
    """A report with figures given by name, each a rate or the rates of three repeats."""
    measurements = []
    for name, value in rates.items():
        repeats = tuple(
            Repeat(round(rate * 4), (1.0,) * 4) for rate in (value if isinstance(value, list) else [value] * 3)
        )
        measurements.append(Measurement(name, None if name.startswith("decode") else batch, repeats, 1.0, True))
    values = {
        "model": {"name": "m.onnx", "sha256": "0" * 64, "precision": "fp32", "image_size": [150, 150]},
        "preprocessing": {"policy": {}, "golden": {}, "changed": []},
        "data": {"source": "photos", "drawn": False, "pictures": 10, "seen": 9, "bad": {}},
        "device": {"device": device, "placement": placement or {"CPUExecutionProvider": 100}, "tf32": None},
        "settings": {"rules": vars(Rules())},
        "sessions": [],
        "measurements": measurements,
        "accuracy": None,
        "cores_of_others": 0.0,
        "environment": {"cpu": {"model": "Z80", "available": 4, "cores": 8}, "gpus": []},
        "created": "2020-01-01T00:00:00+00:00",
    }
    return Report(**values | changes)


FAST = {"decode": 900, "decode_resize": 600, "device": 300, "end_to_end": 190}


class TestRun:
    def test_four_separate_rates_for_every_batch_size(self, report):
        found = {(m.name, m.batch_size) for m in report.measurements}
        assert found == {
            ("decode", None), ("decode_resize", None), ("single_stream", 1),
            ("device", 1), ("latency", 1), ("end_to_end", 1), ("device", 4), ("latency", 4), ("end_to_end", 4),
        }  # fmt: skip
        assert all(m.rate > 0 for m in report.measurements)

    def test_bad_files_are_counted_by_code_and_in_no_rate(self, report):
        assert report.data["pictures"] == 18
        assert report.data["bad"] == {"empty": 1, "not_an_image": 1}
        (whole,) = (m for m in report.of("end_to_end") if m.batch_size == 1)
        assert 0 < whole.padding < 0.4
        assert report.best("device").padding == 0

    def test_accuracy_comes_from_the_folders(self, report):
        assert report.accuracy == {"top_1": 0.75, "pictures": 16, "truth": "name of the folder"}

    def test_device_is_proved(self, report):
        assert report.device["device"] == "cpu"
        assert report.device["providers"][0] == "CPUExecutionProvider"
        assert sum(report.device["placement"].values()) > 0

    def test_session_and_first_run_are_timed_apart(self, report):
        assert [row["batch_size"] for row in report.sessions] == [1, 4]
        assert all(row["session_seconds"] > 0 and row["first_run_seconds"] > 0 for row in report.sessions)

    def test_valid_under_rules_that_allow_all(self, report):
        assert replace(report, cores_of_others=0.0).reasons == []

    def test_invalid_with_reasons_under_the_rules(self, report):
        strict = replace(report, settings={**report.settings, "rules": vars(Rules())})
        assert not strict.valid
        assert any(reason.startswith("measured for less than 10 s: decode (") for reason in strict.reasons)

    def test_survives_json_with_its_raw_samples(self, report, tmp_path):
        report.save(tmp_path / "bench.json")
        again = Report.read(tmp_path / "bench.json")
        assert [m.label for m in again.measurements] == [m.label for m in report.measurements]
        assert again.summary["end_to_end"] == pytest.approx(report.summary["end_to_end"], rel=1e-3)
        data = json.loads((tmp_path / "bench.json").read_text())
        assert data["verdict"] in ("VALID", "INVALID")
        assert all(repeat["steps"] for measured in data["measurements"] for repeat in measured["repeats"])

    def test_tables_tell_all(self, report):
        assert len(figures(report)) == len(report.measurements)
        told = headlines(report)
        assert told["accuracy"] == "75.00% of 16"
        assert told["images"].endswith("bad: 1 empty, 1 not_an_image")
        assert "CPUExecutionProvider" in told["device"]

    def test_one_scenario_alone(self, model):
        single = benchmark(
            model, device="cpu", scenarios=("single-stream",), duration=0.03, rules=LENIENT, picture_size=(30, 40)
        )
        assert {m.name for m in single.measurements} == {"decode", "decode_resize", "single_stream"}
        assert single.data["drawn"]
        assert single.data["source"] == "64 drawn, 40×30"
        assert single.accuracy is None
        assert single.ceiling is None
        assert headlines(single)["images"] == "64 drawn, 40×30"

    def test_model_with_a_fixed_batch_has_only_that(self, write_model, tmp_path, folder):
        fixed = write_model(tmp_path / "fixed.onnx", batch=3)
        found = benchmark(
            fixed, folder, batch_sizes=(1, 8), device="cpu", duration=0.03, rules=LENIENT, scenarios=["offline"]
        )
        assert [m.batch_size for m in found.of("end_to_end")] == [3]

    def test_golden_images_that_changed_make_it_invalid(self, model, report):
        assert set(report.preprocessing["golden"]) == set(golden_hashes((8, 10)))
        other = replace(report, preprocessing={**report.preprocessing, "changed": ["rgb.png"]})
        assert any("rgb.png" in reason for reason in other.reasons)

    def test_unknown_scenario(self, model):
        with pytest.raises(UsageError, match=r"Received: \['server'\]"):
            benchmark(model, scenarios=("server",))

    def test_folder_without_images(self, model, tmp_path):
        with pytest.raises(UsageError, match="`data` must hold images"):
            benchmark(model, tmp_path)

    def test_folder_of_bad_files_alone_is_invalid(self, model, tmp_path):
        (tmp_path / "empty.jpg").write_bytes(b"")
        found = benchmark(model, tmp_path, device="cpu", batch_sizes=(2,), duration=0.01, rules=LENIENT)
        assert "not one image could be read" in found.reasons
        assert found.summary["end_to_end"] == 0
        assert found.ceiling is None
        assert headlines(found)["images"].endswith("bad: 1 empty")
        found.save(tmp_path / "bench.json")
        assert compare(found, Report.read(tmp_path / "bench.json")).changes

    def test_model_that_is_none(self, tmp_path):
        (tmp_path / "no.onnx").write_bytes(b"no model")
        with pytest.raises(ModelError):
            benchmark(tmp_path / "no.onnx")


class TestReport:
    def test_parity_of_the_export_is_told(self):
        model = {**made_up(FAST).model, "parity": {"fp16": {"max_difference_below": 0.001, "pictures": 64}}}
        told = headlines(made_up(FAST, model=model))
        assert told["parity with Keras"] == "fp16: max difference below 0.001, pictures 64"
        assert "parity with Keras" not in headlines(made_up(FAST))

    def test_ceiling_of_a_cpu_adds_the_times(self):
        found = made_up(FAST)
        assert found.ceiling == pytest.approx(200)
        assert found.summary["share_of_ceiling"] == pytest.approx(0.95)

    def test_ceiling_takes_the_faster_way_to_run_the_model(self):
        assert made_up(FAST | {"latency": 600}).ceiling == pytest.approx(300)

    def test_ceiling_of_a_gpu_is_the_slower_of_both(self):
        assert made_up(FAST, device="cuda", placement={"CUDAExecutionProvider": 9}).ceiling == 300

    @pytest.mark.parametrize(
        ("changes", "bottleneck"),
        [({}, "model"), ({"device": 5000, "end_to_end": 500}, "decode"), ({"end_to_end": 100}, "pipeline")],
    )
    def test_bottleneck_is_named(self, changes, bottleneck):
        assert made_up(FAST | changes).summary["bottleneck"] == bottleneck

    def test_busy_machine_is_invalid(self):
        assert made_up(FAST).valid
        assert made_up(FAST, cores_of_others=0.5).reasons == ["other processes kept 0.50 of 4 cores busy"]
        assert made_up(FAST, cores_of_others=None).valid

    def test_nodes_beside_the_device_are_invalid(self):
        placement = {"CUDAExecutionProvider": 80, "CPUExecutionProvider": 20}
        assert made_up(FAST, device="cuda", placement=placement).reasons == [
            "20% of the model's nodes ran on the CPU, not on cuda"
        ]

    def test_data_without_a_readable_image_is_invalid(self):
        data = {"source": "photos", "drawn": False, "pictures": 5, "seen": 2, "bad": {"empty": 2}}
        assert made_up(FAST, data=data).reasons == ["not one image could be read"]

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "other"}', '{"format": "kerasxfer-benchmark"}'])
    def test_other_files_are_no_reports(self, tmp_path, text):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(ReportError):
            Report.read(tmp_path / "x.json")

    def test_missing_file(self, tmp_path):
        with pytest.raises(ReportError, match="cannot be read"):
            Report.read(tmp_path / "x.json")


class TestCompare:
    def test_says_what_is_beyond_the_spread(self):
        before = made_up({"decode": [95, 100, 105], "device": [95, 100, 105], "end_to_end": [95, 100, 105]})
        after = made_up({"decode": [104, 110, 116], "device": [106, 110, 116], "end_to_end": [80, 85, 90]})
        found = {change.label: (change.ratio, change.verdict) for change in compare(before, after).changes}
        assert found == {
            "decode": (1.1, "within the spread"),
            "device, batch 8": (1.1, "faster"),
            "end_to_end, batch 8": (0.85, "slower"),
        }

    def test_names_what_only_one_has(self):
        assert compare(made_up(FAST), made_up({"decode": 900})).only == [
            "decode_resize", "device, batch 8", "end_to_end, batch 8",
        ]  # fmt: skip

    def test_names_differing_circumstances(self):
        other = {"cpu": {"model": "6502", "available": 4, "cores": 8}, "gpus": []}
        found = compare(made_up(FAST), made_up(FAST, environment=other))
        assert found.differences == [("environment.cpu.model", "Z80", "6502")]

    def test_names_invalid_reports(self):
        assert compare(made_up(FAST, cores_of_others=3), made_up(FAST)).invalid == ["A"]


class TestData:
    def test_drawn_images_are_photographs_of_that_size_and_the_same_every_time(self, tmp_path):
        for name in "ab":
            (tmp_path / name).mkdir()
        first, again = (draw_images(tmp_path / name, (375, 500), 2) for name in "ab")
        assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
        assert load_image(first[0]).shape == (375, 500, 3)
        # Photographs of this size take 30 to 70 kB.
        assert 25_000 < first[0].stat().st_size < 90_000
        assert first[0].read_bytes() != first[1].read_bytes()

    def test_limit_takes_some_of_all(self, zoo):
        with open_images(zoo[0].path.parent, 10, (1, 1)) as images:
            assert len(images.items) == 10
            paths = [item.path for item in images.items]
            assert paths != sorted(paths)

    def test_hash_is_of_names_and_bytes(self, tmp_path):
        path = tmp_path / "a.png"
        Image.new("RGB", (4, 4), RED).save(path)
        hashes = set()
        for change in (
            lambda: None,
            lambda: path.rename(tmp_path / "b.png"),
            lambda: (tmp_path / "b.png").write_bytes(b""),
        ):
            change()
            with open_images(tmp_path, 10, (1, 1)) as images:
                hashes.add(images.describe()["sha256"])
        assert len(hashes) == 3

    def test_the_zoo_is_described_without_an_error(self, zoo):
        with open_images(zoo[0].path.parent, 1000, (1, 1)) as images:
            assert images.describe()["bytes"] > 10_000
        assert {case.code for case in zoo} - {None} <= ERROR_CODES.keys()


def test_contention_sees_another_process():
    watch = Contention()
    if watch.cores_of_others() is None:
        pytest.skip("no /proc/stat here")
    busy = "import time\nend = time.time() + 0.6\nwhile time.time() < end: pass"
    subprocess.run([sys.executable, "-c", busy], check=True)
    assert watch.cores_of_others() > 0.2
