# SPDX-License-Identifier: Apache-2.0
"""Acting: NumPy against JAX, the learner's log-probabilities, users' networks, initial params."""

import functools

import equinox as eqx
import jax
import numpy as np
import pytest

from agents.made import (
    BOX,
    CHOICES,
    DISCRETE,
    MASKED,
    MASKED_CHOICES,
    MATRIX,
    SPECS,
    TREE,
    TREES,
    EntriesInJax,
    InJax,
    Narrow,
    WantsImages,
    WrongHead,
    act_once,
    draw_noise,
    loss_and_gradient,
    make_agent,
    make_trajectory,
    random_obs,
)
from shoal.errors import ConfigError
from shoal.networks.conv import NatureCnn
from shoal.networks.entries import Entries
from shoal.networks.mlp import Mlp
from shoal.networks.resolve import resolve
from shoal.types import ArraySpec, Box, Discrete, EnvSpec, MultiDiscrete

FRAMES = EnvSpec("made:frames", ArraySpec((2, 36, 36), "uint8"), Discrete(3))


def spec_id(spec):
    return spec.id


CASES = [(spec, Mlp, InJax) for spec in (*SPECS, CHOICES)] + [(spec, Entries, EntriesInJax) for spec in TREES]
NORMALISED = {"normalise_obs": True}


def case_id(value):
    return getattr(value, "id", None) or getattr(value, "__name__", None) or str(len(value))


def observations(spec, rows=6):
    return random_obs(spec, np.random.default_rng(3), rows)


def moved(params, fields=()):
    """Params as they are after some learning: heads away from 0, and statistics that are some of observations."""
    change = np.random.default_rng(4).normal(scale=0.3, size=params.shape).astype(np.float32)
    # a variance of 1 that moves so far stays positive; the count, the first of the statistics, may be any number
    return params + (np.maximum(change, -0.9) if fields else change)


