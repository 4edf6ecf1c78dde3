# SPDX-License-Identifier: Apache-2.0
"""Rows of environments that were lost with their process, truncated and not valid: nothing is learnt from them."""

import numpy as np
import pytest

from shoal.losses.returns import gae, lambda_returns, n_step_returns, vtrace

T, B, LOST = 9, 2, 4
SETTINGS = {"discount": 0.9}


def rows(seed: int = 0) -> dict[str, np.ndarray]:
    """Environment 0 is lost in row 4 and resets in row 5; environment 1 goes on."""
    rng = np.random.default_rng(seed)
    made = {
        "reward": rng.normal(size=(T, B)).astype(np.float32),
        "value": rng.normal(size=(T + 1, B)).astype(np.float32),
        "terminated": np.zeros((T, B), bool),
        "truncated": np.zeros((T, B), bool),
        "valid": np.ones((T, B), bool),
    }
    made["truncated"][LOST, 0] = True
    made["valid"][LOST : LOST + 2, 0] = False
    made["value"][LOST + 1, 0] = made["value"][LOST, 0]  # the same observation twice
    return made


LOG_RATIO = np.random.default_rng(5).normal(size=(T, B)).astype(np.float32)


def n_step(made):
    return {"target": n_step_returns(**made, **SETTINGS, steps=3)}


def whole_lambda(made):
    return {"target": lambda_returns(**made, **SETTINGS, trace_decay=0.8)}


def advantages(made):
    return gae(**made, **SETTINGS, trace_decay=0.8)._asdict()


def corrected(made):
    length, num_envs = made["reward"].shape
    return vtrace(**made, log_ratio=LOG_RATIO[:length, :num_envs], **SETTINGS)._asdict()


every_target = pytest.mark.parametrize("targets", [n_step, whole_lambda, advantages, corrected])


@every_target
def test_what_came_before_bootstraps_from_the_last_real_observation(targets):
    """Rows before the loss have the targets of an unroll that stops there: all its observations are real."""
    made = rows()
    cut = {name: values[: LOST + (name == "value"), :1] for name, values in made.items()}
    short = targets_of(targets, cut)
    for name, values in targets_of(targets, made).items():
        np.testing.assert_allclose(values[:LOST, :1], short[name], rtol=1e-6)


def targets_of(targets, made):
    return {name: np.asarray(values) for name, values in targets(made).items()}


@every_target
def test_nothing_is_learnt_from_a_lost_row_and_nothing_of_it_matters(targets):
    made, other = rows(), rows()
    other["reward"][LOST : LOST + 2, 0] = np.nan
    one, two = targets_of(targets, made), targets_of(targets, other)
    for name, values in one.items():
        np.testing.assert_array_equal(values, two[name])
        expected = made["value"][LOST, 0] if name == "target" else 0.0
        np.testing.assert_allclose(values[LOST, 0], expected, rtol=1e-6)


@every_target
def test_what_comes_after_does_not_reach_what_came_before(targets):
    made, other = rows(), rows()
    other["reward"][LOST + 2 :, 0] += 100
    other["value"][LOST + 2 :, 0] -= 100
    one, two = targets_of(targets, made), targets_of(targets, other)
    for name, values in one.items():
        np.testing.assert_array_equal(values[: LOST + 2, 0], two[name][: LOST + 2, 0])
        assert not np.array_equal(values[LOST + 2 :, 0], two[name][LOST + 2 :, 0])


@every_target
def test_without_the_mark_the_past_would_hear_of_the_future(targets):
    """The control: rows that claim to be valid carry a wrong reward back."""
    made = rows()
    made["valid"][:] = True
    made["truncated"][:] = False
    other = {name: values.copy() for name, values in made.items()}
    other["reward"][LOST, 0] += 100
    one, two = targets_of(targets, made), targets_of(targets, other)
    assert any(not np.array_equal(values[:LOST, 0], two[name][:LOST, 0]) for name, values in one.items())
