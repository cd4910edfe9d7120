import keras
import pytest

from kerasxfer.bottleneck.cache import BottleneckCache
from kerasxfer.choosing.candidates import Candidate
from kerasxfer.choosing.choice import choose
from kerasxfer.demo import draw_folder

SIZE = (32, 32)


@pytest.fixture(scope="session")
def shapes(tmp_path_factory):
    """Drawn shapes in class folders, 24 of each class."""
    root = tmp_path_factory.mktemp("shapes") / "shapes"
    draw_folder(root, per_class=24, size=48, seed=1)
    return root


@pytest.fixture(scope="session")
def narrow_weights(tmp_path_factory):
    """Weights of a narrow MobileNet that has learnt nothing."""
    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNet(alpha=0.25, weights=None, include_top=False, input_shape=(*SIZE, 3))
    path = tmp_path_factory.mktemp("weights") / "narrow.weights.h5"
    model.save_weights(path)
    return path


@pytest.fixture(scope="session")
def candidates(narrow_weights, tmp_path_factory):
    """Two that can be loaded, and one whose weights are not there."""
    missing = tmp_path_factory.mktemp("none") / "missing.h5"
    return [
        Candidate("MobileNet", SIZE, str(narrow_weights), backbone_args={"alpha": 0.25}),
        Candidate("DemoVGG", SIZE),
        Candidate("VGG16", SIZE, str(missing)),
    ]


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return BottleneckCache(tmp_path_factory.mktemp("cache"), verbose=0)


@pytest.fixture(scope="session")
def choice(shapes, candidates, cache):
    """What is chosen without rates."""
    return choose(shapes, candidates, cache=cache.directory, rates=False)
