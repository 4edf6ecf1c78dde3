# SPDX-License-Identifier: Apache-2.0
"""First priorities: the errors of the values that acted, row by row, however unrolls are cut."""

from types import SimpleNamespace

import numpy as np
import pytest

from actors.test_sequences import ENVS, ROWS, made_up
from shoal.actors.rated import RatedBuilder, rescale, unscale, value_errors
from shoal.actors.sequences import sequence_errors
from shoal.agents.base import Judged
from shoal.types import Trajectory, Transitions


def trajectory_of(rows, begin, end):
    """Part of made-up rows as an actor hands it over."""
    flags = (getattr(rows, name)[begin:end] for name in ("terminated", "truncated", "valid"))
    obs = {"at": rows.obs["at"][begin : end + 1]}
    reward = rows.reward[begin:end] / 100
    return Trajectory(obs, rows.action[begin:end], reward, *flags, (), (), np.full(ENVS, 7), (), ())


def values_of(seed):
    random = np.random.default_rng(seed)
    return Judged(*random.normal(size=(2, ROWS + 1, ENVS)).astype(np.float32))


def by_hand(rows, judged, t, env, config, last=ROWS):
    """|target - value| of a row: add rewards until its episode ends, it was lost, n steps were taken or rows end."""
    if not rows.valid[t, env]:
        return 0.0
    target, weight, at = 0.0, 1.0, t
    while True:
        reward = np.float32(rows.reward[at, env] / 100 * config.reward_scale)
        target += weight * (
            reward if config.reward_clip is None else np.clip(reward, -config.reward_clip, config.reward_clip)
        )
        weight *= config.discount
        at += 1
        ended = rows.terminated[at - 1, env] or rows.truncated[at - 1, env]
        if rows.terminated[at - 1, env]:
            weight = 0.0
        if ended or at - t == config.n_step or at == last or not rows.valid[at, env]:
            break
    value = judged.best[at, env]
    target += weight * (unscale(value) if config.rescale_values else value)
    return abs((rescale(target) if config.rescale_values else target) - judged.taken[t, env])


def config_of(**fields):
    usual = {"n_step": 3, "discount": 0.9, "reward_scale": 0.5, "reward_clip": 2.0, "rescale_values": False}
    return SimpleNamespace(**usual | fields)


@pytest.mark.evidence("fingerprint", "apex")
@pytest.mark.parametrize("unrolls", [[ROWS], [7] * 8 + [4], [2] * 30])
@pytest.mark.parametrize("n_step", [1, 3])
def test_priorities_are_errors_of_the_values_that_acted(n_step, unrolls):
    rows, judged, config = made_up(5), values_of(5), config_of(n_step=n_step)
    builder, begin, found = RatedBuilder(config, 10), 0, []
    for length in unrolls:
        end = begin + length
        part = Judged(judged.taken[begin:end], judged.best[begin:end])
        found.append(builder.transitions(trajectory_of(rows, begin, end), part))
        begin = end
    priority = np.concatenate([one.priority for one in found])
    assert len(priority) == ROWS - n_step
    expected = [[by_hand(rows, judged, t, env, config) for env in range(ENVS)] for t in range(len(priority))]
    np.testing.assert_allclose(priority, expected, rtol=1e-4, atol=1e-5)
    assert len(np.unique(priority[priority > 0])) > 0.9 * np.count_nonzero(priority)  # none stands in for another
    other = RatedBuilder(config, 10).transitions(trajectory_of(rows, 0, ROWS), values_of(6)._replace())
    assert not np.allclose(other.priority[: len(priority)], priority)


def test_rows_go_on_where_the_message_before_ended():
    rows, judged, builder = made_up(2), values_of(2), RatedBuilder(config_of(), 10)
    first, second = (
        builder.transitions(
            trajectory_of(rows, at, at + 20), Judged(judged.taken[at : at + 20], judged.best[at : at + 20])
        )
        for at in (0, 20)
    )
    assert (len(first.reward), len(second.reward)) == (17, 20)
    np.testing.assert_array_equal(first.obs["at"][-3:], second.obs["at"][:3])
    assert first.stream.tolist() == [10, 11, 12]


@pytest.mark.parametrize("rescaled", [True, False])
def test_errors_of_a_sequence_reach_as_far_as_it_does(rescaled):
    rows, judged, config = made_up(4), values_of(4), config_of(rescale_values=rescaled)
    length = 25
    steps = trajectory_of(rows, 0, length)
    short = Judged(judged.taken[: length + 1], judged.best[: length + 1])
    expected = [[by_hand(rows, judged, t, env, config, length) for env in range(ENVS)] for t in range(length)]
    np.testing.assert_allclose(sequence_errors(short, steps, config), expected, rtol=1e-4, atol=1e-5)


def test_values_that_are_what_was_found_have_no_error():
    none = np.zeros((1, 1), bool)
    rows = Transitions((), (), np.full((1, 1), 2.0), np.full((1, 1), 0.5), np.ones((1, 1), int), ~none, (), ())
    judged = Judged(np.array([[5.0], [0.0]]), np.array([[0.0], [6.0]]))
    assert value_errors(judged, rows) == 0
    judged = judged._replace(taken=rescale(np.array([[2 + 0.5 * unscale(6.0)], [0.0]])))
    assert value_errors(judged, rows, rescaled=True) == pytest.approx(0, abs=1e-5)


def test_rescaled_values_come_back():
    x = np.array([-1e4, -3.0, -0.1, 0.0, 0.5, 20.0, 1e5])
    np.testing.assert_allclose(unscale(rescale(x)), x, rtol=1e-6, atol=1e-9)
    assert rescale(np.array(1e4)) == pytest.approx(np.sqrt(10001) - 1 + 10)
