# SPDX-License-Identifier: Apache-2.0
"""Ids that gymnax registers by itself, known without loading it: that takes seconds and starts JAX."""

import importlib.util

GYMNAX = (
    "CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0",
    "Asterix-MinAtar", "Breakout-MinAtar", "Freeway-MinAtar", "Seaquest-MinAtar", "SpaceInvaders-MinAtar",
    "Catch-bsuite", "DeepSea-bsuite", "MemoryChain-bsuite", "UmbrellaChain-bsuite", "DiscountingChain-bsuite",
    "MNISTBandit-bsuite", "SimpleBandit-bsuite",
    "FourRooms-misc", "MetaMaze-misc", "PointRobot-misc", "BernoulliBandit-misc", "GaussianBandit-misc",
    "Reacher-misc", "Swimmer-misc", "Pong-misc", "FrozenLake-misc",
)  # fmt: skip
"""as of gymnax 1.0"""


def listed() -> dict[str, list[str]]:
    """Ids by source for `shoal list envs`; nothing where gymnax is not installed."""
    if importlib.util.find_spec("gymnax") is None:
        return {}
    return {"gymnax": [f"gymnax:{name}" for name in GYMNAX]}
