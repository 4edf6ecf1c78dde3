# SPDX-License-Identifier: Apache-2.0
"""Settings that work, per architecture and kind of environment: `shoal train ppo --env CartPole-v1` needs nothing else.

Each preset says what it departs from in the architecture's defaults. Imports no JAX and no simulator.
"""

import re
from typing import Any

from shoal.architectures import registry
from shoal.types import Box, EnvSpec


def preset(architecture: str, spec: EnvSpec) -> Any:
    """The architecture's Config for an environment of this form.

    Frames [stack, height, width] get the Atari settings, MuJoCo's bodies and MinAtar's games theirs, other Box actions
    the continuous ones, all others the classic ones, with rewards scaled down where episodes are long.
    """
    config = registry.load(architecture).Config
    if spec.shows_frames:
        kind = ATARI
    elif isinstance(spec.action, Box):
        kind = MUJOCO if MUJOCO_IDS.search(spec.id) else CONTINUOUS
    elif spec.id.endswith("-MinAtar"):
        kind = MINATAR
    elif (spec.max_episode_steps or 0) >= LONG_EPISODE:
        kind = CLASSIC_CONTROL
    else:
        kind = SHORT_EPISODES
    return config(**kind.get(architecture, {}))  # none where an agent cannot take such actions


LONG_EPISODE = 100
"""steps from which on a reward of one a step adds up to values that swamp the policy's share of the gradient"""


_VALUES: dict[str, Any] = {
    "env_steps": 150_000, "batch_size": 128, "replay_ratio": 16.0, "n_step": 8, "target_interval": 500,
    "epsilon_final": 0.02, "anneal_learning_rate": True,
}  # fmt: skip
SHORT_EPISODES: dict[str, dict[str, Any]] = {
    "a2c": {"unroll_length": 32, "learning_rate": 2e-3},
    "ppo": {"learning_rate": 2.5e-3},
    "impala": {"unroll_length": 32, "learning_rate": 2e-3, "batch_trajectories": 1},
    "appo": {"learning_rate": 2.5e-3, "batch_trajectories": 1},
    "seed": {"unroll_length": 32, "learning_rate": 2e-3, "batch_trajectories": 1},
    "pg": {"learning_rate": 3e-3},
    "a3c": {"envs_per_actor": 4, "unroll_length": 32, "trace_decay": 0.95, "learning_rate": 2e-3,
            "entropy_cost": 0.003},
    "dqn": {**_VALUES, "double_q": True}, "rainbow": _VALUES,
    "gorila": {"envs_per_actor": 8, "batch_size": 128, "replay_capacity": 50_000, "n_step": 3, "learning_rate": 0.03,
               "double_q": True, "epsilon_final": 0.01, "pushes_per_visit": 100, "anneal_learning_rate": True},
    "apex": {"env_steps": 150_000, "envs_per_actor": 8, "unroll_length": 16, "batch_size": 128, "replay_ratio": 8.0,
             "replay_capacity": 50_000, "target_interval": 1_000, "dueling": False, "epsilon_base": 0.05, "n_step": 8,
             "epsilon_exponent": 3.0, "minibatches": 2, "params_interval": 16, "actors_ahead": 0,
             "anneal_learning_rate": True},
    "r2d2": {"env_steps": 40_000, "envs_per_actor": 4, "unroll_length": 8, "sequence_length": 12, "burn_in": 4,
             "batch_size": 16, "replay_ratio": 4.0, "replay_start": 500, "replay_capacity": 20_000,
             "target_interval": 500, "dueling": False, "learning_rate": 2e-3, "discount": 0.99, "epsilon_base": 0.1,
             "epsilon_exponent": 2.0, "minibatches": 2, "params_interval": 8, "anneal_learning_rate": True},
}  # fmt: skip
"""small network, rewards of about one an episode"""

CLASSIC_CONTROL = {name: {**fields, "reward_scale": 0.1} for name, fields in SHORT_EPISODES.items()}
"""the same with rewards that add up over hundreds of steps, brought back to values of about ten"""

