# SPDX-License-Identifier: Apache-2.0
"""Workers of the parallel sampler that die, hang or raise: their part is made anew, or one line says which it was."""

import os
import signal

import jax
import numpy as np
import pytest

from actors.collecting import SEED, WAYS, assert_equal, collect, config_of, parts_of
from agents.made import halves
from engines.running import all_end
from shoal import seeds
from shoal.actors.samplers import start
from shoal.engines import make_engine
from shoal.errors import EnvironmentFault

LENGTH = 6


def parallel(env="toy:catch", network="auto", index=0, **fields):
    """(sampler, params) of 4 environments in 2 workers."""
    kwargs = fields.pop("env_kwargs", {})
    config = config_of(**WAYS["parallel"], **fields)
    parts = parts_of(config, env, network, **kwargs)
    return start(index, config, parts), np.asarray(parts.learner.init(0).params)


@pytest.fixture
def sampler_and_params():
    sampler, params = parallel()
    yield sampler, params
    sampler.close()


def with_notes(fn, *args):
    """What fn returns, and the lines about lost workers that it noted."""
    engine, lines = make_engine("inline"), []
    engine.on_note = lambda **metrics: lines.extend(v for k, v in metrics.items() if k == "env_worker_restarted")
    return engine.run(fn, *args), lines


def test_a_part_that_was_lost_is_made_anew(sampler_and_params):
    sampler, params = sampler_and_params
    first = sampler.unroll(params, 0, LENGTH)
    victim, other = sampler.pids()
    os.kill(victim, signal.SIGKILL)
    second, lines = with_notes(sampler.unroll, params, 1, LENGTH)
    assert sampler.pids()[1] == other
    (line,) = lines
    assert line.startswith("toy:catch: environments 0 .. 1 (seed ")
    assert line.endswith(f"lost: process {victim} was killed by SIGKILL; a new process opens new episodes")
    serial = collect(config_of(), parts_of(config_of()), lengths=(LENGTH, LENGTH), index=0)
    _, whole = (halves(trajectory) for trajectory in serial)
    assert_equal(halves(first)[0], halves(serial[0])[0], rounded=True)
    assert_equal(halves(second)[1], whole[1], rounded=True)
    anew = config_of(seed=SEED)
    parts = parts_of(anew)
    restarted = parts._replace(seed=seeds.derive(parts.seed, "restart", 1))
    expected = halves(collect(anew, restarted, lengths=(LENGTH,), index=0)[0])[0]
    assert_equal(halves(second)[0]._replace(version=()), expected._replace(version=()), rounded=True)


def test_a_death_in_the_middle_of_an_unroll(sampler_and_params):
    """The worker is stopped before it is told to go, so it is killed with its part unwritten."""
    sampler, params = sampler_and_params
    sampler.unroll(params, 0, LENGTH)
    victim = sampler.pids()[1]
    os.kill(victim, signal.SIGSTOP)
    hand = sampler._hands[1]

    def go_and_die(*told):
        del hand.go  # the next process is told as usual
        hand.go(*told)
        os.kill(victim, signal.SIGKILL)

    hand.go = go_and_die
    trajectory, lines = with_notes(sampler.unroll, params, 1, LENGTH)
    assert len(lines) == 1
    assert trajectory.valid[:, 2:].all()  # new episodes, whole
    assert trajectory.obs[0, 2:, :5].any(-1).all()  # whose ball is at the top


def test_two_at_once_and_again_and_again(sampler_and_params):
    sampler, params = sampler_and_params
    drawn = []
    for version in range(4):
        for pid in sampler.pids():
            os.kill(pid, signal.SIGKILL)
        trajectory, lines = with_notes(sampler.unroll, params, version, LENGTH)
        assert len(lines) == 2
        drawn.append(trajectory.action.tobytes())
    assert len(set(drawn)) == 4  # no new process relives what another did


def test_who_is_new_gets_to_know_all_buffers(sampler_and_params):
    sampler, params = sampler_and_params
    kept = [sampler.unroll(params, version, LENGTH) for version in range(3)]
    os.kill(sampler.pids()[0], signal.SIGKILL)
    del kept[:2]
    kept += [sampler.unroll(params, version, LENGTH) for version in range(3)]
    assert len(sampler._buffers.all) == 4
    assert len({trajectory.obs.tobytes() for trajectory in kept}) == 4


def test_a_recurrent_policy_in_jax_survives():
    sampler, params = parallel("toy:memory", "agents.made:GruInJax")
    sampler.unroll(params, 0, LENGTH)
    os.kill(sampler.pids()[0], signal.SIGKILL)
    trajectory = sampler.unroll(params, 1, LENGTH)
    assert not np.any(trajectory.memory[:2])
    assert np.all(np.any(trajectory.memory[2:], -1))
    sampler.close()


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        ("Raises", {}, "raised"),
        ("ExitsTheProcess", {}, "ended its process 3 times before an unroll of its own was finished: process"),
        ("NeverReturns", {"step_timeout": 2.0}, "did nothing for 2 s and the process was ended"),
    ],
)
def test_an_environment_that_is_to_blame_is_named(name, fields, said):
    sampler, params = parallel(f"envs.hostile:{name}", **fields)
    with pytest.raises(EnvironmentFault) as caught:
        for version in range(3):
            sampler.unroll(params, version, LENGTH)
    sampler.close()
    line = str(caught.value)
    assert f"envs.hostile:{name}: environment " in line
    assert "step " in line
    assert said in line
    assert "\n" not in line


def test_a_stopped_worker_is_replaced():
    sampler, params = parallel(step_timeout=2.0)
    sampler.unroll(params, 0, LENGTH)
    os.kill(sampler.pids()[0], signal.SIGSTOP)
    trajectory, lines = with_notes(sampler.unroll, params, 1, LENGTH)
    sampler.close()
    assert "was stopped and is replaced" in lines[0]
    assert trajectory.valid.any()


def test_who_closes_leaves_nobody_and_loses_nothing(sampler_and_params):
    sampler, params = sampler_and_params
    trajectory = sampler.unroll(params, 0, LENGTH)
    copy = jax.tree.map(np.copy, trajectory)
    pids = sampler.pids()
    sampler.close()
    sampler.close()
    assert all_end(pids)
    assert_equal(trajectory, copy)