@pytest.mark.parametrize("fields", [{}, NORMALISED], ids=len)
@pytest.mark.parametrize(("spec", "network", "twin"), CASES, ids=case_id)
def test_numpy_and_jax_act_alike(spec, network, twin, fields):
    in_numpy, in_jax = (make_agent("a2c", spec, made, **fields) for made in (network, twin))
    assert in_numpy.plan is not None
    assert in_jax.plan is None
    params = moved(in_numpy.init(0), fields)
    np.testing.assert_array_equal(in_numpy.init(0), in_jax.init(0))
    obs, noise = observations(spec), draw_noise(in_numpy, np.random.default_rng(5), 6)
    action, head, log_prob = act_once(in_numpy, params, obs, noise)
    other_action, other_head, other_log_prob = act_once(in_jax, params, obs, noise)
    np.testing.assert_allclose(head, other_head, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(log_prob, other_log_prob, rtol=1e-5, atol=1e-5)
    assert action.shape == (6, *spec.action.shape)
    if isinstance(spec.action, Box):
        np.testing.assert_allclose(action, other_action, rtol=1e-5, atol=1e-5)
        assert action.dtype == np.float32
    else:
        np.testing.assert_array_equal(action, other_action)


@pytest.mark.parametrize("fields", [{}, NORMALISED], ids=len)
@pytest.mark.parametrize(("spec", "network", "_"), CASES, ids=case_id)
def test_the_traced_policy_acts_as_actors_do(spec, network, _, fields):
    agent = make_agent("a2c", spec, network, **fields)
    params, obs = moved(agent.init(0), fields), observations(spec)
    noise = draw_noise(agent, np.random.default_rng(5), 6)
    action, head, log_prob = act_once(agent, params, obs, noise)

    @jax.jit
    def traced(params, obs, noise):
        policy, memory = agent.policy(params, obs, ())
        drawn = policy.sample(noise)
        return drawn, policy.log_prob(drawn), policy.mode(), memory

    drawn, drawn_log_prob, mode, memory = traced(params, obs, noise)
    np.testing.assert_allclose(np.reshape(drawn, action.shape), action, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(drawn_log_prob, log_prob, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.reshape(mode, action.shape), agent.mode(head), rtol=1e-5, atol=1e-5)
    assert memory == ()


@pytest.mark.parametrize("spec", [MASKED, MASKED_CHOICES], ids=spec_id)
def test_illegal_actions_are_never_drawn_and_have_no_probability(spec):
    agent = make_agent("a2c", spec)
    obs = random_obs(spec, np.random.default_rng(0), 4000)
    params = moved(agent.init(0))
    action, head, log_prob = act_once(agent, params, obs, draw_noise(agent, np.random.default_rng(1), 4000))
    sizes = spec.action.sizes if isinstance(spec.action, MultiDiscrete) else (spec.action.n,)
    chosen = [action] if action.ndim == 1 else list(action.T)
    ends = np.cumsum(sizes)
    for choice, end, size in zip(chosen, ends, sizes, strict=True):
        mask, logits = obs["action_mask"][:, end - size : end], head[:, end - size : end]
        nothing = ~mask.any(-1)
        assert nothing.any()
        allowed = mask | nothing[:, None]  # a row that allows nothing forbids nothing
        assert allowed[np.arange(4000), choice].all()
        assert set(choice[nothing].tolist()) == set(range(size))
        np.testing.assert_array_equal(np.isinf(logits), ~allowed)
    assert np.isfinite(log_prob).all()


def test_masks_are_no_input_of_the_network():
    agent = make_agent("a2c", MASKED)
    obs = observations(MASKED)
    free, bound = (dict(obs, action_mask=np.tile(mask, (6, 1))) for mask in ([True] * 4, [True, False, False, True]))
    params, noise = moved(agent.init(0)), np.zeros((6, 4), np.float32)
    heads = [act_once(agent, params, one, noise)[1] for one in (free, bound)]
    np.testing.assert_array_equal(heads[0][:, [0, 3]], heads[1][:, [0, 3]])
    assert np.isinf(heads[1][:, [1, 2]]).all()


def test_whole_numbers_and_bytes_are_seen_as_single_precision():
    spec = EnvSpec("made:bytes", ArraySpec((3,), "uint8"), Discrete(4))
    obs = np.random.default_rng(0).integers(0, 256, (6, 3)).astype(np.uint8)
    in_numpy, in_jax = make_agent("a2c", spec, Mlp), make_agent("a2c", spec, InJax)
    params, noise = moved(in_numpy.init(0)), np.zeros((6, 4), np.float32)
    head, other = (act_once(agent, params, obs, noise)[1] for agent in (in_numpy, in_jax))
    assert head.dtype == np.float32
    np.testing.assert_allclose(head, other, rtol=1e-4, atol=1e-4)


LEARNT = [*((spec, network) for spec in SPECS for network in (Mlp, Narrow)), *((s, n) for s, n, _ in CASES[4:])]


@pytest.mark.parametrize(("spec", "network"), LEARNT, ids=case_id)
def test_log_prob_equals_the_learner_s(spec, network):
    agent = make_agent("impala", spec, network)
    params = moved(agent.init(0))
    _, metrics, _ = loss_and_gradient(agent, params, make_trajectory(agent, spec, params))
    # an estimate of KL(acting, learning) that is never negative: 0 only where both log-probabilities agree
    assert 0 <= metrics["loss/behaviour_kl"] < 1e-9
    _, metrics, _ = loss_and_gradient(agent, moved(params), make_trajectory(agent, spec, params))
    assert metrics["loss/behaviour_kl"] > 1e-4


@pytest.mark.parametrize("spec", [*SPECS, CHOICES, TREE, MASKED_CHOICES], ids=spec_id)
def test_the_mode_is_the_action_without_noise(spec):
    agent = make_agent("ppo", spec)
    params = moved(agent.init(0))
    obs = observations(spec)
    action, head, log_prob = act_once(agent, params, obs, np.zeros((6, agent.noise_size), np.float32))
    np.testing.assert_array_equal(agent.mode(head), action)
    assert agent.mode(head).shape == (6, *spec.action.shape)
    _, _, others = act_once(agent, params, obs, draw_noise(agent, np.random.default_rng(6), 6))
    assert (others <= log_prob + 1e-6).all()


def test_sampled_actions_have_the_policy_s_frequencies():
    agent = make_agent("a2c", DISCRETE)
    params = moved(agent.init(1))
    obs = np.repeat(observations(DISCRETE, 1), 20_000, 0)
    action, head, _ = act_once(agent, params, obs, draw_noise(agent, np.random.default_rng(7), len(obs)))
    expected = np.exp(head[0]) / np.exp(head[0]).sum()
    np.testing.assert_allclose(np.bincount(action, minlength=4) / len(obs), expected, atol=0.015)


@pytest.mark.parametrize("spec", SPECS, ids=spec_id)
@pytest.mark.parametrize("network", [Mlp, Narrow])
def test_initial_params_depend_on_the_seed_alone(spec, network):
    agent = make_agent("a2c", spec, network)
    again = make_agent("ppo", spec, network)
    assert agent.init(3).dtype == np.float32
    assert agent.init(3).ndim == 1
    np.testing.assert_array_equal(agent.init(3), again.init(3))
    assert not np.array_equal(agent.init(3), agent.init(4))


def test_the_first_policy_is_nearly_uniform():
    agent = make_agent("a2c", DISCRETE)
    _, head, _ = act_once(agent, agent.init(0), observations(DISCRETE), np.zeros((6, 4), np.float32))
    assert np.abs(head).max() < 0.1


def test_bound_weights_are_those_of_the_params_in_quick_order():
    agent = make_agent("a2c", DISCRETE)
    params = agent.init(0)
    weights = agent.bind(params).tower
    assert all(weight.flags.c_contiguous for weight, _ in weights)
    ends = np.concatenate([np.r_[weight.T.ravel(), bias] for weight, bias in weights])
    assert any(np.array_equal(params[start : start + len(ends)], ends) for start in range(len(params) - len(ends) + 1))


def test_frames_act_as_bytes():
    agent = make_agent("a2c", FRAMES, NatureCnn)
    obs = np.random.default_rng(8).integers(0, 256, (3, 2, 36, 36)).astype(np.uint8)
    noise = draw_noise(agent, np.random.default_rng(9), 3)
    action, head, _ = act_once(agent, agent.init(0), obs, noise)
    for row in range(3):
        alone, alone_head, _ = act_once(agent, agent.init(0), obs[row : row + 1], noise[row : row + 1])
        np.testing.assert_allclose(head[row], alone_head[0], rtol=1e-4, atol=1e-6)
        assert action[row] == alone[0]


def test_a_user_s_network_by_name_and_by_class():
    by_name = make_agent("a2c", DISCRETE, resolve("agents.made:Narrow", DISCRETE))
    by_class = make_agent("a2c", DISCRETE, Narrow)
    np.testing.assert_array_equal(by_name.init(0), by_class.init(0))
    # 3 * 8 + 8, 8 * 4 + 4, 8 * 1 + 1; the whole numbers are no params
    assert by_name.init(0).shape == (24 + 8 + 32 + 4 + 8 + 1,)
    assert make_agent("a2c", DISCRETE, functools.partial(Narrow)).init(0).shape == by_name.init(0).shape


def test_a_subclass_of_the_towers_is_asked_itself():
    class Doubled(Mlp):
        def __call__(self, obs):
            head, value = super().__call__(obs)
            return 2 * head, value

    plain, doubled = make_agent("a2c", DISCRETE), make_agent("a2c", DISCRETE, Doubled)
    obs, noise = observations(DISCRETE), np.zeros((6, 4), np.float32)
    head, twice = (act_once(agent, agent.init(0), obs, noise)[1] for agent in (plain, doubled))
    np.testing.assert_allclose(twice, 2 * head, rtol=1e-5, atol=1e-6)


class NoNetwork:
    """A class that is called with the right arguments and is no Equinox module."""

    def __init__(self, spec, key): ...


class GivesOneThing(Narrow):
    """Returns a head and no value."""

    def __call__(self, obs):
        return super().__call__(obs)[0]


class ListOfValues(Narrow):
    """A value with an axis of its own."""

    def __call__(self, obs):
        head, value = super().__call__(obs)
        return head, value[None]


@pytest.mark.parametrize(
    ("network", "parts"),
    [
        (WrongHead, ("WrongHead", "(2,)", "(4,)")),
        (ListOfValues, ("ListOfValues", "(1,)", "value ()")),
        (WantsImages, ("WantsImages", "made:discrete", "[3]", "Network(spec, key)")),
        (GivesOneThing, ("GivesOneThing", "Network(spec, key)")),
        (NoNetwork, ("NoNetwork",)),
        (lambda: None, ("Network(spec, key)",)),
        (5, ("5",)),
    ],
)
def test_a_network_that_does_not_fit_is_refused_in_one_line(network, parts):
    with pytest.raises(ConfigError) as refused:
        make_agent("a2c", DISCRETE, network)
    line = str(refused.value)
    assert "\n" not in line
    for part in parts:
        assert part in line


def test_box_policies_learn_a_deviation_and_discrete_ones_have_none():
    one = eqx.filter(Mlp(BOX, jax.random.key(0)), eqx.is_array)
    network_size = sum(x.size for x in jax.tree.leaves(one))
    assert make_agent("a2c", BOX).init(0).size == network_size + 2
    agent = make_agent("a2c", MATRIX)
    np.testing.assert_array_equal(agent.bind(agent.init(0)).log_std, np.zeros(6, np.float32))
