"""Count the processor cores that this process may use, which is the useful number of threads.

Batch systems bind a process to some cores, and containers limit its share of CPU time. Additional threads only wait for
each other: the kernel stops all of them as soon as the quota of a period is used up.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from math import ceil
from pathlib import Path

__all__ = ["cores", "cpu_quota"]

_ROOT = Path("/")
_OCTAL = re.compile(r"\\([0-7]{3})")  # escapes of blanks in mountinfo


def cores(root: Path = _ROOT) -> int:
    """Count the processor cores that this process may use: those it is bound to, or fewer if a quota is lower.

    A quota of 1.5 cores counts as 2, since one thread cannot use it up.

    Parameters
    ----------
    root : Path
        Directory that contains ``proc`` and the control groups.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota(root)
    return bound if quota is None else max(1, min(bound, ceil(quota)))


def cpu_quota(root: Path = _ROOT) -> float | None:
    """Return the CPU quota of this process in cores: the lowest of its Linux control groups and their parents.

    Both versions of control groups are read, ``cpu.max`` of the second and ``cpu.cfs_quota_us`` of the first
    (https://docs.kernel.org/admin-guide/cgroup-v2.html, https://docs.kernel.org/scheduler/sched-bwc.html).

    Parameters
    ----------
    root : Path
        Directory that contains ``proc`` and the control groups.

    Returns
    -------
    float or None
        None if there is no limit or it is unknown.
    """
    quotas = [quota for group in _groups(root) if (quota := _quota_of(group)) is not None]
    return min(quotas, default=None)


def _groups(root: Path) -> Iterator[Path]:
    """Iterate over the folders of this process's control groups, from the topmost mounted one to its own."""
    paths = dict(_memberships(root / "proc/self/cgroup"))
    for version, top, mounted in _mounts(root / "proc/self/mountinfo"):
        if version not in paths:
            continue
        group = root / mounted.lstrip("/")
        inside = _below(paths[version], top)
        yield group
        for part in inside:
            group /= part
            yield group


def _memberships(file: Path) -> Iterator[tuple[int, str]]:
    """Iterate over version and path of the control groups of this process that limit CPU time."""
    for line in _lines(file):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            yield 2, path
        elif "cpu" in controllers.split(","):
            yield 1, path


def _mounts(file: Path) -> Iterator[tuple[int, str, str]]:
    """Iterate over version, topmost group and mount point of control groups that limit CPU time (proc_pid_mountinfo(5))."""
    for line in _lines(file):
        left, _, right = line.partition(" - ")
        place, kind = left.split(" "), right.split(" ")
        if len(place) < 5 or len(kind) < 3:
            continue
        top, mounted = (_OCTAL.sub(lambda code: chr(int(code[1], 8)), name) for name in place[3:5])
        if kind[0] == "cgroup2":
            yield 2, top, mounted
        elif kind[0] == "cgroup" and "cpu" in kind[2].split(","):
            yield 1, top, mounted


def _below(path: str, top: str) -> list[str]:
    """Names of the groups from below the topmost mounted one to the process's own; none if that is not below it."""
    steps, above = ([part for part in name.split("/") if part] for name in (path, top))
    if steps[: len(above)] != above or ".." in steps:  # a container sees its own group as the topmost
        return []
    return steps[len(above) :]


def _quota_of(group: Path) -> float | None:
    """Quota of one group in cores."""
    for line in _lines(group / "cpu.max"):
        return _ratio(*line.split(" ")[:2])
    for quota, period in zip(_lines(group / "cpu.cfs_quota_us"), _lines(group / "cpu.cfs_period_us"), strict=False):
        return _ratio(quota, period)
    return None


def _ratio(quota: str, period: str = "100000") -> float | None:
    """Quota divided by period; None without a limit, which is "max" in one version and -1 in the other."""
    with suppress(ValueError, ZeroDivisionError):
        share = int(quota) / int(period)
        return share if share > 0 else None
    return None


def _lines(file: Path) -> list[str]:
    with suppress(OSError):
        return file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    return []
