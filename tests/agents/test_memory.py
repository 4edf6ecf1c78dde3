# SPDX-License-Identifier: Apache-2.0
"""Memory: an unroll in one pass is the same unroll step by step, however it is cut, and anew after each reset."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.made import (
    DISCRETE,
    MASKED,
    GruInJax,
    LstmInJax,
    Narrow,
    draw_noise,
    loss_and_gradient,
    make_agent,
    make_trajectory,
    random_obs,
)
from shoal.agents.host_policy import reset_memory
from shoal.agents.model import build, make_model
from shoal.agents.statistics import Statistics
from shoal.errors import ConfigError
from shoal.networks.recurrent import Gru, Lstm
from shoal.trees import tree_map

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
STEPS, ENVS = 14, 4
NETWORKS = [(Lstm, LstmInJax), (Gru, GruInJax)]


class OwnMemory(Narrow):
    """A user's own memory, of several arrays, one of them whole numbers: how often it was asked, and a running mean."""

    def initial_memory(self):
        return {"mean": jnp.full(8, 0.5), "asked": jnp.zeros((), jnp.int32)}

    def encode(self, obs):
        return jax.nn.relu(self.trunk(jnp.ravel(obs)[self.order]))

    def step(self, x, memory):
        mean = 0.7 * memory["mean"] + 0.3 * x
        y = mean + 0.1 * memory["asked"]
        return y, {"mean": mean, "asked": memory["asked"] + 1}

    def heads(self, y):
        return self.head(y), self.value(y)[0]


ALL = [Lstm, Gru, OwnMemory]


@functools.cache
def made(network, seed=0):
    """(agent, model, params away from their start, a trajectory of theirs that began in the middle of episodes)."""
    agent = make_agent("impala", DISCRETE, network)
    params = agent.init(0)
    params = params + np.random.default_rng(seed).normal(scale=0.2, size=params.shape).astype(np.float32)
    rng = np.random.default_rng(seed + 1)
    _, _, memory = agent.act(agent.bind(params), *random_input(agent, rng))
    trajectory = make_trajectory(agent, DISCRETE, params, seed, STEPS, ENVS, memory)
    assert (~trajectory.valid).sum() >= 4
    model = make_model(
        build(network, DISCRETE, jax.random.key(0)),
        DISCRETE,
        Statistics(DISCRETE, params.size, obs=False, reward=False),
    )
    return agent, model, params, trajectory


def random_input(agent, rng):
    return random_obs(DISCRETE, rng, ENVS), agent.memory(ENVS), draw_noise(agent, rng, ENVS)


def unrolled(model, params, trajectory):
    """Log-probabilities [T, B] and values [T+1, B] in one pass."""
    run = jax.jit(model.unroll)
    distribution, value = run(params, trajectory.obs, trajectory.valid, trajectory.memory)
    log_prob = distribution.log_prob(trajectory.action.reshape(-1))
    return np.asarray(log_prob).reshape(trajectory.reward.shape), np.asarray(value)


def stepped(agent, model, params, trajectory, *, reset=True):
    """The same, acting row by row."""
    bound, memory, initial = agent.bind(params), trajectory.memory, agent.memory(ENVS)
    heads, value = jax.jit(model.heads), []
    log_prob = []
    for t in range(len(trajectory.reward)):
        obs = trajectory.obs[t]
        value.append(heads(params, obs, memory)[1])
        _, head, memory = agent.act(bound, obs, memory, np.zeros((ENVS, 4), np.float32))
        log_prob.append(agent.log_prob(bound, head[None], trajectory.action[t][None])[0])
        if reset:
            memory = reset_memory(memory, trajectory.valid[t], initial)
    value.append(heads(params, trajectory.obs[-1], memory)[1])
    return np.stack(log_prob), np.stack(value)


