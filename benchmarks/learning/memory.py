# SPDX-License-Identifier: Apache-2.0
"""A chain that only memory solves: PPO and IMPALA with an LSTM and a GRU, and without memory, where they must fail.

The cue at the start of `toy:memory` has to be named eleven steps later, for 1 or -1: without memory no policy is worth
more than 0. Seeds, bands and what is kept are those of `benchmarks.learning.accept`.
"""

from benchmarks.learning.accept import Band, judge

ENV, STEPS = "toy:memory", 60_000
AT_LEAST = 0.9
CHANCE = 0.4
"""four deviations of the mean of 100 coin tosses of 1 and -1"""

BANDS = (
    Band("ppo", ENV, AT_LEAST, STEPS, network="lstm", learning_rate=1e-3),
    Band("ppo", ENV, AT_LEAST, STEPS, network="gru", learning_rate=1e-3),
    Band("impala", ENV, AT_LEAST, STEPS, network="lstm"),
    Band("impala", ENV, AT_LEAST, STEPS, network="gru"),
    Band("ppo", ENV, -1.0, STEPS, at_most=CHANCE, network="mlp", learning_rate=1e-3),
    Band("impala", ENV, -1.0, STEPS, at_most=CHANCE, network="mlp"),
)

if __name__ == "__main__":
    judge(BANDS, "learning_memory", "benchmarks.learning.memory", __doc__)
