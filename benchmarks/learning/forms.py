# SPDX-License-Identifier: Apache-2.0
"""PPO with its presets on other forms: several entries, several choices, masked actions, and two bodies of MuJoCo.

Bodies are left out where the extra `mujoco` is not installed. Seeds, bands and what is kept are those of
`benchmarks.learning.accept`.
"""

import importlib.util

from benchmarks.learning.accept import Band, judge

TOYS = (
    Band("ppo", "toy:signpost", 7.0, 80_000),
    Band("ppo", "toy:dials", 3.8, 60_000),
    Band("ppo", "toy:gates", 7.5, 60_000),
)
"""their best returns are 8, 4 and 8; half of that, a third and half are worth no learning"""

BODIES = (Band("ppo", "HalfCheetah-v5", 500.0), Band("ppo", "Hopper-v5", 800.0))
"""untrained they return about -300 and 15"""

if __name__ == "__main__":
    with_bodies = importlib.util.find_spec("mujoco") is not None
    judge(TOYS + BODIES if with_bodies else TOYS, "learning_forms", "benchmarks.learning.forms", __doc__)
