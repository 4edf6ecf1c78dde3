# SPDX-License-Identifier: Apache-2.0
"""Film one episode of a trained policy."""

from pathlib import Path
from typing import Any

import numpy as np

from shoal import seeds
from shoal.envs.camera import Camera
from shoal.records.film import Film
from shoal.training.result import Result
from shoal.trees import read_at, tree_map


def film_episode(result: Result, camera: Camera, path: Path, seed: int = 0) -> dict[str, Any]:
    """Play one episode with the likeliest actions and write it to `path`, a picture after the reset and each step.

    Returns {"path", "frames", "return", "length", "whole"}: `whole` is False where the episode went on after the
    last picture that such a file may hold.

    Raises: ConfigError where the file cannot be written, EnvironmentFault.

    Check: frames is length + 1, and the same seed films the same episode.
    """
    agent, env = result.agent, camera.env
    bound, memory = agent.bind(np.array(result.state.params)), agent.memory(1)
    noise = np.zeros((1, agent.noise_size), np.float32)  # the likeliest action needs none
    env.reset(seeds.derive(seed, "film"))
    obs = tree_map(np.array, env.recv().obs)
    total, ended = 0.0, False
    with Film(path, camera.frames_per_s) as film:
        film.add(camera.picture(read_at(obs, 0)))
        while not ended and not film.full:
            _, head, memory = agent.act(bound, obs, memory, noise)
            env.send(env.spec.action.to_env(agent.mode(head)))
            steps = env.recv()
            obs = tree_map(np.array, steps.obs)
            total += float(steps.reward[0])
            ended = bool(steps.terminated[0] | steps.truncated[0])
            film.add(camera.picture(read_at(obs, 0)))
    return {"path": str(path), "frames": film.frames, "return": total, "length": film.frames - 1, "whole": ended}
