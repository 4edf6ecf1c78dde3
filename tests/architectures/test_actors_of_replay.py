# SPDX-License-Identifier: Apache-2.0
"""What actors of Ape-X and R2D2 hand over, with real agents: first priorities, and memories that are worth storing."""

import numpy as np
import pytest

from shoal import envs
from shoal.actors.rated import start_rated
from shoal.actors.sequences import start_sequences
from shoal.agents.exploration import followed_by
from shoal.architectures import apex, r2d2
from shoal.architectures.assemble import make_parts
from shoal.engines import make_engine
from shoal.trees import tree_map


def collected(start, module, config, env, network, versions=1, unrolls=6):
    """(what an actor's unrolls give, parts, params that acted last), under params that change `versions` times."""

    def collect():
        parts = make_parts(module, config, envs.resolve(env), network)
        sampler, random = start(0, config, parts), np.random.default_rng(0)
        flat, found = np.asarray(parts.agent.init(0)), []
        for unroll in range(unrolls):
            if unroll < versions:
                flat = flat + random.normal(scale=0.05, size=flat.shape).astype(np.float32)
            found.append(sampler.unroll(followed_by(flat, 0.2), unroll, config.unroll_length))
        sampler.close()
        return [one for one in found if one is not None], parts, flat

    return make_engine("inline").run(collect)


@pytest.mark.evidence("fingerprint", "apex")
def test_first_priorities_are_what_the_learner_s_network_holds_of_the_rows():
    """Recomputed in JAX from observations and the params that acted."""
    import jax

    config = apex.Config(envs_per_actor=3, unroll_length=10, n_step=3, discount=0.9)
    messages, parts, flat = collected(start_rated, apex, config, "toy:catch", "auto")
    for rows in messages:
        length = len(rows.reward)
        assert np.isfinite(rows.priority).all()
        obs = np.asarray(rows.obs)
        q = np.asarray(jax.vmap(lambda one: parts.agent.policy(flat, one, ())[0].q)(obs))
        taken = np.take_along_axis(q[:length], rows.action[..., None].astype(int), -1)[..., 0]
        best = q.max(-1)[np.arange(length)[:, None] + rows.steps, np.arange(3)]
        error = np.abs(rows.reward + rows.discount * best - taken)
        np.testing.assert_allclose(rows.priority, np.where(rows.valid, error, 0), rtol=1e-4, atol=1e-5)
    priority = np.concatenate([rows.priority[rows.valid] for rows in messages])
    assert np.count_nonzero(priority == priority.max()) == 1


def carried(agent, flat, rows, memory):
    """Values [A] of the last of these observations, with memory carried through them all."""
    bound, q = agent.bind(flat), None
    for obs in rows:
        _, q, memory = agent.act(bound, obs, memory, np.zeros((1, agent.noise_size), np.float32))
    return q[0]


@pytest.mark.evidence("fingerprint", "r2d2")
def test_stored_memory_with_burn_in_is_nearer_to_the_truth_than_none():
    """Kapturowski et al. 2019, section 3: by newer params than those that acted, the distance of the first learnt row's
    values from those with memory of the whole episode, over the largest of these."""
    burn_in = 4
    config = r2d2.Config(envs_per_actor=1, unroll_length=8, sequence_length=8, burn_in=burn_in, dueling=False)
    messages, parts, flat = collected(start_sequences, r2d2, config, "toy:memory", "lstm", versions=1, unrolls=60)
    agent, newer = parts.agent, flat + np.random.default_rng(1).normal(scale=0.02, size=flat.shape).astype(np.float32)
    sequences = [
        (one.steps.obs[:, n : n + 1], tree_map(lambda leaf, n=n: leaf[n : n + 1], one.steps.memory))
        for one in messages
        for n in range(len(one.priority))
    ]
    stored, empty = [], []
    for (before, _), (obs, memory) in zip(sequences, sequences[1:], strict=False):
        if round(10 * float(obs[0, 0, 2])) != burn_in:  # its first row is the fifth of an episode
            continue
        truth = carried(agent, newer, [*before[:burn_in], *obs[: burn_in + 1]], agent.memory(1))
        scale = np.abs(truth).max()
        stored.append(np.abs(carried(agent, newer, obs[: burn_in + 1], memory) - truth).max() / scale)
        empty.append(np.abs(carried(agent, newer, obs[burn_in : burn_in + 1], agent.memory(1)) - truth).max() / scale)
    assert len(stored) > 20
    assert 0 < np.median(stored) < 0.5 * np.median(empty)
