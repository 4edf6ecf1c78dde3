# SPDX-License-Identifier: Apache-2.0
"""The environment as Stable-Baselines3 makes it: single ones, each with Gymnasium's default wrappers."""

import gymnasium

SINGLE = "benchmarks.peers.environments:cartpole"
"""what `shoal train --env` is given for single environments"""
NATIVE = "CartPole-v1"
"""Gymnasium's own vector form of it, which shoal takes by itself"""
ENVPOOL = "envpool:CartPole-v1"
"""EnvPool's, written in C++"""


def cartpole() -> gymnasium.Env:
    """One CartPole-v1."""
    return gymnasium.make("CartPole-v1")
