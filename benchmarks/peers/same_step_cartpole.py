# SPDX-License-Identifier: Apache-2.0
"""Gymnasium's vector CartPole for Stable-Baselines3, which resets in the step that ends an episode.

Gymnasium's resets on the step after. Here the columns that ended are drawn anew at once, from the same generator and
bounds, so that Stable-Baselines3 gets the environment that shoal gets, at the same price, and loses no step to resets.
"""

import time

import gymnasium
import numpy as np
from stable_baselines3.common.vec_env import VecEnv


class SameStepCartPole(VecEnv):
    """N CartPoles in NumPy, with the episode statistics that a Monitor would add."""

    def __init__(self, num_envs: int, seed: int):
        self._vector = gymnasium.make_vec("CartPole-v1", num_envs, vectorization_mode="vector_entry_point").unwrapped
        super().__init__(num_envs, self._vector.single_observation_space, self._vector.single_action_space)
        self._seed, self._began = seed, time.time()
        self._return = np.zeros(num_envs)
        self._length = np.zeros(num_envs, int)
        self._action = np.zeros(num_envs, int)

    def reset(self):
        obs, _ = self._vector.reset(seed=self._seed)
        self._return[:], self._length[:] = 0, 0
        return obs

    def step_async(self, actions):
        self._action = actions

    def step_wait(self):
        obs, reward, terminated, truncated, _ = self._vector.step(self._action)
        ended = terminated | truncated
        self._return += reward
        self._length += 1
        infos = [{} for _ in range(self.num_envs)]
        for i in np.flatnonzero(ended):
            episode = {"r": self._return[i], "l": self._length[i], "t": time.time() - self._began}
            infos[i] = {
                "terminal_observation": obs[i].copy(),
                "TimeLimit.truncated": bool(truncated[i] and not terminated[i]),
                "episode": episode,
            }
        if ended.any():
            obs = self._restart(obs, ended)
        return obs, reward.copy(), ended, infos

    def _restart(self, obs, ended):
        vector = self._vector
        fresh = vector.np_random.uniform(low=vector.low, high=vector.high, size=(4, int(ended.sum())))
        vector.state[:, ended] = fresh
        vector.steps[ended] = 0
        vector.prev_done[ended] = False
        self._return[ended], self._length[ended] = 0, 0
        obs[ended] = fresh.T
        return obs

    def close(self):
        self._vector.close()

    def get_attr(self, attr_name, indices=None):
        return [getattr(self._vector, attr_name, None)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name, value, indices=None):
        setattr(self._vector, attr_name, value)

    def env_method(self, method_name, *method_args, indices=None, **method_kwargs):
        return [getattr(self._vector, method_name)(*method_args, **method_kwargs)]

    def env_is_wrapped(self, wrapper_class, indices=None):
        return [False] * self.num_envs
