# SPDX-License-Identifier: Apache-2.0
"""Learners that are apart, by the architectures' own program in virtual time: one is one learner, several are as many
as there are cores."""

import dataclasses

import pytest

from placement.made_up import curve, profile
from shoal.architectures import presets
from shoal.placement.apart_costs import apart_costs
from shoal.placement.machines import MachineFacts
from shoal.placement.prediction import predict
from shoal.placement.unit_costs import update_of

MANY, ONE = MachineFacts(name="many", cores=1_000), MachineFacts(name="one", cores=1)
MADE = profile(step=(0.0, 1e-4), step_cores=1.0)
MADE = dataclasses.replace(MADE, update={"cpu": curve(4e-4, 1e-5, (256, 1024, 4096), 1.0)})


def found(architecture, machine, **fields):
    """What is predicted of an architecture whose learners have an actor each; `apart` says how they optimise."""
    settings = {"num_actors": fields.get("learners", 1), "unroll_length": 32} | fields
    config = dataclasses.replace(presets.preset(architecture, MADE.env.spec()), **settings)
    return predict(MADE, architecture, machine, config)


@pytest.mark.parametrize("architecture", ["a2c", "ppo"])
@pytest.mark.parametrize("optimisation", ["async", "async_skip"])
def test_one_learner_apart_is_one_learner(architecture, optimisation):
    alone = found(architecture, ONE)
    apart = found(architecture, ONE, optimisation=optimisation)
    assert apart.env_steps_per_s == pytest.approx(alone.env_steps_per_s, rel=0.1)
    assert apart.updates_per_s == pytest.approx(alone.updates_per_s, rel=0.15)


def test_gradients_on_a_batch_take_what_an_update_takes():
    config = dataclasses.replace(presets.preset("ppo", MADE.env.spec()), optimisation="async")
    rows = config.envs_per_actor * config.unroll_length
    work = apart_costs(MADE, "ppo", config, 1.0)["gradient"]
    whole = update_of(MADE, "ppo", MADE.update["cpu"], config, rows)
    assert work.seconds * config.epochs * config.minibatches == pytest.approx(whole)


@pytest.mark.parametrize("architecture", ["a2c", "ppo"])
def test_several_with_cores_of_their_own_add_up_and_on_one_core_take_turns(architecture):
    one, four = (found(architecture, MANY, optimisation="async", learners=n) for n in (1, 4))
    assert four.env_steps_per_s == pytest.approx(4 * one.env_steps_per_s, rel=0.05)
    crowded = found(architecture, ONE, optimisation="async", learners=4)
    assert crowded.env_steps_per_s == pytest.approx(one.env_steps_per_s, rel=0.1)


def test_steps_of_others_come_between():
    assert found("a2c", MANY, optimisation="async").lag_mean == 0.0
    # all of the three others at any other time; half of them where all four exchange at once
    assert 1.5 <= found("a2c", MANY, optimisation="async", learners=4).lag_mean <= 3.0


def test_who_skips_exchanges_less():
    often, seldom = (found("ppo", MANY, optimisation=way, learners=2) for way in ("async", "async_skip"))
    sent = [next(wire.bytes_per_s for wire in one.wires if wire.message == "GRAD") for one in (often, seldom)]
    assert sent[1] < sent[0] / 2
