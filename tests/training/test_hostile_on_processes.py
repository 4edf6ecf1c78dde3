# SPDX-License-Identifier: Apache-2.0
"""Hostile environments in processes of their own: what breaks is named in a line, what hangs is ended, others train."""

import contextlib
import os
import time

import psutil
import pytest

import shoal
from envs.hostile import HOSTILE
from shoal.errors import ShoalError

DEADLY = [hostile for hostile in HOSTILE if hostile.dies]
HANG_SECONDS = 5.0  # of a process that somebody may take the core from
SAYS = {
    "exit 3": "ended with exit code 3",
    "signal 6": "was killed by SIGABRT",
    "signal 9": "was killed by SIGKILL",
    "signal 11": "was killed by SIGSEGV",
    "hang": f"did nothing for {HANG_SECONDS:g} s and was ended",
}


def train(hostile, folder):
    slow = hostile.__name__ == "SlowReset"  # five seconds for each episode of three steps
    return shoal.train(
        "impala", f"envs.hostile:{hostile.__name__}", engine="processes", env_steps=5 if slow else 60, unroll_length=5,
        num_actors=1, envs_per_actor=1 if slow else 2, batch_trajectories=1, run_dir=folder / "run",
        hang_seconds=HANG_SECONDS if hostile.dies == "hang" else 30, quiet=True,
    )  # fmt: skip


def check(hostile, folder):
    says = hostile.fault or SAYS.get(hostile.dies, "")
    if not says:
        assert train(hostile, folder).metrics[-1]["env_steps"] >= 4
        return
    with pytest.raises(ShoalError, match=says) as caught:
        train(hostile, folder)
    line = str(caught.value)
    assert "\n" not in line
    assert caught.value.exit_code == (3 if hostile.dies or hostile.error.exit_code == 3 else 2)
    if hostile.dies:
        assert "environment 0 (seed " in line
        assert "step " in line
        assert "inside its code; fix the environment" in line


def descendants() -> list[psutil.Process]:
    """Processes below ours, but for the fork server itself."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            found += child.children(recursive=True)
    return found


@pytest.mark.parametrize("hostile", DEADLY, ids=lambda hostile: hostile.__name__)
def test_what_kills_its_process_is_named_and_leaves_nothing_behind(hostile, tmp_path):
    check(hostile, tmp_path)
    until = time.monotonic() + 60
    while descendants() and time.monotonic() < until:
        time.sleep(0.02)
    assert descendants() == []
    assert shared_memory() == []


def shared_memory() -> list[str]:
    """Descriptors of this process that lead to shared memory, once the last arrays over it are gone."""
    import gc

    gc.collect()
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            if "memfd:shoal" in os.readlink(f"/proc/self/fd/{fd}"):
                found.append(fd)
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.parametrize("hostile", [h for h in HOSTILE if not h.dies], ids=lambda hostile: hostile.__name__)
def test_every_other_hostile_environment(hostile, tmp_path):
    check(hostile, tmp_path)
