# SPDX-License-Identifier: Apache-2.0
"""DQN on CartPole with Stable-Baselines3. Run by its own Python; imports no shoal.

Prints one JSON object: marks after each round of gradient steps (steps, seconds, mean return of 100 episodes), counts.
"""

import argparse
import json
import time
from importlib import metadata
from pathlib import Path

from benchmarks.peers import dqn_settings as settings

LIBRARIES = ("stable-baselines3", "torch", "gymnasium", "numpy")


def timed(first_update: Path):
    """The library's DQN with a mark after each round, which costs nothing per step."""
    from stable_baselines3 import DQN

    class Timed(DQN):
        marks: list
        steps: int

        def train(self, gradient_steps, batch_size=100):
            super().train(gradient_steps, batch_size)
            recent = [episode["r"] for episode in self.ep_info_buffer]
            mean = sum(recent) / len(recent) if len(recent) == 100 else None
            self.marks.append((self.num_timesteps, time.perf_counter(), mean))
            self.steps += gradient_steps
            if len(self.marks) == 1:
                first_update.write_text("updated\n")

    return Timed


def make_agent(envs, env_steps: int, seed: int, first_update: Path):
    """DQN with the shared settings."""
    import torch

    agent = timed(first_update)(
        "MlpPolicy",
        envs,
        learning_rate=lambda left: settings.LEARNING_RATE * left,
        buffer_size=settings.CAPACITY,
        learning_starts=settings.START,
        batch_size=settings.BATCH,
        tau=1.0,
        gamma=settings.DISCOUNT,
        train_freq=settings.UNROLL,
        gradient_steps=settings.GRADIENT_STEPS,
        target_update_interval=settings.TARGET_INTERVAL,
        exploration_fraction=settings.EPSILON_STEPS / env_steps,
        exploration_final_eps=settings.EPSILON_FINAL,
        max_grad_norm=settings.MAX_GRAD_NORM,
        policy_kwargs={
            "net_arch": list(settings.HIDDEN),
            "activation_fn": torch.nn.Tanh,
            "optimizer_kwargs": {"eps": settings.ADAM_EPSILON},
        },
        seed=seed,
        device="cpu",
    )
    agent.marks, agent.steps = [], 0
    return agent


def main() -> None:
    """Train, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--env-steps", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first-update", type=Path, required=True)
    given = parser.parse_args()
    import torch
    from stable_baselines3.common.env_util import make_vec_env

    torch.set_num_threads(given.threads)
    envs = make_vec_env("CartPole-v1", settings.NUM_ENVS, seed=given.seed)
    agent = make_agent(envs, given.env_steps, given.seed, given.first_update)
    agent.learn(given.env_steps)
    installed = {name: metadata.version(name) for name in LIBRARIES}
    print(json.dumps({"marks": agent.marks, "gradient_steps": agent.steps, "versions": installed}))


if __name__ == "__main__":
    main()
