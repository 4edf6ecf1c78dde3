# SPDX-License-Identifier: Apache-2.0
"""Ape-X and R2D2: who may be ahead of whom, how messages are cut, what actors differ in. On twins, which do nothing."""

import dataclasses

import numpy as np
import pytest

from architectures.test_fingerprints import crossings
from shoal.architectures import apex, r2d2
from shoal.engines import make_engine
from shoal.errors import ConfigError
from shoal.placement.flow import CARTPOLE
from shoal.placement.twins import twin_parts

ENGINES = ("inline", "threads", "simulated")
MODULES = {"apex": apex, "r2d2": r2d2}
SMALL = {
    "apex": {"batch_size": 64, "unroll_length": 10},
    "r2d2": {"batch_size": 4, "sequence_length": 12, "burn_in": 4, "unroll_length": 8, "n_step": 2},
}
each_architecture = pytest.mark.parametrize("architecture", MODULES)


def run(name, engine="inline", visit=None, costs=None, **fields):
    """(engine, last state, what visits saw as (env_steps, updates, metrics))."""
    module, seen = MODULES[name], []
    usual = {"num_actors": 2, "envs_per_actor": 4, "env_steps": 6_000, "replay_start": 500, "actors_ahead": 200}
    config = module.Config(**usual | SMALL[name] | fields)
    engine = make_engine(engine, costs=costs) if costs else make_engine(engine)

    def see(state, batch, metrics):
        assert batch == []
        seen.append((state.env_steps, state.updates, metrics))
        return state if visit is None else visit(state, metrics)

    state = engine.run(module.run, config, twin_parts(CARTPOLE, 100), None, see)
    return engine, state, seen


def row(engine, message):
    return next(row for row in engine.rows() if row["message"] == message)


@pytest.mark.evidence("fingerprint")
@pytest.mark.parametrize("engine", ENGINES)
@each_architecture
def test_each_row_is_learnt_from_as_often_as_the_ratio_says(architecture, engine):
    two = 1 if engine == "threads" else 2  # what is told is of one shard, and threads may favour the other
    for ratio, shards in ((1.0, 1), (4.0, two)):
        _, _, seen = run(architecture, engine, replay_ratio=ratio, replay_shards=shards)
        assert seen[-1][2]["replay_ratio"] == pytest.approx(ratio, rel=0.05)


@pytest.mark.evidence("fingerprint", "apex")
def test_messages_are_unrolls_and_not_rows():
    engine, state, _ = run("apex")
    message = 4 * 10
    assert row(engine, "TRANS")["count"] == pytest.approx(state.env_steps / message, rel=0.1)
    assert row(engine, "BATCH")["count"] == pytest.approx(state.updates, abs=3)
    engine, more, _ = run("apex", minibatches=4, replay_ratio=4.0)
    assert row(engine, "BATCH")["count"] == pytest.approx(more.updates / 4, abs=3)


@pytest.mark.evidence("fingerprint")
@each_architecture
def test_actors_take_params_now_and_then(architecture):
    engine, state, _ = run(architecture, params_interval=40)
    pulls = row(engine, "PARAM")["count"]
    assert pulls <= 2 * (state.env_steps / 8 / 40 + 2)
    often = row(run(architecture, params_interval=1)[0], "PARAM")["count"]
    assert often > 2 * pulls


@pytest.mark.evidence("fingerprint")
@each_architecture
def test_actors_go_on_up_to_the_cap_while_the_learner_is_paused(architecture):
    """In virtual time: an update that never ends, and environments that have all the time of the world."""
    made = {}
    for ahead in (400, 2_000):
        costs = {"update": 1e6, "env_step": 1e-3, "*": 1e-6}
        engine, state, _ = run(architecture, "simulated", costs=costs, actors_ahead=ahead, env_steps=1)
        assert state.updates == 1
        made[ahead] = 4 * engine.phases()["actor"]["env_step"] / 1e-3
    slack = 4 * 60 * 2 * 3  # queued, in the hands of actors, not yet complete
    for ahead, sent in made.items():
        assert 500 + ahead <= sent <= 500 + max(ahead, 2 * config_rows(architecture)) + slack
    engine, _, _ = run(architecture, "simulated", costs={"update": 1.0, "env_step": 1e-3, "*": 0}, actors_ahead=None)
    assert engine.phases()["actor"]["env_step"] == pytest.approx(2 * engine.now(), rel=0.05)  # they never wait


@pytest.mark.evidence("fingerprint")
@each_architecture
def test_the_replay_serves_on_while_actors_are_paused(architecture):
    """In virtual time: steps of environments become so slow that none is taken any more."""
    updates = {}
    for ahead in (0, None):
        costs = {"env_step": 1.0, "update": 0.05, "*": 1e-6}
        engine, state, seen = run(architecture, "simulated", costs=costs, env_steps=900, learner_ahead=ahead)
        updates[ahead] = state.updates
    assert updates[0] == pytest.approx(400 / config_rows(architecture), abs=3)
    assert updates[None] > 50 * max(1, updates[0])


