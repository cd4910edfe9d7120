import gc
import importlib.util
import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Tests run side by side, and threads that wait for one another spin. Read when NumPy and a backend are imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Processes that tests start import Keras without what it does not need: see the file there.
_processes = str(Path(__file__).parent / "processes")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (_processes, os.environ.get("PYTHONPATH"))))

# Imports leave hundreds of thousands of objects that stay: to look through them for garbage took a third of the time.
gc.disable()


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


# A busy machine is no mistake of ours.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def zoo_module():
    """`tests/serving/zoo.py`, which no import finds: the tests are no package."""
    spec = importlib.util.spec_from_file_location("zoo", Path(__file__).parent / "serving" / "zoo.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["zoo"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def zoo(zoo_module, tmp_path_factory):
    """A folder of good, odd and bad image files, as a list of `Case(path, code, size)`. Not to be changed."""
    return zoo_module.make_zoo(tmp_path_factory.mktemp("zoo"))
