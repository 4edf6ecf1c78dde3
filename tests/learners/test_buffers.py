# SPDX-License-Identifier: Apache-2.0
"""Whose memory is whose: what JAX does to arrays that are overwritten or donated, and what learners do about it.

The first tests do the wrong thing on purpose. Should one of them fail, the hazard is gone and a copy can be saved.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.made import DISCRETE, make_agent, make_trajectory
from shoal.architectures import registry
from shoal.engines import make_engine, phase
from shoal.types import Trajectory

ALIGNMENT = 64
"""bytes; JAX uses a host array in place where it begins at such an address"""
ENGINES = [("inline", "free"), ("threads", "free"), ("threads", "fixed"), ("simulated", "free")]


def aligned(like):
    """A copy that JAX will not copy again."""
    raw = np.empty(like.nbytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    array = raw[start : start + like.nbytes].view(like.dtype).reshape(like.shape)
    array[...] = like
    return array


@functools.cache
def make(architecture):
    """(agent, learner), one for all engines."""
    module = registry.load(architecture)
    agent = make_agent(architecture, DISCRETE)
    return agent, module.make_learner(module.Config(envs_per_actor=16, unroll_length=32), agent)


def on(name, order, program, *args):
    """Run a program as the root worker of an engine."""
    return make_engine(name, order).run(program, *args)


@jax.jit
def slow_sum(weight, x):
    """The sum of x, times a known number, long after the call."""
    for _ in range(12):
        weight = jnp.tanh(weight @ weight) * 0.01 + 0.1
    return (weight @ x).sum()


@pytest.mark.parametrize(("name", "order"), ENGINES)
def test_jax_reads_a_host_array_after_the_call_returned(name, order):
    weight, ones = np.full((400, 400), 0.1, np.float32), np.ones((400, 400), np.float32)
    right = float(slow_sum(weight, ones))

    def program():
        x = aligned(ones)
        total = phase("update", slow_sum, weight, x)
        x[...] = 0  # the wrong thing: nobody waited for `total`
        return float(total)

    # a busy machine may now and then let the computation win
    assert any(on(name, order, program) != right for _ in range(5))

    def patient_program():
        x = aligned(ones)
        total = phase("update", lambda: slow_sum(weight, x).block_until_ready())
        x[...] = 0
        return float(total)

    assert on(name, order, patient_program) == right


def test_device_put_shares_memory_even_when_told_not_to():
    host = aligned(np.ones(64, np.float32))
    device = jax.device_put(host, may_alias=False)
    host[...] = 2
    assert float(device[0]) == 2


@pytest.mark.parametrize("architecture", ["a2c", "ppo", "impala", "appo"])
@pytest.mark.parametrize(("name", "order"), ENGINES)
def test_a_trajectory_may_be_overwritten_once_the_update_has_returned(architecture, name, order):
    agent, learner = make(architecture)
    made = make_trajectory(agent, DISCRETE, agent.init(0), steps=32, num_envs=16)
    expected = learner.acting(learner.update(learner.init(0), [made])[0])

    def program():
        slot = Trajectory(*(x if isinstance(x, tuple) else aligned(x) for x in made))
        state, _ = phase("update", learner.update, learner.init(0), [slot])
        for array in slot:
            if not isinstance(array, tuple):
                array[...] = 1
        return learner.acting(state)

    np.testing.assert_array_equal(on(name, order, program), expected)


@pytest.mark.parametrize(("name", "order"), ENGINES)
def test_donated_params_cannot_be_read_but_what_was_published_can(name, order):
    agent, learner = make("a2c")
    donating_step = jax.jit(lambda params: params + 1, donate_argnums=0)

    def program():
        state = learner.init(0)
        published = phase("publish", learner.acting, state)
        after = phase("update", donating_step, state.params)
        with pytest.raises(RuntimeError, match="deleted"):
            np.asarray(state.params)  # the wrong thing: publishing after the learner donated
        return published, np.asarray(after)

    published, after = on(name, order, program)
    np.testing.assert_array_equal(published, agent.init(0))
    np.testing.assert_allclose(after, published + 1, rtol=1e-6)


def test_published_params_and_the_state_are_independent():
    agent, learner = make("a2c")
    state = learner.init(0)
    published = learner.acting(state)
    assert isinstance(published, np.ndarray)
    assert published.dtype == np.float32
    trajectory = make_trajectory(agent, DISCRETE, published, steps=32, num_envs=16)
    after, _ = learner.update(state, [trajectory])
    np.testing.assert_array_equal(published, agent.init(0))
    assert not np.array_equal(published, learner.acting(after))
    published[...] = 7
    np.testing.assert_array_equal(learner.acting(state), agent.init(0))
