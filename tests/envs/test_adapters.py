# SPDX-License-Identifier: Apache-2.0
"""What single adapters must get right beyond the contract: same physics, settings that reach the game, toys solved."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs.recording import Case, actions, record, record_from
from shoal import envs, seeds
from shoal.envs import pace
from shoal.envs.masks import choose_legal
from shoal.envs.paced import Paced
from shoal.envs.tictactoe import TicTacToe
from shoal.errors import EnvironmentFault
from shoal.types import Discrete


def test_native_cartpole_is_the_single_cartpole():
    """Every valid row follows from the row before by the single environment's own step."""
    rows = record(Case("CartPole-v1", {"max_episode_steps": 30}, steps=100))
    single = gymnasium.make("CartPole-v1").unwrapped
    single.reset(seed=0)
    env = envs.resolve("CartPole-v1").make(4)
    length = np.zeros(4, int)
    for step in range(100):
        action = actions(env, step, 0, rows.obs)
        for slot in range(4):
            if not rows.valid[step + 1, slot]:
                length[slot] = 0
                assert np.abs(rows.obs[step + 1, slot]).max() <= 0.05
                continue
            length[slot] += 1
            single.state = rows.obs[step, slot].astype(np.float64)
            single.steps_beyond_terminated = None
            obs, reward, terminated, _, _ = single.step(int(action[slot]))
            np.testing.assert_allclose(rows.obs[step + 1, slot], obs, rtol=1e-4, atol=1e-6)
            assert (rows.reward[step + 1, slot], rows.terminated[step + 1, slot]) == (reward, terminated)
            assert rows.truncated[step + 1, slot] == (length[slot] >= 30)


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "MountainCar-v0"])
def test_single_adapter_equals_a_plain_loop(env_id):
    rows = record(Case(env_id, {"max_episode_steps": 25}, steps=60), first_index=2)
    env = envs.resolve(env_id).make(4)
    for slot in range(4):
        plain = gymnasium.make(env_id, max_episode_steps=25)
        obs, _ = plain.reset(seed=seeds.derive(7, "env", 2 + slot))
        np.testing.assert_array_equal(rows.obs[0, slot], obs)
        ended = False
        for step in range(60):
            if ended:
                obs, reward, terminated, truncated = plain.reset()[0], 0.0, False, False
            else:
                obs, reward, terminated, truncated, _ = plain.step(actions(env, step, 2, rows.obs)[slot])
            ended = terminated or truncated
            np.testing.assert_array_equal(rows.obs[step + 1, slot], obs)
            assert rows.reward[step + 1, slot] == np.float32(reward)
            assert (rows.terminated[step + 1, slot], rows.truncated[step + 1, slot]) == (terminated, truncated)


def test_vector_form_is_used_only_where_it_is_the_same_environment():
    def adapter(env_id):
        return type(envs.resolve(env_id).make(1)).__name__

    assert adapter("CartPole-v1") == "NativeVector"
    assert adapter("Pendulum-v1") == "SingleVector"
    # its registered vector form crops, stacks and clips, which the id does not say
    assert adapter("ALE/Pong-v5") == "SingleVector"
    assert envs.resolve("ALE/Pong-v5").spec.obs.shape == (210, 160, 3)


def test_ale_limit_counts_frames():
    rows = record(Case("ale:pong", {"max_num_frames_per_episode": 80, "frameskip": 2}, steps=85), num_envs=2)
    assert envs.resolve("ale:pong", {"max_num_frames_per_episode": 80, "frameskip": 2}).spec.max_episode_steps == 40
    assert np.argwhere(rows.truncated).tolist() == [[40, 0], [40, 1], [81, 0], [81, 1]]


