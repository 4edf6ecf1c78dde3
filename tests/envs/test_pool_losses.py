# SPDX-License-Identifier: Apache-2.0
"""Workers that die, hang or are stopped: what was lost is said in rows and lines, nothing else changes."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from envs.pooled import CRASH, END, EXIT, FINE, SLEEP
from shoal import envs, seeds
from shoal.envs.pool import in_workers
from shoal.envs.pool.watched import Watched
from shoal.errors import EnvironmentFault
from shoal.processes import launch, stillness

SEED, FIRST_INDEX = 7, 4


def pool_of(name="envs.pooled:Uneven", workers=2, num_envs=4, step_timeout=60.0, **settings):
    pool = in_workers(envs.resolve(name, settings), workers, step_timeout)(num_envs, FIRST_INDEX)
    pool.reset(SEED)
    return pool


@pytest.fixture
def pool():
    """Four environments in two workers, one step into their first episodes."""
    made = pool_of()
    made.recv()
    step(made, FINE, FINE, FINE, FINE)
    yield made
    made.close()


def step(pool, *action, **settings):
    pool.send(np.array(action))
    return pool.recv(**settings)


def draw(slot: int, restarts: int) -> float:
    """The number that an environment draws from its seed."""
    seed = seeds.derive(SEED, "restart", restarts) if restarts else SEED
    return float(np.float32(np.random.default_rng(seeds.derive(seed, "env", FIRST_INDEX + slot)).random()))


def shown(rows) -> list[tuple]:
    """(episode, step, valid, terminated, truncated) of each row."""
    flags = zip(rows.valid.tolist(), rows.terminated.tolist(), rows.truncated.tolist(), strict=True)
    return [(int(obs[1]), int(obs[2]), *found) for obs, found in zip(rows.obs, flags, strict=True)]


VALID, RESETS, LOST = (True, False, False), (False, False, False), (False, False, True)


def test_a_lost_step_is_a_row_that_is_cut_and_then_a_new_episode_opens(pool):
    before = pool.pids()
    rows = step(pool, FINE, EXIT, FINE, FINE)
    assert shown(rows) == [(1, 1, *LOST), (1, 1, *LOST), (1, 2, *VALID), (1, 2, *VALID)]
    assert rows.reward.tolist() == [0, 0, 1, 1]
    rows = step(pool, EXIT, EXIT, FINE, FINE)  # a row that resets: its action is ignored
    assert shown(rows) == [(1, 0, *RESETS), (1, 0, *RESETS), (1, 3, *VALID), (1, 3, *VALID)]
    assert rows.obs[:, 0].tolist() == [draw(0, 1), draw(1, 1), draw(2, 0), draw(3, 0)]
    rows = step(pool, FINE, FINE, FINE, FINE)
    assert shown(rows) == [(1, 1, *VALID), (1, 1, *VALID), (1, 4, *VALID), (1, 4, *VALID)]
    assert (pool.pids()[0] != before[0], pool.pids()[1]) == (True, before[1])
    (line,) = pool.take_reports()
    seed = seeds.derive(SEED, "env", FIRST_INDEX + 1)
    assert line.startswith(f"envs.pooled:Uneven: environment {FIRST_INDEX + 1} (seed {seed}, step 2) lost: process ")
    assert line.endswith("ended with exit code 5; a new process opens new episodes")
    assert pool.take_reports() == []


def test_each_restart_has_seeds_of_its_own(pool):
    drawn = []
    for _ in range(3):
        step(pool, CRASH, FINE, FINE, FINE)
        drawn.append(step(pool, FINE, FINE, FINE, FINE).obs[0, 0])
        step(pool, FINE, FINE, FINE, FINE)
    assert drawn == [draw(0, 1), draw(0, 2), draw(0, 3)]
    assert len({*drawn, draw(0, 0), draw(1, 1)}) == 5
    assert "was killed by SIGSEGV" in pool.take_reports()[0]
    pool.reset(SEED)
    assert pool.recv().obs[0, 0] == draw(0, 0)


def test_what_was_finished_before_a_death_is_real(pool):
    """Stepped one by one, the first environment of the worker answers and the second dies."""
    step(pool, FINE, FINE, FINE, FINE, min_ready=4)
    rows = step(pool, FINE, EXIT, FINE, FINE, min_ready=4)
    assert shown(rows) == [(1, 3, *VALID), (1, 2, *LOST), (1, 3, *VALID), (1, 3, *VALID)]
    rows = step(pool, FINE, FINE, FINE, FINE)
    assert shown(rows) == [(1, 3, *LOST), (1, 0, *RESETS), (1, 4, *VALID), (1, 4, *VALID)]
    rows = step(pool, FINE, FINE, FINE, FINE)
    assert shown(rows) == [(1, 0, *RESETS), (1, 1, *VALID), (1, 5, *VALID), (1, 5, *VALID)]


def test_an_episode_that_had_ended_is_not_cut_again(pool):
    assert shown(step(pool, END, FINE, FINE, FINE))[0] == (1, 2, True, True, False)
    rows = step(pool, FINE, EXIT, FINE, FINE)
    assert shown(rows)[:2] == [(1, 2, *RESETS), (1, 2, *LOST)]
    rows = step(pool, FINE, FINE, FINE, FINE)
    assert shown(rows)[:2] == [(1, 0, *RESETS), (1, 0, *RESETS)]
    assert rows.obs[:2, 0].tolist() == [draw(0, 1), draw(1, 1)]


def test_a_worker_that_is_killed_while_it_has_nothing_to_do(pool):
    os.kill(pool.pids()[1], signal.SIGKILL)
    rows = step(pool, FINE, FINE, FINE, FINE)
    assert shown(rows) == [(1, 2, *VALID), (1, 2, *VALID), (1, 1, *LOST), (1, 1, *LOST)]
    assert "environments 6 .. 7 (seed 7, step 2) lost: " in pool.take_reports()[0]


def test_a_worker_that_is_killed_in_the_middle_of_a_step(tmp_path):
    pool = pool_of("envs.pooled:Held", go=str(tmp_path / "never"))
    pool.recv()
    step(pool, FINE, FINE, FINE, FINE)
    pool.send(np.array([SLEEP, FINE]), np.array([0, 2]))
    assert pool.recv(min_ready=1).slots.tolist() == [2]
    while pool._members[0].page.env is None:  # until it is in that step
        time.sleep(0.01)
    os.kill(pool.pids()[0], signal.SIGKILL)
    rows = pool.recv()
    assert rows.slots.tolist() == [0]
    assert shown(rows) == [(1, 1, *LOST)]
    assert "environment 4 " in pool.take_reports()[0]
    pool.close()


def test_a_worker_that_dies_before_its_first_rows_gives_them_late():
    pool = pool_of()
    for pid in pool.pids():
        os.kill(pid, signal.SIGSTOP)
    pool.reset(SEED)  # nobody answers that any more
    for pid in pool.pids():
        os.kill(pid, signal.SIGKILL)
    rows = pool.recv()
    assert shown(rows) == [(1, 0, *RESETS)] * 4
    assert len(pool.take_reports()) == 2
    pool.close()


def test_three_deaths_before_a_step_is_finished_are_a_fault(pool):
    for _ in range(2):
        step(pool, FINE, EXIT, FINE, FINE)
        step(pool, FINE, FINE, FINE, FINE)
    pool.send(np.array([FINE, EXIT, FINE, FINE]))
    with pytest.raises(EnvironmentFault) as caught:
        pool.recv()
    seed = seeds.derive(seeds.derive(SEED, "restart", 2), "env", FIRST_INDEX + 1)
    line = str(caught.value)
    assert line.startswith(f"envs.pooled:Uneven: environment 5 (seed {seed}, step 1) ended its process 3 times before ")
    assert line.endswith("ended with exit code 5; fix it")
    assert "\n" not in line


@pytest.mark.parametrize(("name", "number"), [("NeverReturns", 1), ("NeverResets", 4)])
def test_what_hangs_is_named(name, number):
    pool = pool_of("envs.hostile:" + name, workers=1, num_envs=2)
    pool.recv()
    for _ in range(number - 1):
        step(pool, 0, 0)
    pool.send(np.array([0, 0]))
    while (env := pool._members[0].page.env) is None or env.step < number:  # until it is where it hangs
        time.sleep(0.01)
    pool._step_timeout = 0.5
    with pytest.raises(EnvironmentFault) as caught:
        pool.recv()
    seed = seeds.derive(SEED, "env", FIRST_INDEX)
    assert f"envs.hostile:{name}: environment 4 (seed {seed}, step {number}) did nothing for 0.5 s" in str(caught.value)
    pool.close()


def test_patience_is_for_each_environment_and_not_for_all_of_a_worker(monkeypatch):
    """By a clock moved by hand. A move is an environment's step."""
    now, killed = [0.0], []
    monkeypatch.setattr(stillness, "monotonic", lambda: now[0])
    watched = Watched("name", 0, 5, "a step", 0)
    watched.page, watched._still, watched.made = SimpleNamespace(moves=0), stillness.Stillness(), True
    watched.child = SimpleNamespace(kill=lambda: killed.append(now[0]), is_stopped=lambda: False)

    def look_after(seconds: float) -> None:
        now[0] += seconds
        watched.look(2.0, busy=True)

    watched.begin()
    look_after(0.0)
    for _ in range(5):
        look_after(1.9)
        watched.page.moves += 1
        look_after(0.0)
    now[0] += 100.0  # the owner may take its time, too
    watched.begin()
    look_after(0.0)
    assert killed == []
    look_after(2.1)
    assert killed == [now[0]]
    assert watched.hung


