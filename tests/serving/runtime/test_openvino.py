"""OpenVINO behind the same interface as ONNX Runtime, through everything that runs a model."""

import csv
import io
import json
import signal
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from kerasxfer_serving import Predictor
from kerasxfer_serving.errors import DeviceError, ModelError
from kerasxfer_serving.model.manifest import METADATA_KEY, Manifest
from kerasxfer_serving.runtime import openvino_session
from kerasxfer_serving.runtime.opening import open_session
from kerasxfer_serving.runtime.resources import available_cores
from serving_command import command

pytest.importorskip("openvino", reason="OpenVINO is not installed")

needs_bf16 = pytest.mark.skipif(not openvino_session.has_bf16(), reason="this CPU has no bfloat16")
PASSED = {"runtime": "openvino", "precision": "bf16", "passed": True}


def colours(count, size=(8, 10)):
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def with_runtimes(model, path, *rows):
    proto = onnx.load(model)
    (entry,) = (entry for entry in proto.metadata_props if entry.key == METADATA_KEY)
    entry.value = replace(Manifest.from_json(entry.value), runtimes=rows).to_json()
    onnx.save(proto, path)
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory, draw_colours):
    return draw_colours(tmp_path_factory.mktemp("images") / "p", 20)


@pytest.fixture
def folder(images):
    return Path(next(iter(images))).parent


