# SPDX-License-Identifier: Apache-2.0
"""One algorithm for everybody: DQN with the same numbers of environments, samples, gradient steps and units.

Plain one-step DQN, since that is what all have. Imports nothing, so that every library's own Python can read it.
"""

NUM_ENVS = 8
UNROLL = 16
"""steps of each environment between two rounds of learning"""
BATCH = 128
REPLAY_RATIO = 16
GRADIENT_STEPS = REPLAY_RATIO * NUM_ENVS * UNROLL // BATCH
"""of a round"""
CAPACITY = 100_000
START = 1_000
TARGET_INTERVAL = 500
"""env steps"""
EPSILON_FINAL = 0.02
EPSILON_STEPS = 10_000
LEARNING_RATE = 1e-3
"""falls on a line to 0 over the run"""
ADAM_EPSILON = 1e-5
DISCOUNT = 0.99
MAX_GRAD_NORM = 10.0
HIDDEN = (64, 64)
"""tanh units"""

SHOAL_FLAGS = {
    "--envs-per-actor": NUM_ENVS,
    "--unroll-length": UNROLL,
    "--batch-size": BATCH,
    "--replay-ratio": REPLAY_RATIO,
    "--replay-capacity": CAPACITY,
    "--replay-start": START,
    "--target-interval": TARGET_INTERVAL,
    "--epsilon-final": EPSILON_FINAL,
    "--epsilon-steps": EPSILON_STEPS,
    "--learning-rate": LEARNING_RATE,
    "--discount": DISCOUNT,
    "--max-grad-norm": MAX_GRAD_NORM,
    "--n-step": 1,
    "--reward-scale": 1.0,
    "--no-double-q": None,
}


def described() -> dict:
    """All of it, for a result."""
    return {name.lower(): value for name, value in globals().items() if name.isupper() and name != "SHOAL_FLAGS"}
