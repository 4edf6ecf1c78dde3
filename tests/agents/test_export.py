# SPDX-License-Identifier: Apache-2.0
"""Exported policies act as the original, in a process that never imports JAX; broken exports are one line."""

import json
import subprocess
import sys

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
    NUMBER,
    TREE,
    EntriesInJax,
    GruInJax,
    InJax,
    LstmInJax,
    make_agent,
    network_for,
    random_obs,
)
from shoal.agents.export import PARAMS, POLICY, export_policy, load_policy, spec_from_dict, spec_to_dict
from shoal.agents.policy import Policy
from shoal.errors import CheckpointError, ConfigError
from shoal.networks.entries import Entries
from shoal.networks.recurrent import Gru, Lstm
from shoal.trees import read_at, tree_map
from shoal.types import Box, EnvSpec

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
IN_JAX = {Lstm: LstmInJax, Gru: GruInJax, Entries: EntriesInJax}
CASES = [
    *((spec, network_for(spec)) for spec in (DISCRETE, BOX, MATRIX, NUMBER, CHOICES, TREE, MASKED, MASKED_CHOICES)),
    *((spec, network) for spec in (BOX, TREE, MASKED) for network in (Lstm, Gru)),
]
UNBOUNDED = Box((2,), (-np.inf, -1.0), (np.inf, 1.0))


def exported(folder, spec, network, **fields):
    """(the policy in JAX, the same policy exported and loaded again)."""
    agent = make_agent("ppo", spec, network, normalise_obs=True, **fields)
    params = agent.init(0)
    params = params + np.random.default_rng(0).uniform(-0.3, 0.3, params.shape).astype(np.float32)
    in_jax = make_agent("ppo", spec, IN_JAX.get(network, InJax), normalise_obs=True, **fields)
    assert in_jax.plan is None
    return Policy(spec, in_jax, params), load_policy(export_policy(folder, spec, agent.plan, params))


@pytest.mark.parametrize(("spec", "network"), CASES, ids=lambda value: getattr(value, "id", None) or value.__name__)
def test_a_loaded_policy_acts_as_the_one_in_jax(spec, network, tmp_path):
    original, loaded = exported(tmp_path / "policy", spec, network)
    assert loaded.spec == spec
    rng, memory, other_memory = np.random.default_rng(1), None, None
    for step in range(4):
        obs = random_obs(spec, rng, 5)
        for deterministic in (True, False):
            action, after = original.act(obs, memory, deterministic, seed=step)
            other_action, other_after = loaded.act(obs, other_memory, deterministic, seed=step)
            np.testing.assert_allclose(other_action, action, **CLOSE)
        memory, other_memory = after, other_after
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **CLOSE), memory, other_memory)


RUN_WITHOUT_JAX = """
import json, sys
import numpy as np
from shoal import load_policy
policy, memory, actions = load_policy(sys.argv[1]), None, []
rng = np.random.default_rng(2)
for _ in range(3):
    obs = {"action_mask": np.array([True, False, True, True]), "x": rng.normal(size=3)}
    action, memory = policy.act(obs, memory)
    actions.append(int(action))
print(json.dumps([actions, [m for m in ("jax", "equinox", "optax", "gymnasium") if m in sys.modules]]))
"""


@pytest.mark.parametrize("network", [Entries, Lstm])
def test_a_process_that_acts_loads_no_jax(network, tmp_path):
    original, _ = exported(tmp_path / "policy", MASKED, network)
    path = ":".join(p for p in sys.path if p)
    command = [sys.executable, "-c", RUN_WITHOUT_JAX, str(tmp_path / "policy")]
    run = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": path}, check=True)
    actions, loaded = json.loads(run.stdout)
    assert loaded == []
    rng, memory = np.random.default_rng(2), None
    for found in actions:
        obs = {"action_mask": np.array([True, False, True, True]), "x": rng.normal(size=3)}
        action, memory = original.act(obs, memory)
        assert action == found != 1