_CONTROL: dict[str, Any] = {
    "env_steps": 60_000, "envs_per_actor": 4, "replay_ratio": 64.0, "discount": 0.98, "reward_scale": 0.1,
}  # fmt: skip
CONTINUOUS: dict[str, dict[str, Any]] = {
    "a2c": {"discount": 0.9, "reward_scale": 0.1, "entropy_cost": 0.0},
    "ppo": {"discount": 0.9, "reward_scale": 0.1, "entropy_cost": 0.0, "epochs": 10, "minibatches": 8},
    "impala": {"discount": 0.9, "reward_scale": 0.1, "entropy_cost": 0.0},
    "appo": {"discount": 0.9, "reward_scale": 0.1, "entropy_cost": 0.0, "epochs": 4, "minibatches": 4},
    "seed": {"discount": 0.9, "reward_scale": 0.1, "entropy_cost": 0.0},
    "pg": {"discount": 0.9, "reward_scale": 0.1, "entropy_cost": 0.0},
    "a3c": {"envs_per_actor": 4, "unroll_length": 16, "discount": 0.9, "trace_decay": 0.95, "reward_scale": 0.1,
            "entropy_cost": 0.0},
    "ddpg": _CONTROL,
    "naf": {**_CONTROL, "discount": 0.95, "exploration_noise": 0.2, "exploration_steps": 20_000},
    "sac": {**_CONTROL, "temperature": 0.1},
    "apex": {"agent": "ddpg", "env_steps": 60_000, "envs_per_actor": 4, "unroll_length": 16, "n_step": 1,
             "batch_size": 256, "replay_ratio": 32.0, "target_interval": 0, "target_rate": 0.005, "reward_scale": 0.1,
             "minibatches": 8, "params_interval": 16, "actors_ahead": 200},
}  # fmt: skip
"""dense rewards of tens a step are scaled to about one; a horizon of ten steps suffices for swing-ups"""

MUJOCO_IDS = re.compile(
    r"(^|[:/])(Ant|HalfCheetah|Hopper|Humanoid|HumanoidStandup|InvertedDoublePendulum|InvertedPendulum|Pusher|Reacher"
    r"|Swimmer|Walker2d)-v\d+$"
)
"""Gymnasium's, and EnvPool's of the same names"""

_BODIES: dict[str, Any] = {
    "env_steps": 1_000_000, "normalise_obs": True, "normalise_reward": True, "entropy_cost": 0.0,
}  # fmt: skip
_OFF_POLICY: dict[str, Any] = {
    "env_steps": 1_000_000, "envs_per_actor": 1, "replay_start": 10_000, "batch_size": 256, "replay_ratio": 256.0,
}  # fmt: skip
MUJOCO: dict[str, dict[str, Any]] = {
    "a2c": {**_BODIES, "unroll_length": 32, "learning_rate": 1e-3},
    "ppo": {**_BODIES, "unroll_length": 256, "epochs": 10, "minibatches": 32, "learning_rate": 3e-4},
    "impala": {**_BODIES, "unroll_length": 32, "learning_rate": 1e-3, "batch_trajectories": 1},
    "appo": {**_BODIES, "unroll_length": 128, "epochs": 4, "minibatches": 16, "learning_rate": 3e-4},
    "seed": {**_BODIES, "unroll_length": 32, "learning_rate": 1e-3, "batch_trajectories": 1},
    "pg": {"env_steps": 1_000_000, "step": "d", "reward_scale": 0.1, "entropy_cost": 0.0},
    "a3c": {"env_steps": 1_000_000, "envs_per_actor": 4, "unroll_length": 32, "trace_decay": 0.95, "reward_scale": 0.1,
            "entropy_cost": 0.0},
    "ddpg": {**_OFF_POLICY, "reward_scale": 0.1}, "naf": {**_OFF_POLICY, "reward_scale": 0.1}, "sac": _OFF_POLICY,
    "apex": {"agent": "ddpg", "env_steps": 1_000_000, "n_step": 5, "batch_size": 256, "target_interval": 0,
             "target_rate": 0.005, "reward_scale": 0.1},
}  # fmt: skip
"""numbers of every scale, so observations and rewards are normalised; PPO as in Schulman et al. 2017, table 3, with its
2,048 steps a batch over eight environments"""

