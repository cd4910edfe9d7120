import os

import pytest
from kerasxfer_serving.runtime.resources import available_cores, cgroup_quota


@pytest.mark.parametrize(("text", "quota"), [("150000 100000", 1.5), ("max 100000", None), ("50000 100000", 0.5)])
def test_quota_of_cgroup_2(tmp_path, text, quota):
    (tmp_path / "cpu.max").write_text(text)
    assert cgroup_quota(tmp_path) == quota


@pytest.mark.parametrize(("text", "quota"), [("300000", 3.0), ("-1", None)])
def test_quota_of_cgroup_1(tmp_path, text, quota):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(text)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert cgroup_quota(tmp_path) == quota


def test_no_cgroup_no_quota(tmp_path):
    assert cgroup_quota(tmp_path) is None
    assert available_cores(tmp_path) == len(os.sched_getaffinity(0))


def test_a_small_quota_leaves_one_core(tmp_path):
    (tmp_path / "cpu.max").write_text("10000 100000")
    assert available_cores(tmp_path) == 1


def test_affinity_counts(tmp_path):
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert available_cores(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, before)
