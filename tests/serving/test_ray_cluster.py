"""Prediction on a Ray cluster whose machines come and go: rows as of the local engine."""

import itertools

import pytest
from kerasxfer_serving import Predictor
from kerasxfer_serving.cluster import ray as ray_cluster
from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.inputs.reader import local_input

pytest.importorskip("ray")
from kerasxfer_serving.cluster.engine import RayPredictor

BATCH = 8
QUICK_TO_NOTICE = {"health_check_period_ms": 300, "health_check_failure_threshold": 3, "health_check_timeout_ms": 1000}


@pytest.fixture
def cluster(monkeypatch):
    """A head with one core, and whatever nodes a test adds."""
    ray = ray_cluster.import_ray()
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": QUICK_TO_NOTICE}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def test_a_node_removed_and_a_node_added_in_the_middle_of_a_run(cluster, model, tmp_path, draw_colours, rows, slowly):
    images, asked, changed = list(draw_colours(tmp_path / "p", 200)), [], []

    def until_the_cluster_has_changed():
        for path in itertools.cycle(images):
            if changed and len(asked) % len(images) == 0:
                return
            asked.append(path)
            yield slowly(path, 0.02)

    leaving = cluster.add_node(num_cpus=2)
    with ray_cluster.start() as ray, RayPredictor(ray, model, device="cpu", batch_size=BATCH) as predictor:
        assert predictor.workers == 3
        stream = predictor.stream(until_the_cluster_has_changed())
        found, nodes = [], set()

        def until(done):
            for predictions in stream:
                found.append(predictions)
                nodes.update(worker.opened.node for worker in predictor._pool.workers)
                if done():
                    return

        until(lambda: leaving.node_id in nodes)
        cluster.remove_node(leaving, allow_graceful=False)
        until(lambda: True)
        joining = cluster.add_node(num_cpus=2)
        until(lambda: joining.node_id in nodes)
        changed.append(True)
        found.extend(stream)
    local = Predictor(model, device="cpu", batch_size=BATCH, threads=1).stream(local_input(path) for path in asked)
    assert rows(found) == rows(local)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere.invalid:6379", "nowhere"])
def test_an_address_that_nobody_answers(address):
    with pytest.raises(UsageError, match="No Ray cluster answers"), ray_cluster.start(address):
        pass


def test_a_ray_that_runs_already_is_used_and_left_alone():
    with ray_cluster.start(num_cpus=1) as ray:
        with ray_cluster.start("auto") as same:
            assert same is ray
        assert ray.is_initialized()
        assert ray.cluster_resources()["CPU"] == 1
    assert not ray.is_initialized()