def test_a_batch_gives_what_its_rows_give(tmp_path):
    _, loaded = exported(tmp_path / "policy", TREE, Lstm)
    obs = random_obs(TREE, np.random.default_rng(3), 4)
    together, memory = loaded.act(obs)
    for row in range(4):
        alone, its_memory = loaded.act(read_at(obs, row))
        assert alone == together[row]
        jax.tree.map(lambda a, b, row=row: np.testing.assert_allclose(a[0], b[row], **CLOSE), its_memory, memory)


def test_memory_changes_what_a_policy_does_and_plain_calls_are_refused(tmp_path):
    _, loaded = exported(tmp_path / "policy", BOX, Gru)
    obs = random_obs(BOX, np.random.default_rng(4), 2)
    first, memory = loaded.act(obs)
    again, _ = loaded.act(obs, memory)
    assert np.abs(first - again).max() > 1e-3
    np.testing.assert_array_equal(loaded.act(obs, loaded.initial_memory(2))[0], first)
    with pytest.raises(ConfigError, match="call act"):
        loaded(obs)


def test_what_is_no_observation_is_refused(tmp_path):
    _, loaded = exported(tmp_path / "policy", TREE, Entries)
    obs = random_obs(TREE, np.random.default_rng(5), 2)
    assert loaded(obs).shape == (2,)
    for wrong in ({"b": obs["b"]}, obs["b"], obs | {"b": obs["b"][:, 0]}, obs | {"b": obs["b"][:1]}):
        with pytest.raises(ValueError, match="made:tree"):
            loaded(wrong)


def test_specs_go_through_json():
    unbounded = EnvSpec("made:unbounded", TREE.obs, UNBOUNDED, 100)
    for spec in (DISCRETE, BOX, NUMBER, CHOICES, TREE, MASKED_CHOICES, unbounded):
        assert spec_from_dict(json.loads(json.dumps(spec_to_dict(spec), allow_nan=False))) == spec


def spoil_json(folder, change):
    facts = json.loads((folder / POLICY).read_text())
    change(facts)
    (folder / POLICY).write_text(json.dumps(facts))


SPOILT = {
    "no json": lambda folder: (folder / POLICY).unlink(),
    "no params": lambda folder: (folder / PARAMS).unlink(),
    "params cut short": lambda folder: (folder / PARAMS).write_bytes((folder / PARAMS).read_bytes()[:-50]),
    "half a json": lambda folder: (folder / POLICY).write_text((folder / POLICY).read_text()[:100]),
    "a list": lambda folder: (folder / POLICY).write_text("[]"),
    "later format": lambda folder: spoil_json(folder, lambda facts: facts.update(format=2)),
    "other action": lambda folder: spoil_json(folder, lambda facts: facts["spec"]["action"].update(n=7)),
    "far away": lambda folder: spoil_json(folder, lambda facts: facts["plan"]["tower"][0].update(offset=10**9)),
    "negative": lambda folder: spoil_json(folder, lambda facts: facts["plan"]["tower"][0].update(offset=-10)),
    "no cell": lambda folder: spoil_json(folder, lambda facts: facts["plan"].update(cell={"kind": "x"})),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_broken_export_is_one_line(spoil, tmp_path):
    exported(tmp_path / "policy", DISCRETE, network_for(DISCRETE))
    spoil(tmp_path / "policy")
    with pytest.raises(CheckpointError) as refused:
        load_policy(tmp_path / "policy")
    assert "\n" not in str(refused.value)
    assert str(tmp_path) in str(refused.value)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    agent = make_agent("ppo", DISCRETE)
    with pytest.raises(CheckpointError, match="could not be written"):
        export_policy(tmp_path / "file" / "policy", DISCRETE, agent.plan, agent.init(0))


def test_what_was_written_stays_what_it_was(tmp_path):
    agent = make_agent("ppo", DISCRETE)
    params = agent.init(0)
    export_policy(tmp_path / "policy", DISCRETE, agent.plan, params)
    obs = random_obs(DISCRETE, np.random.default_rng(0), 3)
    expected = load_policy(tmp_path / "policy")(obs)
    params[...] = 0
    np.testing.assert_array_equal(load_policy(tmp_path / "policy")(tree_map(np.copy, obs)), expected)