def test_a_step_of_each_environment_is_a_move():
    pool = pool_of(workers=1, num_envs=5)
    pool.recv()
    before = pool._members[0].page.moves
    step(pool, FINE, FINE, FINE, FINE, FINE)
    assert pool._members[0].page.moves >= before + 5
    pool.close()


def test_a_worker_that_somebody_stopped_is_replaced():
    pool = pool_of()
    pool.recv()
    os.kill(pool.pids()[0], signal.SIGSTOP)
    while not pool._members[0].child.is_stopped():
        time.sleep(0.01)
    pool.send(np.array([FINE, FINE, FINE, FINE]))
    rows = pool.recv(min_ready=2)
    assert (rows.slots.tolist(), shown(rows)) == ([2, 3], [(1, 1, *VALID)] * 2)
    pool._step_timeout = 0.1
    rows = pool.recv()
    assert (rows.slots.tolist(), shown(rows)) == ([0, 1], [(1, 0, *LOST)] * 2)
    assert "was stopped and is replaced" in pool.take_reports()[0]
    pool.close()


def test_the_process_that_starts_workers_may_die_as_well(pool):
    server = launch.shared().server_pid
    assert server is not None
    os.kill(server, signal.SIGKILL)
    until_gone(pool.pids())
    rows = step(pool, FINE, FINE, FINE, FINE)
    assert not rows.valid.any()
    step(pool, FINE, FINE, FINE, FINE)
    assert shown(step(pool, FINE, FINE, FINE, FINE)) == [(1, 1, *VALID)] * 4
    assert launch.shared().server_pid != server


