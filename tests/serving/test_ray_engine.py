"""Prediction on Ray, on one machine: rows as of the local engine, whatever dies."""

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from kerasxfer_serving import Predictor
from kerasxfer_serving.cluster import ray as ray_cluster
from kerasxfer_serving.commands import main
from kerasxfer_serving.errors import DeviceError, KerasxferError
from kerasxfer_serving.inputs.input import Input
from kerasxfer_serving.inputs.reader import Reader, local_input

pytest.importorskip("ray")
from kerasxfer_serving.cluster.engine import RayPredictor

BATCH = 8


@pytest.fixture(scope="module")
def ray():
    with ray_cluster.start(num_cpus=2) as ray:
        yield ray


@pytest.fixture(scope="module")
def predictor(ray, model):
    """One engine for all tests: starting processes is most of the time that Ray takes here."""
    with RayPredictor(ray, model, device="cpu", batch_size=BATCH, num_workers=1) as predictor:
        yield predictor


@pytest.fixture(scope="module")
def images(tmp_path_factory, draw_colours):
    return list(draw_colours(tmp_path_factory.mktemp("images") / "p", 300))


@pytest.fixture
def expected(model, rows):
    def rows_of_the_local_engine(inputs):
        return rows(Predictor(model, device="cpu", batch_size=BATCH, threads=1).stream(inputs))

    return rows_of_the_local_engine


def command(*arguments, monkeypatch):
    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(sys, "argv", ["kerasxfer-serving", "predict", *map(str, arguments)])
    try:
        main()
    except SystemExit as exit_:
        return exit_.code or 0
    finally:
        signal.signal(signal.SIGTERM, handler)
    return 0


def processes(name):
    """Of this test's Ray; there may be others on the machine."""
    return [process for process in psutil.Process().children(recursive=True) if name in " ".join(process.cmdline())]


def killer(path):
    """An image that ends the process that decodes it, as a defect in native code does."""

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    return Input(path, die)


def test_good_odd_and_bad_files_have_the_rows_of_the_local_engine(predictor, images, zoo, expected, rows):
    inputs = [local_input(path) for path in images[:100]] + [local_input(str(case.path)) for case in zoo]
    assert rows(predictor.stream(inputs)) == expected(inputs)


def test_predictors_in_openvino_take_cores_and_give_the_rows_of_the_local_one(ray, model, images, rows):
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    inputs = [local_input(path) for path in images[:40]]
    with Predictor(model, device="openvino", batch_size=BATCH, threads=1) as local:
        expected = rows(local.stream(inputs))
    with RayPredictor(ray, model, device="openvino", batch_size=BATCH, num_workers=1) as cluster:
        assert (cluster.device, cluster.describe()["cpu_precision"]) == ("openvino", "f32")
        assert rows(cluster.stream(inputs)) == expected


def test_files_are_the_same_byte_for_byte(predictor, model, images, tmp_path, monkeypatch, capfdbinary):
    folder = Path(images[0]).parent
    common = (model, folder, "--batch-size", BATCH, "--top-k", 3, "--device", "cpu")
    on_ray = ("--engine", "ray", "--num-workers", 1)
    for name, engine in (("local.csv", ()), ("local.parquet", ()), ("ray.parquet", on_ray), ("-", on_ray)):
        out = name if name == "-" else tmp_path / name
        assert command(*common, "-o", out, *engine, monkeypatch=monkeypatch) == 0
    assert (tmp_path / "ray.parquet").read_bytes() == (tmp_path / "local.parquet").read_bytes()
    assert capfdbinary.readouterr().out == (tmp_path / "local.csv").read_bytes()


def test_a_run_goes_on_with_either_engine(predictor, model, images, tmp_path, monkeypatch):
    folder = Path(images[0]).parent
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join([*images[:70], "missing.jpg", *images[70:]]))
    common = (model, listed, "--batch-size", BATCH, "--device", "cpu", "--format", "csv", "--root", folder)
    assert command(*common, "-o", tmp_path / "whole.csv", monkeypatch=monkeypatch) == 1
    on_ray = ("--engine", "ray", "--num-workers", 1)
    for index, engines in enumerate([(on_ray, ()), ((), on_ray)]):
        out = tmp_path / f"{index}.csv"
        for engine, more in zip(engines, (("--fail-fast",), ("--resume",)), strict=True):
            assert command(*common, "-o", out, *engine, *more, monkeypatch=monkeypatch) == 1
            assert out.exists() == ("--resume" in more)
        assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert command(*common, "-o", out, *on_ray, "--resume", "--draft", monkeypatch=monkeypatch) == 2
    listed.write_text("\n".join(images))
    assert command(*common, "-o", out, *on_ray, "--resume", monkeypatch=monkeypatch) == 2


def test_images_that_kill_are_found_and_nobody_else_suffers(predictor, images, expected, rows):
    deadly = {5, 70, 71}
    inputs = [(killer if index in deadly else local_input)(path) for index, path in enumerate(images[:80])]
    found = rows(predictor.stream(inputs))
    assert [row["path"] for row in found] == images[:80]
    assert {index for index, row in enumerate(found) if row["status"] == "worker_died"} == deadly
    assert found[5]["message"] == f"{images[5]!r} ended every process that decoded it"
    assert found[5]["label"] is None
    harmless = expected([local_input(path) for path in images[:80]])
    assert [row for index, row in enumerate(found) if index not in deadly] == [
        row for index, row in enumerate(harmless) if index not in deadly
    ]