_GAMES: dict[str, Any] = {"env_steps": 2_000_000, "envs_per_actor": 64}
MINATAR: dict[str, dict[str, Any]] = {
    "a2c": {**_GAMES, "unroll_length": 32, "learning_rate": 2e-3},
    "ppo": {**_GAMES, "unroll_length": 128, "minibatches": 8, "learning_rate": 2.5e-3, "entropy_cost": 0.02},
    "impala": {**_GAMES, "unroll_length": 32, "learning_rate": 2e-3, "batch_trajectories": 1},
    "appo": {**_GAMES, "batch_trajectories": 1, "minibatches": 8, "learning_rate": 2.5e-3},
    "seed": {**_GAMES, "unroll_length": 32, "learning_rate": 2e-3, "batch_trajectories": 1},
    "pg": {**_GAMES, "envs_per_actor": 32, "learning_rate": 5e-3},
    "a3c": {**_GAMES, "envs_per_actor": 32, "unroll_length": 16, "trace_decay": 0.95, "learning_rate": 2e-3},
    "dqn": {**_GAMES, "replay_start": 5_000, "target_interval": 4_000},
    "rainbow": {**_GAMES, "replay_start": 5_000, "target_interval": 4_000},
    "gorila": {**_GAMES},
    "apex": {**_GAMES},
    "r2d2": {**_GAMES},
}
"""many environments, since they are stepped on the device, and longer runs"""

ATARI: dict[str, dict[str, Any]] = {
    "a2c": {"env_steps": 10_000_000, "envs_per_actor": 16, "unroll_length": 5, "reward_clip": 1.0,
            "learning_rate": 7e-4, "optimiser": "rmsprop"},
    "ppo": {"env_steps": 10_000_000, "envs_per_actor": 8, "unroll_length": 128, "reward_clip": 1.0,
            "learning_rate": 2.5e-4, "clip": 0.1},
    "impala": {"env_steps": 10_000_000, "num_actors": 2, "envs_per_actor": 8, "unroll_length": 20,
               "batch_trajectories": 2, "reward_clip": 1.0, "learning_rate": 6e-4, "optimiser": "rmsprop",
               "max_grad_norm": 40.0},
    "appo": {"env_steps": 10_000_000, "num_actors": 2, "envs_per_actor": 8, "unroll_length": 50,
             "batch_trajectories": 2, "reward_clip": 1.0, "learning_rate": 5e-4},
    "pg": {"env_steps": 10_000_000, "step": "f", "unroll_length": 20, "reward_clip": 1.0, "learning_rate": 7e-4,
           "optimiser": "rmsprop"},
    "seed": {"env_steps": 10_000_000, "num_actors": 2, "envs_per_actor": 8, "unroll_length": 20,
             "batch_trajectories": 2, "reward_clip": 1.0, "learning_rate": 6e-4, "optimiser": "rmsprop",
             "max_grad_norm": 40.0},
    "a3c": {"env_steps": 10_000_000, "num_actors": 2, "envs_per_actor": 1, "unroll_length": 5, "reward_clip": 1.0,
            "learning_rate": 7e-4, "max_grad_norm": 40.0},
    "dqn": {"env_steps": 10_000_000, "envs_per_actor": 8, "unroll_length": 16, "reward_clip": 1.0,
            "replay_start": 50_000, "target_interval": 40_000, "epsilon_final": 0.1, "epsilon_steps": 1_000_000,
            "optimiser": "rmsprop", "learning_rate": 2.5e-4, "optimiser_decay": 0.95, "optimiser_epsilon": 1e-2,
            "optimiser_centred": True},
    "rainbow": {"env_steps": 10_000_000, "envs_per_actor": 8, "unroll_length": 16, "reward_clip": 1.0,
                "replay_start": 50_000, "target_interval": 8_000, "epsilon_final": 0.01, "epsilon_steps": 62_500,
                "learning_rate": 6.25e-5, "optimiser_epsilon": 1.5e-4},
    "gorila": {"env_steps": 10_000_000, "envs_per_actor": 4, "reward_clip": 1.0, "epsilon_final": 0.1,
               "epsilon_steps": 1_000_000, "replay_start": 50_000},
    "apex": {"env_steps": 10_000_000, "envs_per_actor": 8, "reward_clip": 1.0, "optimiser": "rmsprop",
             "learning_rate": 6.25e-5, "optimiser_decay": 0.95, "optimiser_epsilon": 1.5e-7, "optimiser_centred": True,
             "replay_start": 50_000, "target_interval": 40_000},
    "r2d2": {"env_steps": 10_000_000, "envs_per_actor": 8, "learning_rate": 1e-4, "optimiser_epsilon": 1e-3,
             "replay_start": 50_000, "target_interval": 40_000},
}  # fmt: skip
"""rewards clipped to one as in the papers; network costs dominate on a CPU"""
