# SPDX-License-Identifier: Apache-2.0
"""Do the presets learn the same when actors are processes? The same bands and seeds, two actors that share the
preset's environments.
"""

from benchmarks.learning.accept import Band, judge

MODULE = "benchmarks.learning.processes"
BANDS = tuple(
    Band(architecture, "CartPole-v1", 450.0, engine="processes", actors=2) for architecture in ("a2c", "ppo", "impala")
)


if __name__ == "__main__":
    judge(BANDS, "learning_processes", MODULE, __doc__)
