import json

import pytest
from kerasxfer_serving.diagnostics.doctor import CHECKS, CPU_COMMAND, GPU_COMMAND, Facts, diagnose, problems
from kerasxfer_serving.diagnostics.env import environment, loaded_cuda, versions
from kerasxfer_serving.runtime.probe import probe

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
STARTS, FAILS = (
    {"starts": True, "loaded": {}},
    {"starts": False, "reason": "libcudnn.so.9: cannot open shared object file"},
)


def facts(packages="onnxruntime-gpu", providers=(CUDA, CPU), gpus=1, driver="13.1", built="13.0", **probes):
    """A healthy machine with a GPU, but for what is said."""
    runtime = {"version": "1", "built_for_cuda": built, "providers": list(providers)}
    found = {CPU: STARTS, CUDA: probes.get("cuda", STARTS), TENSORRT: probes.get("tensorrt", FAILS)}
    return Facts(
        dict.fromkeys(packages.split(), "9.1.0.70"),
        runtime,
        gpus,
        driver,
        {name: found[name] for name in providers},
    )


class TestEnvironment:
    def test_is_json_and_tells_the_machine(self):
        found = json.loads(json.dumps(environment()))
        assert found["cpu"]["available"] >= 1
        assert found["versions"]["kerasxfer-serving"]
        assert found["onnxruntime"]["providers"][-1] == CPU

    def test_versions_leave_out_what_is_not_there(self):
        found = versions(("numpy", "no-such-package"))
        assert "numpy" in found
        assert "no-such-package" not in found

    def test_no_cuda_is_loaded_by_looking(self):
        assert set(loaded_cuda()) <= {"cudart", "cudnn", "cublas", "tensorrt"}


class TestProbe:
    def test_cpu_starts(self):
        assert probe(CPU) == {"starts": True, "loaded": loaded_cuda()}

    def test_what_does_not_start_says_why(self):
        found = probe("NoSuchExecutionProvider")
        assert not found["starts"]
        assert found["reason"]
        assert "\x1b" not in found["reason"]


class TestDoctor:
    def test_healthy_machines_have_no_problem(self):
        assert problems(facts()) == []
        assert problems(facts("onnxruntime", (CPU,), gpus=0, driver=None, built=None)) == []
        assert problems(facts(providers=(TENSORRT, CUDA, CPU), tensorrt=STARTS)) == []

    @pytest.mark.parametrize(
        ("found", "what", "command"),
        [
            (facts("onnxruntime onnxruntime-gpu"), "both installed", GPU_COMMAND),
            (facts("onnxruntime onnxruntime-gpu", (CPU,), gpus=0, driver=None), "both installed", CPU_COMMAND),
            (facts("onnxruntime-gpu", (CPU,)), "its files are those of the CPU wheel", GPU_COMMAND),
            (facts("onnxruntime", (CPU,)), "1 GPU(s) are visible", GPU_COMMAND),
            (facts(gpus=0, driver=None, cuda=FAILS), "no NVIDIA GPU is visible", "nvidia-smi"),
            (facts(driver="12.4", cuda=FAILS), "the driver runs CUDA 12.4 at most", "update the NVIDIA driver"),
            (facts(cuda=FAILS), "libcudnn.so.9", "pip install 'onnxruntime-gpu[cuda,cudnn]'"),
            (facts("onnxruntime-gpu nvidia-cudnn-cu12 nvidia-cudnn-cu13"), "overwrite each other", "python -m venv"),
            (facts(providers=(TENSORRT, CUDA, CPU)), "TensorRT is listed and does not start", "tensorrt-cu13"),
        ],
    )
    def test_each_problem_has_the_command_that_mends_it(self, found, what, command):
        (problem,) = problems(found)
        assert what in problem.what
        assert command in problem.command

    def test_cudnn_from_elsewhere(self):
        loaded = {"cudnn": {"version": "8.9.7", "path": "/usr/lib/libcudnn.so.8"}}
        found = facts("onnxruntime-gpu nvidia-cudnn-cu13", cuda={"starts": True, "loaded": loaded})
        assert [problem.command for problem in problems(found)] == ["unset LD_LIBRARY_PATH"]
        loaded["cudnn"]["version"] = "9.1.0"
        assert problems(found) == []

    def test_no_runtime_at_all(self):
        found = facts()._replace(onnxruntime=None, probes={}, packages={})
        assert [problem.command for problem in problems(found)] == ["pip install 'kerasxfer-serving[gpu]'"]
        assert "[cpu]" in problems(found._replace(gpus=0, driver_cuda=None))[0].command

    def test_every_check_stands_on_its_own(self):
        empty = Facts({}, None, 0, None, {})
        assert [check(empty) for check in CHECKS[1:]] == [None] * (len(CHECKS) - 1)

    def test_this_machine(self):
        found = diagnose()
        assert found["providers"][CPU]["starts"]
        assert all(problem["what"] and problem["command"] for problem in found["problems"])
