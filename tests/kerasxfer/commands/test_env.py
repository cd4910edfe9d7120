import json
import subprocess
import sys

import keras


def test_env_tells_the_backend_that_really_starts():
    done = subprocess.run(
        [sys.executable, "-m", "kerasxfer", "env", "--format", "json"], capture_output=True, check=True
    )
    found = json.loads(done.stdout)
    assert found["keras"]["keras backend"] == keras.config.backend()
    assert found["keras"]["keras device"]
    assert found["versions"]["keras"] == keras.__version__
    assert found["providers"]["CPUExecutionProvider"]["starts"]


def test_a_broken_backend_is_reported_and_no_traceback(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "no-such-backend")
    done = subprocess.run([sys.executable, "-m", "kerasxfer", "env"], capture_output=True, text=True, check=True)
    assert "keras backend              does not start: " in done.stdout
    assert "no-such-backend" in done.stdout