def config_rows(name):
    """Rows that an update learns from."""
    return MODULES[name].Config(**SMALL[name]).rows_per_message


@pytest.mark.evidence("fingerprint")
@each_architecture
def test_shards_are_filled_by_actors_in_turn_and_all_are_drawn_from(architecture, monkeypatch):
    from shoal.replay import role

    streams, drawn = {}, set()
    add, draw = role.Replay.add, role.Replay.draw

    def seen_adding(self, rows):
        if architecture == "apex":
            streams.setdefault(id(self), set()).update(rows.stream.tolist())
        else:
            streams.setdefault(id(self), set())
        add(self, rows)

    monkeypatch.setattr(role.Replay, "add", seen_adding)
    monkeypatch.setattr(role.Replay, "draw", lambda self: (drawn.add(id(self)), draw(self))[1])
    _, state, seen = run(architecture, replay_shards=2, num_actors=4)
    assert len(streams) == len(drawn) == 2
    if architecture == "apex":
        assert sorted(map(sorted, streams.values())) == [[0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]]
    assert seen[-1][0] == state.env_steps >= 6_000


@pytest.mark.evidence("fingerprint")
@each_architecture
def test_errors_of_the_learner_change_what_is_drawn(architecture, monkeypatch):
    from shoal.replay import role

    kept = []
    prioritise = role.Replay.prioritise
    monkeypatch.setattr(
        role.Replay, "prioritise", lambda self, key, error: (kept.append(key.size), prioritise(self, key, error))[1]
    )
    engine, _, _ = run(architecture, learner_ahead=None, replay_ratio=1.0)
    assert sum(kept) > 0
    assert "PRIO learner>replay" in crossings(engine.rows())
    kept.clear()
    engine, _, _ = run(architecture, priorities="none")
    assert kept == []


@pytest.mark.evidence("fingerprint", "apex")
@pytest.mark.parametrize("num_actors", [1, 2, 8, 360])
def test_each_actor_explores_by_a_share_of_its_own_that_never_changes(num_actors):
    config = apex.Config(num_actors=num_actors)
    shares = [config.explores_as(actor) for actor in range(num_actors)]
    expected = 0.4 ** np.linspace(1, 8, num_actors) if num_actors > 1 else [0.4]
    np.testing.assert_allclose(shares, expected)
    flatter = dataclasses.replace(config, epsilon_base=0.5, epsilon_exponent=2.0)
    assert flatter.explores_as(num_actors - 1) == pytest.approx(0.5**3 if num_actors > 1 else 0.5)


@pytest.mark.evidence("fingerprint", "apex")
def test_actors_carry_their_shares_from_beginning_to_end(monkeypatch):
    from shoal.actors import rated
    from shoal.engines import me

    carried = {}

    def followed_by(params, number):
        carried.setdefault(me().index, []).append(number)
        return np.append(params, np.float32(number))

    monkeypatch.setattr(rated, "followed_by", followed_by)
    run("apex", num_actors=3)
    assert {actor: set(numbers) for actor, numbers in carried.items()} == {
        actor: {apex.Config(num_actors=3).explores_as(actor)} for actor in range(3)
    }
    assert min(map(len, carried.values())) > 3


@pytest.mark.parametrize(
    ("architecture", "fields", "message"),
    [
        ("apex", {"replay_shards": 3}, "replay_shards=3 are more than the num_actors=2 that fill them"),
        ("apex", {"realtime": True, "envs_per_actor": 1}, "realtime is for architectures in step"),
        ("apex", {"inference_deadline_s": 0.1, "env_workers": 2}, "priorities need the values of all"),
        ("apex", {"epsilon_base": 0.0}, "epsilon_base=0.0 must lie in (0, 1]"),
        ("apex", {"actors_ahead": -1}, "actors_ahead=-1 must be 0 or more, or none where nobody waits"),
        ("apex", {"n_step": 51}, "n_step=51 reaches beyond an unroll of 50 steps"),
        ("apex", {"sampler": "parallel", "env_workers": 2}, "sampler='parallel' is not for this architecture"),
        ("r2d2", {"burn_in": 80}, "burn_in=80 must lie in [0, 80), below sequence_length"),
        ("r2d2", {"sequence_length": 200_000}, "sequence_length=200000 rows do not fit into a memory of"),
        ("r2d2", {"atoms": 51}, "distributions of values are not for r2d2"),
    ],
)
def test_what_cannot_be_is_one_line(architecture, fields, message):
    with pytest.raises(ConfigError) as refused:
        MODULES[architecture].Config(**fields)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
