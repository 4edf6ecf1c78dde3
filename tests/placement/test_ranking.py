# SPDX-License-Identifier: Apache-2.0
"""Architectures and layouts by what they would do, within limits."""

import dataclasses

import pytest

from placement.made_up import profile, trace, trial
from shoal.architectures import presets
from shoal.errors import ConfigError
from shoal.placement.allowed import Allowed
from shoal.placement.bounds import compiled_step_s
from shoal.placement.machines import MachineFacts
from shoal.placement.ranking import layouts_of, learns_alike, rank, run_line
from shoal.placement.render_ranking import render
from shoal.placement.stages import seconds_by_stage
from shoal.placement.verdict import advise_on, describe, limits

FOUR = MachineFacts(name="four", cores=4)
KNOWN = dataclasses.replace(
    profile(step=(0.0, 5e-3), gain=1.0), traces=(trace("ppo", update=1e-6), trace("impala", update=1e-6))
)


def test_every_architecture_is_ranked_in_several_layouts_fastest_first():
    found = rank(KNOWN, FOUR)
    assert {one.architecture for one in found} == {"ppo", "impala"}
    assert len(found) > 6
    rates = [one.env_steps_per_s for one in found]
    assert rates == sorted(rates, reverse=True)
    assert found[0].engine == "processes"  # the environment computes and holds Python's lock
    assert found[0].roles["actor"].workers >= 4


def test_nothing_outside_the_limits_is_ranked():
    fresh = rank(KNOWN, FOUR, Allowed(max_lag=0.0))
    assert {one.architecture for one in fresh} == {"ppo"}
    once = rank(KNOWN, FOUR, Allowed(max_reuse=1.0))
    assert {one.architecture for one in once} == {"impala"}
    assert rank(KNOWN, FOUR, Allowed(max_lag=0.0, max_reuse=1.0)) == []


def test_environments_that_have_no_name_stay_in_one_process():
    nameless = dataclasses.replace(KNOWN, env=dataclasses.replace(KNOWN.env, named=False))
    assert {one.engine for one in rank(nameless, FOUR)} <= {"inline", "threads"}


@pytest.mark.parametrize(("fields", "said"), [({"max_lag": -1.0}, "--max-lag -1"), ({"max_reuse": 0.0}, "--max-reuse")])
def test_limits_that_make_no_sense(fields, said):
    with pytest.raises(ConfigError, match=said):
        Allowed(**fields)


def test_advice_keeps_to_the_limits():
    runs = (trial("ppo"), trial("impala", engine="threads", actors=2), trial("a2c"))
    made = profile(trials=runs)
    assert advise_on(made).best.architecture == "ppo"
    assert advise_on(made, allowed=Allowed(max_reuse=1.0)).best.architecture != "ppo"
    with pytest.raises(ConfigError, match="nothing that was tried stays within reuse up to 0.5"):
        advise_on(made, allowed=Allowed(max_reuse=0.5))


def test_a_ranking_as_text():
    found = rank(KNOWN, FOUR)
    text = render(KNOWN, found, Allowed(max_lag=9.0), most=3)
    assert text.count("steps/s") == 1
    assert "within lag up to 9" in text
    assert f"3 of {len(found)}" in text
    assert "none" in render(KNOWN, [], Allowed(max_lag=0.5))


def samplers_of(made):
    config = presets.preset("ppo", made.env.spec())
    found = layouts_of(made, FOUR, "ppo", config)
    return {a.config.sampler: a.config.env_workers for a in found if a.config.env_workers}


def test_environment_workers_are_ranked_where_a_step_is_worth_a_process():
    assert samplers_of(KNOWN) == {"central": 4, "alternating": 2}
    assert samplers_of(profile(step=(0.0, 5e-3), step_cores=0.02, gain=2.0)) == {"central": 8, "alternating": 4}
    assert samplers_of(profile(step=(0.0, 2e-6))) == {}
    assert samplers_of(dataclasses.replace(KNOWN, env=dataclasses.replace(KNOWN.env, named=False))) == {}


def test_the_line_to_run_names_sampler_and_workers():
    slow = profile(step=(0.0, 5e-3), step_cores=0.02, gain=2.0, traces=(trace("ppo"),))
    found = [one for one in rank(slow, FOUR) if one.settings.get("sampler") == "alternating"]
    assert run_line(slow, found) == "shoal train ppo --env Made-Up-v0 --sampler alternating --env-workers 4"
    text = render(slow, found)
    assert "1 actor x 8 envs x 128 steps, one thread, alternating over 2 x 4 env workers" in text
    assert text.endswith(str(run_line(slow, found)))
    assert run_line(slow, []) is None


def test_environments_compiled_with_the_agent_cost_what_their_rollout_took():
    phases = {"actor": {"prepare": 0.0, "rollout": 0.8, "assemble": 0.0}, "learner": {"update": 0.6, "publish": 0.0}}
    run = dataclasses.replace(trial("ppo", 50_000.0), phases=phases)
    made = profile(trials=(run,), traces=(trace("ppo"),))
    assert compiled_step_s(made) == pytest.approx(0.8 * 8 / 100_000)
    assert compiled_step_s(KNOWN) is None
    serial = next(one for one in rank(made, FOUR) if one.engine == "inline" and not one.settings)
    batch_s = 128 * 0.8 * 8 / 100_000 + 4.4e-4 + 2.5e-6 * 1024
    assert serial.env_steps_per_s == pytest.approx(1024 / batch_s, rel=0.02)
    assert "on-device" in render(made, [serial])
    assert "one compiled call" in describe(run)
    assert sum(seconds_by_stage(made, run).values()) == pytest.approx(2.0)
    assert limits(made, run).simulator == pytest.approx(125_000)


def test_wider_actors_learn_otherwise_and_are_not_what_to_run():
    wide = profile(step=(5e-4, 1e-7), traces=(trace("ppo", act=1e-9),))
    found = rank(wide, FOUR)
    assert not learns_alike(wide, found[0])
    assert found[0].layout["envs_per_actor"] == 32
    assert "(learns otherwise)" in render(wide, found[:1])
    assert run_line(wide, found[:1]) is None
    assert "--unroll-length" not in str(run_line(wide, found))


def test_limits_in_words():
    assert Allowed(max_lag=2.0, max_reuse=4.0).words == "lag up to 2, reuse up to 4"
    assert Allowed().words == ""