@pytest.mark.parametrize("network", ALL)
def test_one_pass_equals_stepping_through_act_with_resets_in_the_middle(network):
    agent, model, params, trajectory = made(network)
    log_prob, value = unrolled(model, params, trajectory)
    expected_log_prob, expected_value = stepped(agent, model, params, trajectory)
    np.testing.assert_allclose(log_prob, expected_log_prob, **CLOSE)
    np.testing.assert_allclose(value, expected_value, **CLOSE)
    # what actors sent along is the same again
    np.testing.assert_allclose(log_prob, trajectory.log_prob, **CLOSE)


@pytest.mark.parametrize("network", ALL)
def test_without_resets_it_is_not_the_same(network):
    agent, model, params, trajectory = made(network)
    log_prob, value = unrolled(model, params, trajectory)
    forgot_to_reset, its_value = stepped(agent, model, params, trajectory, reset=False)
    before_any_reset = np.cumsum(~trajectory.valid, 0) == 0
    np.testing.assert_allclose(forgot_to_reset[before_any_reset], log_prob[before_any_reset], **CLOSE)
    assert np.abs(forgot_to_reset - log_prob).max() > 1e-2
    assert np.abs(its_value - value).max() > 1e-2
    never = trajectory._replace(valid=np.ones_like(trajectory.valid))
    np.testing.assert_allclose(unrolled(model, params, never)[0], forgot_to_reset, **CLOSE)


@pytest.mark.parametrize("network", ALL)
def test_an_unroll_in_two_parts_equals_the_whole_where_memory_is_carried(network):
    agent, model, params, trajectory = made(network)
    log_prob, value = unrolled(model, params, trajectory)
    cut = STEPS // 2
    bound, memory = agent.bind(params), trajectory.memory
    for t in range(cut):
        _, _, memory = agent.act(bound, trajectory.obs[t], memory, np.zeros((ENVS, 4), np.float32))
        memory = reset_memory(memory, trajectory.valid[t], agent.memory(ENVS))
    first, second = (part_of(trajectory, rows) for rows in (slice(0, cut), slice(cut, STEPS)))
    first_log_prob, first_value = unrolled(model, params, first)
    second_log_prob, second_value = unrolled(model, params, second._replace(memory=memory))
    np.testing.assert_allclose(np.concatenate([first_log_prob, second_log_prob]), log_prob, **CLOSE)
    np.testing.assert_allclose(np.concatenate([first_value[:-1], second_value]), value, **CLOSE)
    anew, _ = unrolled(model, params, second._replace(memory=agent.memory(ENVS)))
    assert np.abs(anew - second_log_prob).max() > 1e-2


def part_of(trajectory, rows):
    fields = {
        name: getattr(trajectory, name)[rows] for name in ("action", "reward", "terminated", "truncated", "valid")
    }
    return trajectory._replace(obs=trajectory.obs[rows.start : rows.stop + 1], **fields)


@pytest.mark.parametrize(("network", "twin"), NETWORKS)
@pytest.mark.parametrize("fields", [{}, {"normalise_obs": True}], ids=len)
def test_numpy_and_jax_carry_the_same_memory(network, twin, fields):
    in_numpy, in_jax = (make_agent("a2c", MASKED, one, **fields) for one in (network, twin))
    assert in_numpy.plan is not None
    assert in_jax.plan is None
    rng = np.random.default_rng(0)
    params = in_numpy.init(0)
    params = params + rng.uniform(-0.3, 0.3, params.shape).astype(np.float32)
    memory = other_memory = in_numpy.memory(5)
    jax.tree.map(np.testing.assert_array_equal, memory, in_jax.memory(5))
    for _ in range(6):
        obs, noise = random_obs(MASKED, rng, 5), draw_noise(in_numpy, rng, 5)
        before = tree_map(np.copy, memory)
        action, head, after = in_numpy.act(in_numpy.bind(params), obs, memory, noise)
        other_action, other_head, other_memory = in_jax.act(in_jax.bind(params), obs, other_memory, noise)
        np.testing.assert_array_equal(action, other_action)
        np.testing.assert_allclose(head, other_head, **CLOSE)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **CLOSE), after, other_memory)
        jax.tree.map(np.testing.assert_array_equal, memory, before)  # what was passed in stays as it is
        memory = after


