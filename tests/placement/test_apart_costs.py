# SPDX-License-Identifier: Apache-2.0
"""Learners that are apart, by the architectures' own program in virtual time: one is one learner, several are as many
as there are cores."""

import dataclasses

import pytest

from placement.made_up import curve, profile, trace
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


REMEMBERS = dataclasses.replace(profile(step=(0.0, 1e-4), step_cores=1.0), traces=(trace("dqn"),))


def remembering(machine, **fields):
    """What is predicted of DQN, whose learners have a memory each where they are apart, and here an actor each."""
    settings = {"num_actors": fields.get("learners", 1)} | fields
    config = dataclasses.replace(presets.preset("dqn", REMEMBERS.env.spec()), **settings)
    return predict(REMEMBERS, "dqn", machine, config)


@pytest.mark.parametrize("optimisation", ["async", "async_skip"])
def test_one_learner_apart_over_a_memory_is_one_learner(optimisation):
    alone, apart = remembering(ONE), remembering(ONE, optimisation=optimisation)
    assert apart.env_steps_per_s == pytest.approx(alone.env_steps_per_s, rel=0.1)
    assert apart.updates_per_s == pytest.approx(alone.updates_per_s, rel=0.1)
    assert apart.lag_mean == 0.0


def test_several_over_memories_add_up_and_reuse_as_often():
    one, four = (remembering(MANY, optimisation="async", learners=n) for n in (1, 4))
    assert four.env_steps_per_s == pytest.approx(4 * one.env_steps_per_s, rel=0.05)
    assert four.lag_max == 3
    assert four.reuse == presets.preset("dqn", REMEMBERS.env.spec()).replay_ratio
    crowded = remembering(ONE, optimisation="async", learners=4)
    assert crowded.env_steps_per_s == pytest.approx(one.env_steps_per_s, rel=0.1)


@pytest.mark.parametrize(("priorities", "told"), [("none", 0.0), ("proportional", 1e-6)])
def test_a_minibatchs_gradient_is_an_update_over_it_and_telling_the_memory(priorities, told):
    config = dataclasses.replace(
        presets.preset("dqn", REMEMBERS.env.spec()), optimisation="async", priorities=priorities, batch_size=64
    )
    work = apart_costs(REMEMBERS, "dqn", config, 2.0)["gradient"]
    assert work.seconds == pytest.approx(64 * (3e-6 + told) / 2.0)


def test_gorilas_learners_use_a_row_as_often_as_asked():
    made = dataclasses.replace(REMEMBERS, traces=(trace("gorila"),))
    assert predict(made, "gorila", MANY).reuse == presets.preset("gorila", made.env.spec()).replay_ratio
