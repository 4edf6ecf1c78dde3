# SPDX-License-Identifier: Apache-2.0
"""One algorithm for everybody: PPO with the same numbers of environments, samples, gradient steps and units.

Imports nothing, so that every library's own Python can read it.
"""

NUM_ENVS = 8
UNROLL = 128
EPOCHS = 4
MINIBATCHES = 4
BATCH = NUM_ENVS * UNROLL
LEARNING_RATE = 2.5e-3
"""falls on a line to 0 over the run"""
DISCOUNT = 0.99
TRACE_DECAY = 0.95
CLIP = 0.2
ENTROPY_COST = 0.01
VALUE_COST = 0.5
"""weight of half the squared error"""
MAX_GRAD_NORM = 0.5
HIDDEN = (64, 64)
"""tanh units, policy and value apart"""
SOLVED = 475.0
"""mean return of the last 100 episodes"""

SHOAL_FLAGS = {
    "--envs-per-actor": NUM_ENVS,
    "--num-actors": 1,
    "--unroll-length": UNROLL,
    "--epochs": EPOCHS,
    "--minibatches": MINIBATCHES,
    "--learning-rate": LEARNING_RATE,
    "--discount": DISCOUNT,
    "--trace-decay": TRACE_DECAY,
    "--clip": CLIP,
    "--entropy-cost": ENTROPY_COST,
    "--value-cost": VALUE_COST,
    "--max-grad-norm": MAX_GRAD_NORM,
}


def use(num_envs: int) -> None:
    """Another number of environments, here and in the flags; batches grow with it."""
    global NUM_ENVS, BATCH  # the module is the record of settings
    NUM_ENVS = SHOAL_FLAGS["--envs-per-actor"] = num_envs
    BATCH = NUM_ENVS * UNROLL


def described() -> dict:
    """All of it, for a result."""
    return {name.lower(): value for name, value in globals().items() if name.isupper() and name != "SHOAL_FLAGS"}
