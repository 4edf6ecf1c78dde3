# SPDX-License-Identifier: Apache-2.0
"""Observations of every kind travel as trees of arrays, actions of every kind arrive as their space has them."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.spaces.utils import flatten

from envs.own import Spaces
from shoal import envs
from shoal.envs.masks import choose_legal, has_legal_action, mask_size
from shoal.envs.spaces import env_spec
from shoal.errors import ConfigError, EnvironmentFault
from shoal.trees import read_at, tree_items, tree_leaves
from shoal.types import ArraySpec, Box, Discrete, MultiDiscrete

FLAT = spaces.Box(-1, 1, (2,), np.float32)
TWO = spaces.Discrete(2)
NESTED = spaces.Dict(  # in alphabetical order, as trees are
    arm=spaces.Tuple([spaces.Box(-np.inf, np.inf, (2,), np.float64), spaces.Discrete(3, start=-1)]),
    camera=spaces.Box(0, 255, (2, 3), np.uint8),
    grips=spaces.Dict(at=spaces.MultiDiscrete([2, 3], start=[0, 5]), open=spaces.MultiBinary(2)),
)


def first_obs(obs, space, num_envs=2):
    """What an agent sees of these environments."""
    env = envs.resolve(lambda: Spaces(obs, space, TWO)).make(num_envs)
    env.reset(0)
    return env.recv().obs


def fault(obs, space) -> str:
    with pytest.raises(EnvironmentFault) as caught:
        first_obs(obs, space)
    return str(caught.value)


def refusal(obs_space, action_space) -> str:
    with pytest.raises(ConfigError) as caught:
        env_spec("env", Spaces(None, obs_space, action_space))
    return str(caught.value)


def test_a_nested_spec_has_the_space_s_form():
    assert env_spec("env", Spaces(None, NESTED, TWO)).obs == {
        "arm": (ArraySpec((2,), "float32"), ArraySpec((3,), "float32")),
        "camera": ArraySpec((2, 3), "uint8"),
        "grips": {"at": ArraySpec((5,), "float32"), "open": ArraySpec((2,), "float32")},
    }


@pytest.mark.parametrize("seed", range(5))
def test_every_entry_is_what_gymnasium_flattens_it_to(seed):
    NESTED.seed(seed)
    sample = NESTED.sample()
    seen = first_obs(sample, NESTED)
    for row in range(2):
        mine = np.concatenate([leaf.ravel() for leaf in tree_leaves(read_at(seen, row))])
        np.testing.assert_array_equal(mine, flatten(NESTED, sample).astype(np.float32))


def test_rows_are_copies_and_keep_their_environment():
    """Every entry of every environment lands in its own row, also where only some environments were sent."""
    made = []

    class Counts(gymnasium.Env):
        observation_space = spaces.Dict(n=spaces.Box(0, 99, (1,), np.float32), pair=spaces.Tuple([FLAT, TWO]))
        action_space = TWO

        def __init__(self):
            self.n = np.zeros(1, np.float32)
            made.append(self)

        def obs(self):
            return {"n": self.n, "pair": (np.full(2, self.n[0] / 100, np.float32), int(self.n[0]) % 2)}

        def reset(self, *, seed=None, options=None):
            self.n[0] = 10 * made.index(self)
            return self.obs(), {}

        def step(self, action):
            self.n += 1
            return self.obs(), 0.0, False, False, {}

    env = envs.resolve(Counts).make(3)
    env.reset(0)
    env.recv()
    env.send(np.zeros(2, np.int32), np.array([2, 0]))
    rows = env.recv()
    env.send(np.zeros(2, np.int32), np.array([2, 0]))
    assert rows.obs["n"].tolist() == [[31], [11]]
    np.testing.assert_allclose(rows.obs["pair"][0][:, 0], [0.31, 0.11])
    assert rows.obs["pair"][1].tolist() == [[0, 1], [0, 1]]


GOOD = {"at": np.array([1, 6]), "open": np.array([0, 1], np.int8)}


@pytest.mark.parametrize(
    ("obs", "expected"),
    [
        (None, "returned None as obs, declared a dict of at, open; return what observation_space declares"),
        ([1, 2], "returned list [1, 2] as obs, declared a dict"),
        ({"at": GOOD["at"]}, "returned an obs without entry 'open'"),
        (GOOD | {"lid": 1}, "returned an obs with undeclared entry 'lid'"),
        ({"at": GOOD["at"], "lid": 1}, "without entry 'open' and with undeclared entry 'lid'"),
        (GOOD | {"open": np.array([0, 2])}, "other values than the bits 0 and 1, in entry 'open'"),
        (GOOD | {"open": "no"}, "an obs of shape (), declared (2,), in entry 'open'"),
        (GOOD | {"open": ["a", "b"]}, "an obs of dtype <U1, declared bits, in entry 'open'"),
        (GOOD | {"at": None}, "returned None as obs, in entry 'at'"),
        (GOOD | {"at": np.array([1.0, 6.0])}, "an obs of dtype float64, declared whole numbers, in entry 'at'"),
        (GOOD | {"at": np.array([1, 8])}, "returned obs 8 at index (1,), declared 5 .. 7, in entry 'at'"),
        (GOOD | {"at": np.array([-1, 5])}, "returned obs -1 at index (0,), declared 0 .. 1, in entry 'at'"),
    ],
)
def test_a_bad_entry_is_named(obs, expected):
    assert expected in fault(obs, NESTED["grips"])


def test_paths_name_entries_of_entries():
    deep = spaces.Dict(a=spaces.Tuple([TWO, spaces.Dict(b=FLAT)]))
    assert "declared (2,), in entry 'a/1/b'" in fault({"a": (0, {"b": np.zeros(3)})}, deep)
    assert "not finite (nan at index (1,)), in entry 'a/1/b'" in fault({"a": (0, {"b": [0, np.nan]})}, deep)
    assert "1 values as obs, declared a tuple of 2 entries, in entry 'a'" in fault({"a": (0,)}, deep)


def test_gymnasium_s_own_tuple_environment_runs():
    env = envs.resolve("Blackjack-v1").make(2)
    env.reset(0)
    shapes = [leaf.shape for leaf in tree_leaves(env.recv().obs)]
    assert shapes == [(2, 32), (2, 11), (2, 2)]


@pytest.mark.parametrize(
    ("space", "spec", "sent", "arrives"),
    [
        (spaces.MultiDiscrete([2, 3]), MultiDiscrete((2, 3)), [1, 2], np.array([1, 2], np.int64)),
        (spaces.MultiDiscrete([2, 3], np.int32, start=[5, -1]), MultiDiscrete((2, 3)), [1, 2], np.int32([6, 1])),
        (spaces.MultiDiscrete([[2, 3], [4, 5]]), MultiDiscrete((2, 3, 4, 5)), [1, 2, 3, 4], np.int64([[1, 2], [3, 4]])),
        (spaces.MultiBinary((2, 2)), MultiDiscrete((2,) * 4), [1, 0, 0, 1], np.int8([[1, 0], [0, 1]])),
    ],
)
def test_choices_arrive_as_their_space_has_them(space, spec, sent, arrives):
    made = []

    def make():
        made.append(Spaces(np.zeros(2, np.float32), FLAT, space))
        return made[-1]

    factory = envs.resolve(make)
    assert factory.spec.action == spec
    env = factory.make(1)
    env.reset(0)
    env.recv()
    env.send(spec.to_env(np.array([sent], np.int32)))
    (received,) = made[1].received
    assert received.dtype == arrives.dtype
    np.testing.assert_array_equal(received, arrives)
    assert space.contains(received)


MASKS = [spaces.MultiBinary(3), spaces.Box(0, 1, (3,), np.int8), spaces.Box(0, 1, (3,), np.bool_)]


@pytest.mark.parametrize("space", MASKS, ids=str)
@pytest.mark.parametrize("dtype", [np.int8, np.bool_, np.int64])
def test_masks_of_every_spelling_become_bools(space, dtype):
    obs = {"x": np.zeros(2, np.float32), "action_mask": np.array([1, 0, 1], dtype)}
    env = envs.resolve(lambda: Spaces(obs, spaces.Dict(x=FLAT, action_mask=space), spaces.Discrete(3))).make(2)
    assert env.spec.masked
    assert env.spec.obs["action_mask"] == ArraySpec((3,), "bool")
    env.reset(0)
    mask = env.recv().obs["action_mask"]
    assert mask.dtype == bool
    assert mask.tolist() == [[True, False, True]] * 2


@pytest.mark.parametrize(
    ("mask", "action", "expected"),
    [
        (spaces.MultiBinary(2), spaces.Discrete(3), "action_mask has shape (2,), the actions need (3,); declare"),
        (spaces.MultiBinary(3), spaces.MultiDiscrete([2, 2]), "action_mask has shape (3,), the actions need (4,)"),
        (spaces.Box(0, 1, (3,)), spaces.Discrete(3), "action_mask is declared as Box(0.0, 1.0, (3,), float32)"),
        (spaces.Discrete(3), spaces.Discrete(3), "action_mask is declared as Discrete(3); declare spaces.MultiBinary"),
        (spaces.MultiBinary(2), FLAT, "action_mask masks no Box actions"),
    ],
)
def test_masks_that_fit_no_action_are_refused(mask, action, expected):
    assert expected in refusal(spaces.Dict(x=FLAT, action_mask=mask), action)


def test_observations_are_more_than_a_mask():
    assert "nothing but action_mask" in refusal(spaces.Dict(action_mask=spaces.MultiBinary(2)), TWO)


def test_a_mask_deeper_down_is_an_entry_like_others():
    spec = env_spec("env", Spaces(None, spaces.Dict(x=spaces.Dict(action_mask=spaces.MultiBinary(7))), TWO))
    assert not spec.masked
    assert dict(tree_items(spec.obs)) == {"x/action_mask": ArraySpec((7,), "float32")}


class Masked(gymnasium.Env):
    """Shows these masks one after another; ends with the last one."""

    observation_space = spaces.Dict(x=FLAT, action_mask=spaces.MultiBinary(4))

    def __init__(self, masks, action_space):
        self.masks, self.action_space = masks, action_space

    def obs(self):
        return {"x": np.zeros(2, np.float32), "action_mask": np.array(self.masks[self.at])}

    def reset(self, *, seed=None, options=None):
        self.at = 0
        return self.obs(), {}

    def step(self, action):
        self.at += 1
        return self.obs(), 0.0, self.at == len(self.masks) - 1, False, {}


def played(masks, action_space, steps=5):
    env = envs.resolve(lambda: Masked(masks, action_space)).make(2, 3)
    env.reset(0)
    rows = [env.recv()]
    for _ in range(steps):
        env.send(np.zeros((2, *env.spec.action.shape), np.int32))
        rows.append(env.recv())
    return rows


@pytest.mark.parametrize("action", [spaces.Discrete(4), spaces.MultiDiscrete([1, 3])], ids=str)
def test_no_legal_action_is_a_fault_only_while_the_episode_goes_on(action):
    some, none = [1, 0, 1, 0], [0, 0, 0, 0]
    assert len(played([some, some, none], action)) == 6
    with pytest.raises(EnvironmentFault, match=r"environment 3 \(seed \d+, step 1\) offers no legal action, yet"):
        played([some, none, some], action)
    with pytest.raises(EnvironmentFault, match=r"step 0\) offers no legal action.*; leave an action legal or end"):
        played([none, some], action)


def test_every_choice_needs_a_legal_value():
    no_second = [[1, 0, 0, 0], [1, 1, 1, 1]]
    assert len(played(no_second, spaces.Discrete(4))) == 6
    with pytest.raises(EnvironmentFault, match="no legal action"):
        played(no_second, spaces.MultiDiscrete([1, 3]))


def test_a_choice_is_legal_where_each_of_its_parts_is():
    rng = np.random.default_rng(0)
    mask, preference = rng.random((500, 5)) < 0.4, rng.random((500, 5))
    action = MultiDiscrete((2, 3))
    assert mask_size(action) == mask_size(Discrete(5)) == 5
    assert mask_size(Box((2,), (0.0, 0.0), (1.0, 1.0))) == 0
    parts = [(mask[:, :2], preference[:, :2], Discrete(2)), (mask[:, 2:], preference[:, 2:], Discrete(3))]
    possible = has_legal_action(mask, action)
    np.testing.assert_array_equal(possible, np.all([has_legal_action(m, a) for m, _, a in parts], axis=0))
    chosen = choose_legal(mask, preference, action)
    np.testing.assert_array_equal(chosen, np.stack([choose_legal(*part) for part in parts], -1))
    rows = np.flatnonzero(possible)
    assert mask[rows, chosen[rows, 0]].all()
    assert mask[rows, 2 + chosen[rows, 1]].all()


def test_random_preferences_choose_legal_actions_alike():
    preference = np.random.default_rng(1).random((6000, 4))
    chosen = choose_legal(np.broadcast_to([True, False, True, True], (6000, 4)), preference, Discrete(4))
    shares = np.bincount(chosen, minlength=4) / 6000
    np.testing.assert_allclose(shares, [1 / 3, 0, 1 / 3, 1 / 3], atol=0.03)