def test_closing_leaves_no_process(pool):
    pool.send(np.array([SLEEP, FINE, FINE, FINE]))
    pids = pool.pids()
    pool.close()
    until_gone(pids)


def test_workers_of_a_child_end_with_it():
    child = launch.shared().launch("envs.pooled:own_a_pool")
    pids = child.link.receive().header["pids"]
    assert running(pids) == pids
    os.kill(child.pid, signal.SIGKILL)
    until_gone(pids)
    child.close()


MAIN = """
import sys
from envs.pooled import own_a_pool
class Printer:
    def send(self, message):
        print(*message["pids"], flush=True)
own_a_pool(Printer(), {}, [], None)
"""


def test_workers_of_the_main_process_end_with_it():
    named = set(os.listdir("/dev/shm"))
    main = subprocess.Popen([sys.executable, "-c", MAIN], stdout=subprocess.PIPE, text=True, env=environment())
    assert main.stdout is not None
    pids = [int(pid) for pid in main.stdout.readline().split()]
    server = {psutil.Process(pid).ppid() for pid in pids}
    assert running(pids) == pids
    main.kill()
    main.wait()
    main.stdout.close()
    until_gone([*pids, *server])  # and with the last of them the memory that they shared, which has no name
    until = time.monotonic() + 60  # other tests may have a name there for a moment
    while not set(os.listdir("/dev/shm")) <= named and time.monotonic() < until:
        time.sleep(0.05)
    assert set(os.listdir("/dev/shm")) <= named


def environment() -> dict[str, str]:
    """That of this process, with the tests on the module path."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def running(pids: list[int]) -> list[int]:
    """Those of these processes that are neither gone nor dead."""

    def runs(pid: int) -> bool:
        try:
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return [pid for pid in pids if runs(pid)]


def until_gone(pids: list[int]) -> None:
    """Wait until none of these processes runs."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if not running(pids):
            return
        time.sleep(0.01)
    raise AssertionError(f"{running(pids)} still run")