def test_ale_rewards_are_raw_and_actions_stick():
    def pacman(**kwargs):
        return record(Case("ale:ms_pacman", {"img_height": 20, "img_width": 20, **kwargs}, steps=90), num_envs=2)

    raw = pacman()
    assert raw.reward.max() >= 10
    assert pacman(reward_clipping=True).reward.max() == 1
    assert not np.array_equal(raw.obs, pacman(repeat_action_probability=0.0).obs)
    np.testing.assert_array_equal(raw.obs, pacman(repeat_action_probability=0.25).obs)


def play(env_id, policy, steps=400, num_envs=8, **kwargs):
    """Mean return of finished episodes under policy(obs [N, ...])."""
    env = envs.resolve(env_id, kwargs).make(num_envs)
    env.reset(1)
    rows = env.recv()
    running, returns = np.zeros(num_envs), []
    for _ in range(steps):
        env.send(policy(rows.obs))
        rows = env.recv()
        running += rows.reward
        ended = rows.terminated | rows.truncated
        returns.extend(running[ended])
        running[ended] = 0
    return np.mean(returns)


def test_catch_is_won_by_following_the_ball():
    def follow(obs):
        screen = obs.reshape(len(obs), 10, 5)
        paddle = screen[:, 9].argmax(-1)
        ball = screen[:, :9].max(1).argmax(-1)
        return 1 + np.sign(ball - paddle)

    assert play("toy:catch", follow) == 1
    assert play("toy:catch", lambda obs: np.ones(len(obs), int)) < 0


def test_memory_needs_memory():
    cue = np.zeros(8)

    def remember(obs):
        seen = obs[:, 0] != 0
        cue[seen] = obs[seen, 0]
        return (cue > 0).astype(int)

    assert play("toy:memory", remember, length=5) == 1
    assert abs(play("toy:memory", lambda obs: np.ones(8, int), length=5)) < 0.3
    rows = record(Case("toy:memory", {"length": 5}, steps=5))
    np.testing.assert_array_equal(rows.obs[5], [[0, 1, 1]] * 4)
    assert set(rows.obs[0, :, 0]) <= {-1, 1}


def test_the_door_opens_with_the_key_and_hardly_ever_by_chance():
    def right(obs):
        return (obs[:, :-1].argmax(-1) + obs[:, -1].astype(int)) % 2

    assert play("toy:key_door", right) == 1
    assert play("toy:key_door", lambda obs: np.where(obs[:, -1] > 0, 1 - right(obs), right(obs))) == 0
    rng = np.random.default_rng(0)
    by_chance = play("toy:key_door", lambda obs: rng.integers(2, size=len(obs)), 6000, length=3)
    assert by_chance == pytest.approx((1 / 16 + 1 / 8) / 2, abs=0.015)


def test_bandit_pays_by_its_probabilities():
    for arm, probability in enumerate((0.2, 0.9)):
        mean = play("toy:bandit", lambda obs, a=arm: np.full(8, a), 1100, probabilities=[0.2, 0.9], pulls=10)
        assert mean == pytest.approx(10 * probability, abs=0.3)


def test_signpost_is_solved_by_both_entries_and_by_neither_alone():
    def shorter_way(obs):
        way = (obs["sign"].argmax(-1) - obs["place"].argmax(-1)) % 5
        return (way <= 2).astype(int)

    assert play("toy:signpost", shorter_way) == 8
    assert play("toy:signpost", lambda obs: 1 - shorter_way(obs)) == 0
    # whatever one entry alone says, half of the signs lie the other way
    for seed in range(3):
        turn = np.random.default_rng(seed).integers(2, size=5)
        for entry in ("place", "sign"):
            mean = play("toy:signpost", lambda obs, t=turn, e=entry: t[obs[e].argmax(-1)], 2000)
            assert mean == pytest.approx(4, abs=0.15)