@pytest.mark.parametrize("name", ["ray::PredictorWorker", "ray::decode"])
def test_a_process_that_is_killed_costs_no_row(predictor, images, expected, name, rows, slowly):
    inputs = [slowly(path, 0.01) for path in images]
    stream = predictor.stream(inputs)
    first = next(stream)
    victims = processes(name)
    assert victims
    for victim in victims:
        victim.kill()
    assert rows([first, *stream]) == expected([local_input(path) for path in images])


@pytest.mark.slow
def test_a_driver_that_is_killed_goes_on(model, images, tmp_path):
    listed, out = tmp_path / "list.txt", tmp_path / "parts"
    listed.write_text("\n".join(images * 10))
    call = [sys.executable, "-m", "kerasxfer_serving", "predict", str(model), str(listed), "-o", str(out)]
    call += ["--format", "csv", "--part-rows", "64", "--batch-size", "8", "--device", "cpu", "--engine", "ray"]
    driver = subprocess.Popen(call)
    while not len(list(out.glob("part-*.csv"))) > 2:
        assert driver.poll() is None
        time.sleep(0.01)
    driver.kill()
    driver.wait()
    before = {path: path.read_bytes() for path in out.glob("part-*.csv")}
    subprocess.run([*call, "--resume"], check=True)
    assert all(path.read_bytes() == data for path, data in before.items())
    subprocess.run(
        [*call[: call.index("--engine")], "-o", str(tmp_path / "local.csv"), "--batch-size", "8"], check=True
    )
    lines = [line for path in sorted(out.glob("part-*.csv")) for line in path.read_text().splitlines()[1:]]
    assert lines == (tmp_path / "local.csv").read_text().splitlines()[1:]


def test_inputs_are_taken_only_as_fast_as_they_are_predicted(predictor, images, monkeypatch):
    monkeypatch.setattr("kerasxfer_serving.cluster.engine._AHEAD", 8)
    taken = itertools.count()
    stream = predictor.stream(local_input(images[next(taken) % 300]) for _ in itertools.count())
    for _ in range(5):
        next(stream)
    time.sleep(1)
    stream.close()
    assert next(taken) <= (5 + 8) * 64
    again = predictor.stream(local_input(path) for path in images)
    assert sum(map(len, again)) == 300


def test_urls_and_relative_paths(predictor, images, expected, monkeypatch, rows):
    folder = Path(images[0]).parent
    monkeypatch.chdir(folder)
    inputs = [*itertools.islice(Reader([f"file://{folder}"]), 70), local_input("00000.png"), local_input("none.png")]
    assert rows(predictor.stream(inputs)) == expected(inputs)


def test_files_that_only_the_driver_has(predictor, images, monkeypatch):
    """A worker in another folder stands for one on another machine: relative paths lead nowhere there."""
    monkeypatch.chdir(Path(images[0]).parent)
    monkeypatch.setattr("kerasxfer_serving.cluster.engine.Path.cwd", lambda: "/proc/self")
    with pytest.raises(KerasxferError, match=r"cannot see '00000.png', which this machine has"):
        list(predictor.stream([local_input("00000.png")]))


def test_a_machine_that_decodes_otherwise_is_noticed(predictor, images, monkeypatch):
    monkeypatch.setattr("kerasxfer_serving.cluster.engine.decoder_hash", lambda manifest: "that of another Pillow")
    with pytest.raises(KerasxferError, match="decodes the golden images unlike this machine"):
        list(predictor.stream([local_input(images[0])]))


def test_a_device_that_no_worker_has(ray, model):
    from kerasxfer_serving.runtime.resources import cuda_devices

    if cuda_devices():
        pytest.skip("there is a GPU")
    with pytest.raises(DeviceError, match="`device='cuda'` is not available"):
        RayPredictor(ray, model, device="cuda")


def test_a_cluster_without_room(ray, model):
    with pytest.raises(KerasxferError, match=r"no room for a predictor, which needs \{'CPU': 64\}"):
        RayPredictor(ray, model, threads=64)
    with pytest.raises(KerasxferError, match=r"needs \{'GPU': 1.0\}"):
        RayPredictor(ray, model, gpus_per_worker=1.0)


def test_a_model_with_features_and_many_workers_than_images(ray, model, images):
    with RayPredictor(ray, model, device="cpu", batch_size=BATCH, features=True, num_workers=1) as predictor:
        (found,) = predictor.stream([local_input(images[0])])
        assert found.features.shape == (1, 3)
        assert list(predictor.stream([])) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engine", "ray"], '`--engine ray` needs Ray: `pip install "kerasxfer-serving[ray]"`'),
        (["--num-workers", "2"], "`--num-workers` needs `--engine ray`"),
        (["--engine", "ray", "--gpu-id", "1"], "use `--gpus-per-worker`"),
    ],
)
def test_without_ray(model, images, arguments, message):
    code = "import sys; sys.modules['ray'] = None\nfrom kerasxfer_serving.commands import main; main()"
    call = [sys.executable, "-c", code, "predict", str(model), images[0], *arguments]
    done = subprocess.run(call, capture_output=True, text=True)
    assert message in done.stderr
    assert done.returncode == 2
    assert done.stdout == ""


def test_the_package_does_not_import_ray():
    code = "import sys, kerasxfer_serving.pipeline, kerasxfer_serving.cluster.engine; sys.exit('ray' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
