# SPDX-License-Identifier: Apache-2.0
"""Environments written in JAX, with their presets: gymnax's CartPole and a game of MinAtar. Needs the extra `gymnax`.

Seeds, bands and what is kept are those of `benchmarks.learning.accept`.
"""

from benchmarks.learning.accept import Band, judge

BANDS = (
    Band("a2c", "gymnax:CartPole-v1", 450.0),
    Band("ppo", "gymnax:CartPole-v1", 450.0),
    Band("impala", "gymnax:CartPole-v1", 450.0),
    Band("ppo", "gymnax:Breakout-MinAtar", 8.0, 2_000_000),
)
"""untrained they return about 20 and 0.5"""

if __name__ == "__main__":
    judge(BANDS, "learning_on_device", "benchmarks.learning.on_device", __doc__)
