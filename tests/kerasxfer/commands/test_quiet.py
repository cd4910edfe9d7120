"""What TensorFlow's libraries write to file descriptor 2 stays off the terminal, unless `--verbose`."""

import os
import re
import subprocess
import sys

import keras
import pytest

import kerasxfer.commands._quiet

# By its path: the package would load the backend first.
TALK = f"""
import os, runpy, sys
runpy.run_path({kerasxfer.commands._quiet.__file__!r})["drop_log_lines"]()
for line in sys.argv[1:]:
    os.write(2, line.encode() + b"\\n")
print("from Python", file=sys.stderr)
print("the result")
os.abort() if "abort" in sys.argv else None
"""


def run(*command):
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, env=environment)


def test_a_command_shows_nothing_of_its_backend():
    done = run("-m", "kerasxfer", "env")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow talks while it loads")
def test_verbose_shows_it():
    assert re.search(r"^[IWE]\d{4} \d\d:\d\d:", run("-m", "kerasxfer", "env", "--verbose").stderr, re.MULTILINE)


def test_log_lines_are_dropped_and_everything_else_is_passed_on():
    logs = (
        "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
        "I0000 00:00:1795707739.962638   20043 port.cc:153] oneDNN custom operations are on.",
        "E0000 00:00:1795707739.962638   20043 cuda_dnn.cc:8579] Unable to register cuDNN factory",
        "2026-01-01 10:00:00.123456: W tensorflow/core/util/x.cc:1] of an older version",
        "To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow.",
    )
    kept = ("F0000 00:00:1795707739.962638 20043 x.cc:1] Check failed", "Interrupted", "2026-01-01 10:00:00 a date")
    done = run("-c", TALK, *logs, *kept)
    assert done.stdout == "the result\n"
    assert sorted(done.stderr.splitlines()) == sorted([*kept, "from Python"])


def test_the_last_words_of_a_crash_are_passed_on():
    assert "F0000 fatal" in run("-c", TALK, "F0000 fatal", "abort").stderr
