# SPDX-License-Identifier: Apache-2.0
"""Messages over the agent of a node: what rounds say of them, and what they make of a prediction."""

import dataclasses
import math
from types import SimpleNamespace

import pytest

from placement.made_up import handling, profile, relayed
from shoal.architectures import presets
from shoal.engines.cluster import local
from shoal.engines.cluster.local import LocalNodes
from shoal.engines.round_trips import Round
from shoal.errors import ConfigError
from shoal.placement.machines import MachineFacts
from shoal.placement.message_costs import HUB, passed
from shoal.placement.messages import Passing
from shoal.placement.passing import MUCH, SOME, measure_relayed, relayed_of
from shoal.placement.prediction import predict
from shoal.placement.render_prediction import render

MANY = MachineFacts(name="many", cores=1_000)
ONE = MachineFacts(name="one", cores=1)
FREE = MachineFacts(name="free", nodes=2, cores=1_000, latency_s=0.0, bytes_per_s=1e18)
"""two nodes between which nothing costs"""
PLAIN = {"step": (0.0, 20e-3), "step_cores": 0.0, "gain": 2.0}


def config_of(architecture="a2c", **fields):
    shape = {"num_actors": 1, "envs_per_actor": 1, "unroll_length": 1}
    return dataclasses.replace(presets.preset(architecture, profile().env.spec()), **(shape | fields))


def seconds_a_step(made, machine=MANY, engine="ray", **fields):
    return 1 / predict(made, "a2c", machine, config_of(**fields), engine=engine).env_steps_per_s


FREE_MESSAGES, DEAR = profile(**PLAIN, relayed=relayed()), relayed(
    1e-3, main=handling(2e-3, 4e-3), agent=handling(3e-3, 6e-3), worker=handling(1e-3)
)  # fmt: skip


def test_a_message_takes_waking_and_what_three_compute_for_it():
    dear = dataclasses.replace(FREE_MESSAGES, relayed=DEAR)
    before, after = seconds_a_step(FREE_MESSAGES), seconds_a_step(dear)
    assert after - before == pytest.approx(2 * (1e-3 + 2e-3 + 3e-3 + 1e-3), rel=1e-6)
    assert seconds_a_step(dear, engine="processes") == pytest.approx(before)


def test_params_that_do_not_fit_into_a_message_are_fetched_once_a_node():
    large = dataclasses.replace(FREE_MESSAGES, params=10_000)
    dear = dataclasses.replace(large, relayed=DEAR)
    assert seconds_a_step(dear) - seconds_a_step(large) == pytest.approx(2 * 7e-3 + 4e-3 + 6e-3, rel=1e-6)
    costs = dataclasses.replace(DEAR, agent=handling(3e-3, 6e-3, 1e-9))
    made = dataclasses.replace(large, relayed=costs)
    for actors, nodes, sharing in ((1, 1, 1), (4, 1, 4), (4, 2, 2), (4, 8, 1)):
        works = passed(made, config_of(num_actors=actors), "ray", 1.0, nodes)["pull PARAM"](40_000, 1)
        assert works[1].seconds == pytest.approx(3e-3 + (6e-3 + 40e-6) / sharing)


def test_what_is_computed_for_messages_competes_for_cores():
    """Four actors on one core pay for all; on many cores an agent and the main process take one after the other."""
    made = dataclasses.replace(FREE_MESSAGES, relayed=relayed(worker=handling(5e-3)))
    four = {"num_actors": 4}
    more = [4 * (seconds_a_step(made, m, **four) - seconds_a_step(FREE_MESSAGES, m, **four)) for m in (ONE, MANY)]
    assert more == pytest.approx([4 * 10e-3, 10e-3], rel=1e-3)
    serial = dataclasses.replace(FREE_MESSAGES, relayed=relayed(agent=handling(5e-3)))
    pulled = 4 * seconds_a_step(serial, **four) - seconds_a_step(serial)
    assert pulled == pytest.approx(3 * 5e-3, rel=1e-3)  # they pull by turns; when they put, they are spread out


def test_every_node_has_an_agent_of_its_own_and_all_have_one_main_process():
    turns = {"num_actors": 4}
    by_agents = dataclasses.replace(FREE_MESSAGES, relayed=relayed(agent=handling(5e-3)))
    by_main = dataclasses.replace(FREE_MESSAGES, relayed=relayed(main=handling(5e-3)))
    longest = [4 * seconds_a_step(made, FREE, **turns) - seconds_a_step(made, FREE) for made in (by_agents, by_main)]
    assert longest == pytest.approx([1 * 5e-3, 3 * 5e-3], rel=1e-3)
    found = predict(by_agents, "a2c", FREE, config_of(**turns))
    assert found.shared["agent of node 0"] == pytest.approx(found.shared["agent of node 1"], rel=0.05)
    assert HUB in predict(by_main, "a2c", FREE, config_of(**turns)).shared