def test_dials_pay_for_each_choice():
    def copy(obs, wrong=None):
        shown = [part.argmax(-1) for part in np.split(obs, [2, 5], axis=-1)]
        if wrong is not None:
            shown[wrong] = (shown[wrong] + 1) % 2
        return np.stack(shown, -1)

    assert play("toy:dials", copy) == pytest.approx(4)
    assert play("toy:dials", lambda obs: copy(obs, wrong=0)) == pytest.approx(4 * 2 / 3)
    rng = np.random.default_rng(0)
    guess = play("toy:dials", lambda obs: rng.integers([2, 3, 4], size=(8, 3)), 2000)
    assert guess == pytest.approx(4 * np.mean([1 / 2, 1 / 3, 1 / 4]), abs=0.05)


def test_gates_open_to_the_mask_alone():
    rng = np.random.default_rng(0)

    def best(obs):
        return (obs["light"] * obs["action_mask"]).argmax(-1)

    def at_random(obs):
        return choose_legal(obs["action_mask"], rng.random((8, 5)), Discrete(5))

    assert play("toy:gates", best) == 8
    assert play("toy:gates", at_random, 3000) == pytest.approx(4, abs=0.1)
    rows = record(Case("toy:gates"))
    assert (rows.obs["action_mask"].sum(-1) == 2).all()
    assert (rows.obs["light"].sum(-1) == 2).all()
    assert ((rows.obs["light"] * rows.obs["action_mask"]).sum(-1) == 1).all()


def test_a_shut_gate_is_a_fault():
    env = envs.resolve("toy:gates").make(2, first_index=6)
    env.reset(4)
    obs = env.recv().obs
    shut = np.array([obs["action_mask"][0].argmax(), obs["action_mask"][1].argmin()])
    with pytest.raises(EnvironmentFault, match=r"toy:gates: environment 7 \(seed 4, step 1\) was sent through gate \d"):
        env.send(shut)


def test_tictactoe_knows_its_rules():
    def first_free(obs):
        return (obs == 0).argmax(-1)

    random_play = play("toy:tictactoe", first_free)
    assert 0.2 < random_play < 0.9
    assert play("toy:tictactoe", lambda obs: (obs != 0).argmax(-1)) < -0.5
    rows = record(Case("toy:tictactoe", steps=200))
    whole = rows.obs[rows.ended]
    assert set(np.unique(rows.reward)) <= {-1, 0, 1}
    assert (np.abs(whole.sum(-1)) <= 1).all()


@pytest.mark.parametrize("make", [TicTacToe, lambda: Paced(step_s=0.0)])
@pytest.mark.filterwarnings("ignore")
def test_single_toys_pass_gymnasiums_checker(make):
    check_env(make(), skip_render_check=True)


def test_pace_changes_no_data():
    def paced(**kwargs):
        env = envs.resolve("toy:paced", {"episode_steps": 5, **kwargs}).make(2)
        return record_from(env, 3, 12)

    plain, slow = paced(step_s=0.0), paced(step_s=1e-4, spread=2.0, busy=True)
    np.testing.assert_array_equal(plain.obs, slow.obs)


def test_pace_spends_what_it_is_told(monkeypatch):
    spent = []
    monkeypatch.setattr(pace, "spend", lambda seconds, busy: spent.append((seconds, busy)))
    env = Paced(step_s=0.01, spread=0.5, busy=True, reset_s=0.2)
    env.reset(seed=0)
    for _ in range(4000):
        env.step(0)
    assert spent[0] == (0.2, True)
    costs = np.array([seconds for seconds, _ in spent[1:]])
    assert costs.min() > 0
    assert costs.mean() == pytest.approx(0.01, rel=0.05)
    assert costs.std() == pytest.approx(0.005, rel=0.15)


def test_busy_time_is_work(monkeypatch):
    units = []
    monkeypatch.setattr(pace, "work", units.append)
    monkeypatch.setattr(pace, "units_per_s", lambda: 1000.0)
    pace.spend(0.5, busy=True)
    pace.spend(0.0, busy=True)
    assert units == [500]


def test_work_is_calibrated():
    assert 1e5 < pace.units_per_s() < 1e9
