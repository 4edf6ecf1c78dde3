# SPDX-License-Identifier: Apache-2.0
"""PPO on CartPole with Stable-Baselines3, or with SBX, its JAX twin. Run by their own Python; imports no shoal.

Prints one JSON object: marks after each update (steps, seconds, mean return of 100 episodes) and the counts.
"""

import argparse
import json
import time
from importlib import metadata
from pathlib import Path

from benchmarks.peers import settings

LIBRARIES = ("stable-baselines3", "sbx-rl", "torch", "jax", "gymnasium", "numpy")


def make_envs(vector: str, seed: int):
    """CartPoles: `dummy` and `subproc` are the library's own ways, `native` is Gymnasium's vector form."""
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

    if vector == "native":
        from benchmarks.peers.same_step_cartpole import SameStepCartPole

        return SameStepCartPole(settings.NUM_ENVS, seed)
    kind = {"dummy": DummyVecEnv, "subproc": SubprocVecEnv}[vector]
    return make_vec_env("CartPole-v1", settings.NUM_ENVS, seed=seed, vec_env_cls=kind)


def timed(library: str, first_update: Path):
    """The library's PPO with a mark after each update, which costs nothing per step."""
    if library == "sbx":
        from sbx import PPO
    else:
        from stable_baselines3 import PPO

    class Timed(PPO):
        marks: list

        def train(self):
            super().train()
            recent = [episode["r"] for episode in self.ep_info_buffer]
            mean = sum(recent) / len(recent) if len(recent) == 100 else None
            self.marks.append((self.num_timesteps, time.perf_counter(), mean))
            if len(self.marks) == 1:
                first_update.write_text("updated\n")

    return Timed


def make_agent(library: str, envs, seed: int, first_update: Path):
    """PPO with the shared settings; `vf_coef` is halved because this library's value loss has no half in it."""
    units = list(settings.HIDDEN)
    network = {"net_arch": {"pi": units, "vf": units}}
    if library != "sbx":
        network["optimizer_kwargs"] = {"eps": 1e-5}
    agent = timed(library, first_update)(
        "MlpPolicy",
        envs,
        learning_rate=lambda left: settings.LEARNING_RATE * left,
        n_steps=settings.UNROLL,
        batch_size=settings.BATCH // settings.MINIBATCHES,
        n_epochs=settings.EPOCHS,
        gamma=settings.DISCOUNT,
        gae_lambda=settings.TRACE_DECAY,
        clip_range=settings.CLIP,
        ent_coef=settings.ENTROPY_COST,
        vf_coef=settings.VALUE_COST / 2,
        max_grad_norm=settings.MAX_GRAD_NORM,
        policy_kwargs=network,
        seed=seed,
        device="cpu",
    )
    agent.marks = []
    return agent


def main() -> None:
    """Train, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", choices=["sb3", "sbx"], default="sb3")
    parser.add_argument("--vector", choices=["dummy", "subproc", "native"], default="dummy")
    parser.add_argument("--num-envs", type=int, required=True)
    parser.add_argument("--env-steps", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first-update", type=Path, required=True)
    given = parser.parse_args()
    settings.use(given.num_envs)
    import torch

    torch.set_num_threads(given.threads)
    agent = make_agent(given.library, make_envs(given.vector, given.seed), given.seed, given.first_update)
    agent.learn(given.env_steps)
    installed = {}
    for name in LIBRARIES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    steps_per_update = settings.EPOCHS * settings.MINIBATCHES
    answer = {"marks": agent.marks, "gradient_steps": len(agent.marks) * steps_per_update, "versions": installed}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
