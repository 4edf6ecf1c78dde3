# SPDX-License-Identifier: Apache-2.0
"""Rest until the batch is over: rows that do not count, the same episodes, nothing for what steps together."""

import numpy as np
import pytest

from envs.recording import Case, factory_of
from shoal import envs
from shoal.envs.pool import in_workers
from shoal.envs.wrappers.rest import Resting
from shoal.errors import ConfigError
from shoal.trees import tree_map

SEED, LENGTH = 3, 12
WALK = Case("envs.own:Walk")


def batches(env, count, *, batch=LENGTH, rest=True):
    """Rows [count * batch, N] of a policy whose action is the step in the episode; `count` batches."""
    env.reset(SEED)
    rows, age = [env.recv()], np.zeros(env.num_envs, int)
    for step in range(count * batch):
        if rest and step % batch == 0:
            env.begin_batch()
        env.send(age % env.spec.action.n)
        rows.append(tree_map(np.copy, env.recv()))
        ended = rows[-1].terminated | rows[-1].truncated
        age = np.where(rows[-1].valid & ~ended, age + 1, 0)
    return tree_map(lambda *leaves: np.stack(leaves), *rows[1:])


@pytest.mark.parametrize("workers", [0, 2])
def test_environments_rest_from_an_end_to_the_first_row_of_the_next_batch(workers):
    factory = envs.resolve("toy:catch", {"rows": 6})  # episodes of 5 steps
    inside = in_workers(factory, workers, 60.0)(3, 0) if workers else factory.make(3)
    env = Resting(inside)
    rows = batches(env, 3)
    env.close()
    at_rest = ~rows.valid
    expected = np.ones((3, LENGTH), bool)
    expected[:, 5:] = False  # a batch of 12 has one episode of 5, then rest
    expected[1:, 0] = False  # and begins with the reset
    expected[1:, 5] = True
    np.testing.assert_array_equal(rows.valid, np.repeat(expected.reshape(-1, 1), 3, 1))
    assert not rows.reward[at_rest].any()
    assert not (rows.terminated | rows.truncated)[at_rest].any()
    for batch in range(3):
        end = batch * LENGTH + 4 + (batch > 0)
        assert rows.terminated[end].all()
        final = rows.obs[end]
        np.testing.assert_array_equal(rows.obs[end + 1 : (batch + 1) * LENGTH], final[None].repeat(7 - (batch > 0), 0))


def test_without_the_rows_of_rest_the_data_is_that_of_the_environment():
    plain = batches(factory_of(WALK).make(3), 8, rest=False)
    rested = batches(Resting(factory_of(WALK).make(3)), 8)
    assert (~rested.valid).sum() > (~plain.valid).sum() > 0
    for slot in range(3):
        real, other = rested.valid[:, slot], plain.valid[:, slot]
        length = min(real.sum(), other.sum())
        for name in ("obs", "reward", "terminated", "truncated"):
            np.testing.assert_array_equal(
                getattr(rested, name)[real, slot][:length], getattr(plain, name)[other, slot][:length]
            )


def test_some_at_a_time():
    env = Resting(envs.resolve("toy:catch", {"rows": 2}).make(3))  # every step ends an episode
    env.reset(SEED)
    env.recv()
    env.begin_batch()
    env.send(np.zeros(2, int), np.array([0, 2]))
    assert env.recv(min_ready=1).slots.tolist() == [0, 2]
    env.send(np.zeros(3, int))
    rows = env.recv()
    assert rows.slots.tolist() == [0, 1, 2]
    assert rows.valid.tolist() == [False, True, False]
    env.send(np.zeros(1, int), np.array([1]))
    assert env.recv(min_ready=1).slots.tolist() == [1]
    with pytest.raises(ValueError, match="nothing to receive"):
        env.recv()


def test_what_steps_together_cannot_rest():
    factory = envs.resolve("CartPole-v1")
    with pytest.raises(ConfigError, match="reset=wait is not for CartPole-v1: its environments are stepped all togeth"):
        Resting(factory.make(2))
    Resting(factory.make(1))
    alone = in_workers(factory, 2, 60.0)(2, 0)  # each has a worker of its own
    rows = batches(Resting(alone), 3, batch=40)
    alone.close()
    assert rows.valid.any()
    assert (~rows.valid[1:] & ~rows.valid[:-1]).any()