@pytest.mark.parametrize("architecture", ["a2c", "ppo", "impala", "appo"])
def test_reset_rows_count_for_nothing_and_memory_does(architecture):
    agent = make_agent(architecture, DISCRETE, Lstm)
    _, _, params, trajectory = made(Lstm)
    loss, _, gradient = loss_and_gradient(agent, params, trajectory)
    unused = ~trajectory.valid
    spoilt = trajectory._replace(
        reward=np.where(unused, np.float32(np.nan), trajectory.reward),
        log_prob=np.where(unused, np.float32(np.nan), trajectory.log_prob),
        action=np.where(unused, np.int32(99), trajectory.action),
    )
    other_loss, _, other_gradient = loss_and_gradient(agent, params, spoilt)
    assert other_loss == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(other_gradient, gradient, rtol=1e-4, atol=1e-6)
    started_anew, _, _ = loss_and_gradient(agent, params, trajectory._replace(memory=agent.memory(ENVS)))
    assert abs(started_anew - loss) > 1e-4


def test_the_objectives_agree_where_memory_is_carried():
    """On data of the learner's own policy, V-trace is the plain actor-critic, and so is the first surrogate."""
    _, _, params, trajectory = made(Lstm)
    fields = {"normalise_advantage": False}
    _, metrics, plain = loss_and_gradient(make_agent("a2c", DISCRETE, Lstm, **fields), params, trajectory)
    for architecture in ("impala", "appo", "ppo"):
        agent = make_agent(architecture, DISCRETE, Lstm, **fields)
        _, others, gradient = loss_and_gradient(agent, params, trajectory)
        np.testing.assert_allclose(gradient, plain, rtol=1e-3, atol=1e-5)
        assert others["loss/value"] == pytest.approx(metrics["loss/value"], rel=1e-4)
    assert others["loss/approx_kl"] == pytest.approx(0, abs=1e-8)


def test_gradients_flow_through_time_but_not_past_a_reset():
    _, model, params, trajectory = made(Gru)

    def last_value(obs, valid):
        return model.unroll(params, obs, valid, trajectory.memory)[1][-1].sum()

    never = np.ones_like(trajectory.valid)
    in_the_middle = never.copy()
    in_the_middle[STEPS // 2] = False
    gradient = jax.jit(jax.grad(last_value))
    whole, cut = (np.abs(gradient(trajectory.obs, valid)).sum((1, 2)) for valid in (never, in_the_middle))
    assert (whole > 0).all()
    assert not cut[: STEPS // 2 + 1].any()
    assert (cut[STEPS // 2 + 1 :] > 0).all()


class Growing(OwnMemory):
    """Memory that changes its shape."""

    def step(self, x, memory):
        y, after = super().step(x, memory)
        return y, after | {"mean": jnp.concatenate([after["mean"], y])}


class Boxed(OwnMemory):
    """Memory in a form that does not travel."""

    def initial_memory(self):
        return eqx.nn.Linear(2, 2, key=jax.random.key(0))

    def step(self, x, memory):
        return x, memory


@pytest.mark.parametrize(("network", "part"), [(Growing, "float32[8]"), (Boxed, "Linear")])
def test_memory_of_another_form_is_refused_in_one_line(network, part):
    with pytest.raises(ConfigError, match="memory") as refused:
        make_agent("a2c", DISCRETE, network)
    assert "\n" not in str(refused.value)
    assert part in str(refused.value)


def test_agents_without_memory_say_so():
    assert not make_agent("a2c", DISCRETE).recurrent
    assert make_agent("a2c", DISCRETE).memory(3) == ()
    assert make_agent("a2c", DISCRETE, OwnMemory).memory(3)["mean"].shape == (3, 8)