def test_who_learns_holds_the_interpreter_of_the_main_process():
    place = MANY.make(True, "learner").site_of
    learner, actor = (SimpleNamespace(path="a2c", role=role, index=0, site=None) for role in ("learner", "actor"))
    assert (place(learner).process, place(actor).process) == (HUB, None)


def test_several_nodes_are_nodes_of_ray_where_the_profile_knows_it_and_else_say_so():
    known, machine = dataclasses.replace(FREE_MESSAGES, relayed=DEAR), dataclasses.replace(FREE, name="two")
    of_ray = predict(known, "a2c", machine, config_of())
    assert of_ray == predict(known, "a2c", machine, config_of(), engine="ray")
    assert "workers on nodes of ray" in render(known, of_ray)
    assert predict(known, "a2c", MANY, config_of()).engine == "processes"
    unknown = dataclasses.replace(known, relayed=None)
    guess = predict(unknown, "a2c", machine, config_of())
    assert guess.engine == "processes"
    assert "shoal advise --engine ray measures it" in render(unknown, guess)
    assert "shoal advise" not in render(unknown, predict(unknown, "a2c", MANY, config_of()))
    with pytest.raises(ConfigError, match="no costs of the engine ray; measure them with shoal advise --env Made-Up"):
        predict(unknown, "a2c", MANY, config_of(), engine="ray")


def test_what_another_worker_gets_goes_through_agent_and_main_twice():
    works = passed(dataclasses.replace(FREE_MESSAGES, relayed=DEAR), presets.preset("apex", profile().env.spec()),
                   "ray", 2.0)  # fmt: skip
    once, twice = works["put BATCH"](0, 1), works["put TRANS"](0, 1)
    assert [work.seconds for work in once] == pytest.approx([1e-3, 1.5e-3, 1e-3, 0.5e-3])
    assert [work.seconds for work in twice] == pytest.approx([1e-3, 3e-3, 2e-3, 1e-3])
    assert [work.seconds for work in works["reply ACT"](0, 3)] == pytest.approx([2e-3, 9e-3, 6e-3, 3e-3])


def test_rounds_tell_what_a_message_takes_in_whom():
    """A round of n workers: two messages of each, and one fetching of params."""

    def round_of(workers, there=SOME, back=SOME):
        def of(turn, fetch, pull_byte, put_byte):
            more = pull_byte * (there - SOME) + put_byte * (back - SOME)
            return workers * 2 * turn + fetch + more

        main, agent = of(2e-4, 1e-4, 1e-9, 2e-9), of(3e-4, 5e-4, 3e-9, 0.0)
        theirs = workers * 2 * 1e-4
        return Round(8e-4 + main + agent + theirs, main, agent, theirs)

    asked, by_several = Round(4e-3, 4e-4, 2e-4, 4e-4), Round(9e-3, 16e-4, 8e-4, 16e-4)
    found = relayed_of(
        one=round_of(1), several=round_of(4), asked=asked, asked_by_several=by_several, there=round_of(1, there=MUCH),
        back=round_of(1, back=MUCH),
    )  # fmt: skip
    assert found.wake_s == pytest.approx(4e-4)
    assert found.call_wake_s == pytest.approx(1.5e-3)
    assert dataclasses.astuple(found.main) == pytest.approx((2e-4, 2e-4, 1e-4, 1e-9, 2e-9))
    assert dataclasses.astuple(found.agent) == pytest.approx((3e-4, 1e-4, 5e-4, 3e-9, 0.0))
    assert dataclasses.astuple(found.worker) == pytest.approx((1e-4, 2e-4, 0.0, 0.0, 0.0))
    one = round_of(1)
    for handled, took in ((found.main, one.main_s), (found.agent, one.agent_s)):
        assert 2 * handled.turn_s + handled.fetch_s == pytest.approx(took)


def test_messages_over_an_agent_are_measured_without_ray():
    found = measure_relayed(0.0)
    seconds = [s for handled in (found.main, found.agent, found.worker) for s in dataclasses.astuple(handled)]
    assert all(math.isfinite(s) and s >= 0 for s in (*seconds, found.wake_s, found.call_wake_s))


def test_agents_end_with_their_nodes(monkeypatch):
    monkeypatch.setattr(local, "END_S", 60.0)  # they need a core for that
    with LocalNodes(2) as nodes:
        assert [node.connected for node in nodes.fleet.live] == [True, True]
    assert all(agent.poll() == 0 for agent in nodes.agents)


def test_two_profiles_of_messages_are_not_mixed_up():
    """Costs of processes stay with processes."""
    passing = Passing(wake_s=1e-3, turn_s=0.0, call_wake_s=0.0, call_turn_s=0.0, pull_byte_s=0.0, put_byte_s=0.0)
    made = dataclasses.replace(FREE_MESSAGES, passing={"processes": passing})
    assert seconds_a_step(made, engine="processes") - seconds_a_step(made) == pytest.approx(2e-3)
