import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from ptyonnx_bundles.cores import cores, cpu_quota

V2 = "24 1 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 {top} /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:31 {top} /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
)


def _machine(root: Path, cgroup: str, mounts: str, files: Mapping[str, str]) -> Path:
    """Files as the kernel shows them; `files` lie in /sys/fs/cgroup."""
    content = {"proc/self/cgroup": cgroup, "proc/self/mountinfo": mounts}
    content |= {f"sys/fs/cgroup/{name}": f"{text}\n" for name, text in files.items()}
    for name, text in content.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


@pytest.fixture(autouse=True)
def _bound_to_eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


@pytest.mark.parametrize(
    "limit, quota, threads",
    [
        ("max 100000", None, 8),
        ("100000 100000", 1, 1),
        ("50000 100000", 0.5, 1),
        ("150000 100000", 1.5, 2),
        ("300000 100000", 3, 3),
        ("3200000 100000", 32, 8),
        ("20000 10000", 2, 2),
    ],
)
def test_threads_follow_the_quota_of_version_2(limit: str, quota: float | None, threads: int, tmp_path: Path) -> None:
    root = _machine(tmp_path, "0::/user.slice/job\n", V2, {"user.slice/job/cpu.max": limit})
    assert cpu_quota(root) == quota
    assert cores(root) == threads


@pytest.mark.parametrize("limit, quota", [("-1", None), ("100000", 1), ("250000", 2.5)])
def test_threads_follow_the_quota_of_version_1(limit: str, quota: float | None, tmp_path: Path) -> None:
    files = {"cpu,cpuacct/job/cpu.cfs_quota_us": limit, "cpu,cpuacct/job/cpu.cfs_period_us": "100000"}
    root = _machine(tmp_path, "9:cpuset:/other\n4:cpu,cpuacct:/job\n0::/\n", V1.format(top="/"), files)
    assert cpu_quota(root) == quota


def test_the_least_quota_on_the_way_to_the_top_counts(tmp_path: Path) -> None:
    files = {"a/cpu.max": "200000 100000", "a/b/cpu.max": "400000 100000", "a/b/c/cpu.max": "max 100000"}
    assert cpu_quota(_machine(tmp_path, "0::/a/b/c\n", V2, files)) == 2


def test_the_quota_of_a_neighbour_does_not_count(tmp_path: Path) -> None:
    files = {"a/cpu.max": "max 100000", "b/cpu.max": "100000 100000"}
    assert cpu_quota(_machine(tmp_path, "0::/a\n", V2, files)) is None


@pytest.mark.parametrize("path", ["/docker/4f1e", "/", "/../../elsewhere"])
def test_a_container_finds_its_quota_where_its_group_is_mounted(path: str, tmp_path: Path) -> None:
    """Without a namespace it sees its full path and a mount of that group; in one, a path from there."""
    files = {"cpu,cpuacct/cpu.cfs_quota_us": "100000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}
    root = _machine(tmp_path, f"4:cpu,cpuacct:{path}\n", V1.format(top="/docker/4f1e"), files)
    assert cores(root) == 1


def test_both_versions_may_be_mounted_beside_each_other(tmp_path: Path) -> None:
    files = {
        "cpu,cpuacct/job/cpu.cfs_quota_us": "400000", "cpu,cpuacct/job/cpu.cfs_period_us": "100000",
        "unified/job/cpu.max": "300000 100000",
    }  # fmt: skip
    assert cpu_quota(_machine(tmp_path, "4:cpu,cpuacct:/job\n0::/job\n", V1.format(top="/"), files)) == 3


def test_a_mount_point_may_have_blanks_in_its_name(tmp_path: Path) -> None:
    mounts = V2.replace("/sys/fs/cgroup", r"/sys/fs/cgroup/of\040mine")
    assert cpu_quota(_machine(tmp_path, "0::/\n", mounts, {"of mine/cpu.max": "100000 100000"})) == 1


@pytest.mark.parametrize("limit", ["", "much 100000", "100000 0", "100000", "0 100000"])
def test_what_cannot_be_read_limits_nothing(limit: str, tmp_path: Path) -> None:
    expected = 1 if limit == "100000" else None  # the kernel's own default for the period
    assert cpu_quota(_machine(tmp_path, "0::/\n", V2, {"cpu.max": limit})) == expected


def test_without_control_groups_the_cores_that_a_process_is_bound_to_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cores(tmp_path) == 8
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5}, raising=False)
    assert cores(tmp_path) == 1
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert cores(tmp_path) == 3