class TestSession:
    def test_gives_the_answers_of_onnx_runtime(self, model):
        for count in (1, 5, 8):
            (ours,) = open_session(model, "openvino").run(colours(count))
            (reference,) = open_session(model, "cpu").run(colours(count))
            np.testing.assert_allclose(ours, reference, atol=1e-6)

    def test_openvino_is_imported_without_its_telemetry(self):
        code = """
            import sys
            from kerasxfer_serving.runtime.openvino_session import require_openvino
            require_openvino("f32")
            import openvino
            print("openvino_telemetry" in sys.modules, callable(openvino.convert_model))
        """
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["False", "True"]

    @needs_bf16
    def test_bfloat16_is_near(self, model):
        (ours,) = open_session(model, "openvino", cpu_precision="bf16").run(colours(5))
        (reference,) = open_session(model, "cpu").run(colours(5))
        assert 1e-6 < np.abs(ours - reference).max() < 0.1

    @pytest.mark.parametrize("precision", ["f32", pytest.param("bf16", marks=needs_bf16)])
    def test_says_in_which_precision_each_kind_of_node_ran(self, model, precision):
        report = open_session(model, "openvino", threads=1, cpu_precision=precision).describe()
        assert (report["device"], report["runtime"], report["cpu_precision"]) == ("openvino", "openvino", precision)
        assert report["executed"]["FullyConnected"] == {precision: 1}
        assert report["placement"]["CPU"] == sum(sum(kinds.values()) for kinds in report["executed"].values())
        assert report["properties"]["NUM_STREAMS"] == available_cores()
        assert report["tf32"] is report["gpu_id"] is None

    def test_a_fixed_batch_is_padded_and_cut_up(self, tmp_path, write_model):
        path = write_model(tmp_path / "fixed.onnx", batch=4)
        session = open_session(path, "openvino")
        assert session.fixed_batch == 4
        for count in (1, 4, 5, 11):
            (reference,) = open_session(path, "cpu").run(colours(count))
            np.testing.assert_allclose(session.run(colours(count))[0], reference, atol=1e-6)

    @pytest.mark.parametrize("dtype", ["float", "float16"])
    def test_pixels_are_cast_to_what_the_graph_takes(self, tmp_path, write_model, dtype):
        path = write_model(tmp_path / "cast.onnx", dtype=dtype)
        (reference,) = open_session(path, "cpu").run(colours(3))
        np.testing.assert_allclose(open_session(path, "openvino").run(colours(3))[0], reference, atol=1e-3)

    def test_many_threads_share_a_session(self, model):
        """Threads that come and go: arrays that are shared with OpenVINO deadlock here, or end the process."""
        session, reference = open_session(model, "openvino", threads=1), open_session(model, "cpu")
        wrong = []

        def work(seed):
            pixels = np.random.default_rng(seed).integers(0, 256, (1 + seed % 8, 8, 10, 3), dtype=np.uint8)
            (expected,) = reference.run(pixels)
            wrong.extend(seed for _ in range(20) if not np.allclose(session.run(pixels)[0], expected, atol=1e-6))

        for start in range(0, 24, 6):
            threads = [threading.Thread(target=work, args=(seed,)) for seed in range(start, start + 6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert wrong == []

    def test_the_answers_stay_when_the_session_runs_again(self, model):
        session = open_session(model, "openvino")
        (first,) = session.run(colours(2))
        before = first.copy()
        session.run(255 - colours(2))
        assert (first == before).all()

    def test_bound_data_can_be_run_again_and_again(self, model):
        run = open_session(model, "openvino").bind(colours(2))
        for _ in range(3):
            run()

    def test_a_closed_session_raises(self, model):
        session = open_session(model, "openvino")
        session.run(colours(2))
        session.close()
        with pytest.raises(ModelError, match="closed"):
            session.run(colours(2))

    def test_keeps_what_it_compiled(self, model, tmp_path):
        for _ in range(2):
            session = open_session(model, "openvino", cache_dir=tmp_path / "cache")
            assert session.run(colours(2))[0].shape == (2, 3)
        assert len(list((tmp_path / "cache").iterdir())) == 1

    def test_what_is_no_model_is_refused(self):
        with pytest.raises(ModelError, match=r"OpenVINO .* cannot load"):
            open_session(b"no model", "openvino")

    def test_the_onnx_that_was_checked_runs_whatever_else_the_bytes_pass_for(self, model):
        """OpenVINO guesses another format from these bytes, and opens an empty graph."""
        session = open_session(b"\xa2\x06\x84\x00ORTM" + model.read_bytes(), "openvino")
        np.testing.assert_allclose(session.run(colours(2))[0], open_session(model, "cpu").run(colours(2))[0], atol=1e-6)

    def test_images_of_another_size_are_an_error(self, model):
        with pytest.raises(ModelError, match=r"batch of 2 images\. OpenVINO: "):
            open_session(model, "openvino").run(colours(2, (9, 10)))

    def test_outputs_are_chosen_by_name(self, model):
        assert open_session(model, "openvino", outputs=["probabilities"]).outputs == ["probabilities"]
        with pytest.raises(ModelError, match="`scores`"):
            open_session(model, "openvino", outputs=["scores"])


class TestAvailability:
    def test_without_the_package_the_extra_is_named(self, model, monkeypatch):
        monkeypatch.setitem(sys.modules, "openvino", None)
        with pytest.raises(DeviceError, match=r"`device='openvino'` is not available.*kerasxfer-serving\[openvino\]"):
            open_session(model, "openvino")

    def test_a_precision_that_the_cpu_does_not_have(self, model, monkeypatch):
        monkeypatch.setattr(openvino_session, "has_bf16", lambda: False)
        with pytest.raises(DeviceError, match="does not compute in bfloat16"):
            open_session(model, "openvino", cpu_precision="bf16")

    def test_onnx_runtime_has_no_bfloat16_on_the_cpu(self, model):
        with pytest.raises(ValueError, match=r"cpu_precision='bf16'.*device='openvino'"):
            open_session(model, "cpu", cpu_precision="bf16")

    def test_unknown_precisions_are_refused(self, model):
        with pytest.raises(ValueError, match="f16"):
            open_session(model, "openvino", cpu_precision="f16")


class TestPredictor:
    def test_predicts_as_onnx_runtime_does(self, model, images, rows):
        with Predictor(model, device="openvino", batch_size=8) as ours, Predictor(model, device="cpu") as reference:
            assert ours.predict(list(images)).labels == list(images.values())
            one = next(iter(images))
            assert ours.predict(one).probabilities == pytest.approx(reference.predict(one).probabilities, abs=1e-6)
            assert ours.describe()["runtime"] == "openvino"
            assert ours.describe()["cpu_precision"] == "f32"
            assert ours.workers == available_cores()

    @needs_bf16
    @pytest.mark.parametrize(
        ("rows", "device", "asked", "taken"),
        [
            ([PASSED], "openvino", None, "bf16"),
            ([PASSED], "openvino", "f32", "f32"),
            ([PASSED], "cpu", None, "f32"),
            ([{**PASSED, "passed": False}], "openvino", None, "f32"),
            ([], "openvino", "bf16", "bf16"),
        ],
        ids=["passed", "passed-asked-f32", "passed-cpu", "failed", "asked"],
    )
    def test_bfloat16_where_asked_for_or_where_the_manifest_says_that_it_passed(
        self, model, tmp_path, rows, device, asked, taken
    ):
        path = with_runtimes(model, tmp_path / "m.onnx", *rows)
        with Predictor(path, device=device, cpu_precision=asked) as predictor:
            assert predictor.session.cpu_precision == taken


class TestCommands:
    def test_predict_says_what_ran(self, model, folder, images):
        status, stdout, stderr = command("predict", model, folder, "--device", "openvino")
        assert status == 0, stderr
        assert [row["label"] for row in csv.DictReader(io.StringIO(stdout))] == list(images.values())
        assert "Device openvino; " in stderr
        assert "nodes in f32 " in stderr

    @pytest.mark.parametrize(
        ("begun", "resumed", "changed"),
        [
            (["--device", "cpu"], ["--device", "openvino"], "device"),
            (["--device", "openvino"], ["--device", "cpu"], "device"),
            pytest.param(
                ["--device", "openvino"], ["--device", "openvino", "--cpu-precision", "bf16"], "cpu_precision",
                marks=needs_bf16,
            ),
        ],
        ids=["to-openvino", "to-cpu", "to-bf16"],
    )  # fmt: skip
    def test_a_killed_run_goes_on_in_the_same_runtime_and_precision_only(
        self, model, folder, images, tmp_path, begun, resumed, changed
    ):
        out = tmp_path / "out.csv"
        options = ["--batch-size", "4", "--part-rows", "4", "-o", out]
        killed = [sys.executable, "-c", KILLED, "predict", model, folder, *options, *begun]
        assert subprocess.run(killed, capture_output=True).returncode == -signal.SIGKILL
        status, _, stderr = command("predict", model, folder, *options, *resumed, "--resume")
        assert status == 2
        assert f"`{changed}` has changed" in stderr
        assert command("predict", model, folder, *options, *begun, "--resume")[0] == 0
        with out.open() as file:
            assert [(row["path"], row["label"]) for row in csv.DictReader(file)] == list(images.items())
        run = json.loads(out.with_name("out.csv.run.jsonl").read_text().splitlines()[0])["run"]
        assert run["runtime"] == {"cpu": "onnxruntime", "openvino": "openvino"}[begun[1]]

    def test_benchmark_proves_the_device(self, model, tmp_path):
        out = tmp_path / "report.json"
        options = ["--device", "openvino", "--batch-sizes", "1,2", "--duration", "0.03", "--picture-size", "20x30"]
        status, stdout, stderr = command("benchmark", model, *options, "-o", out)
        assert status == 0, stderr
        assert "openvino (" in stdout
        report = json.loads(out.read_text())
        assert report["device"]["executed"]["FullyConnected"] == {"f32": 1}
        ceiling = 1 / (1 / report["summary"]["decode_resize"] + 1 / report["summary"]["device"])
        assert report["summary"]["ceiling"] == pytest.approx(ceiling)  # the model and decoding share the cores

    def test_env_starts_it(self):
        status, stdout, _ = command("env", "--format", "json")
        assert status == 0
        assert json.loads(stdout)["providers"]["openvino"]["starts"]


KILLED = """
import os, signal, sys
from kerasxfer_serving.commands import main
from kerasxfer_serving.outputs.journal import Journal

commit = Journal.commit

def die(self, part):
    commit(self, part)
    os.kill(os.getpid(), signal.SIGKILL)

Journal.commit = die
main()
"""
