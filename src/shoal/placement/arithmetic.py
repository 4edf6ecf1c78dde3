# SPDX-License-Identifier: Apache-2.0
"""Floating-point operations of acting and of a gradient, counted by XLA: nothing is run, nothing is compiled.

the agent's functions, traced on shapes --> XLA's program before it is optimised --> its cost analysis
"""

from typing import Any

import jax
import numpy as np

from shoal.learners.single import learnable
from shoal.placement import workload as made
from shoal.placement.profile import Flops
from shoal.placement.workload import Workload

OBSERVATIONS = 64
"""acted on in the program that is counted"""
STEPS = 16
"""of an unroll in the gradient that is counted"""
WEIGHTS_READ = 2
"""times that a gradient reads the weights: forwards and backwards"""
BACKWARDS = 3.0
"""a gradient's operations over those of acting, where they cannot be counted: backwards takes twice forwards"""


def count_flops(workload: Workload) -> Flops:
    """Operations and bytes of memory for each observation acted on, and for each row of a gradient of the loss.

    XLA counts a loop's body once, so where memory is carried through time a gradient is taken for BACKWARDS times
    acting. Bytes are those of operations one by one; fused, it would be about half.

    Check: of a perceptron, acting takes two operations for every weight of its policy, and about one for every unit.
    """
    agent, config = workload.parts.agent, workload.config
    params = jax.ShapeDtypeStruct(workload.params.shape, np.float32)
    weights = 4 * workload.params.size
    memory = agent.memory(OBSERVATIONS)
    acting = counted(agent.policy, params, made.made_up_obs(workload.spec, OBSERVATIONS), memory)
    act, act_bytes = acting[0] / OBSERVATIONS, max(0.0, acting[1] - weights) / OBSERVATIONS
    if agent.recurrent:
        return Flops(act=act, act_bytes=act_bytes, gradient=BACKWARDS * act, gradient_bytes=BACKWARDS * act_bytes)
    envs = config.envs_per_actor
    batch = learnable(made.made_up_trajectory(workload, STEPS, envs))
    prepared = jax.eval_shape(agent.prepare, params, batch)
    gradient = counted(jax.grad(agent.loss, has_aux=True), params, prepared)
    rows = STEPS * envs
    return Flops(
        act=act,
        act_bytes=act_bytes,
        gradient=gradient[0] / rows,
        gradient_bytes=max(0.0, gradient[1] - WEIGHTS_READ * weights) / rows,
    )


def counted(fn: Any, *args: Any) -> tuple[float, float]:
    """(floating-point operations, bytes read and written) of fn, traced on the shapes of its arguments."""
    with jax.default_device(jax.devices("cpu")[0]):  # so that profiles of all machines say the same
        costs: Any = jax.jit(fn).lower(*args).cost_analysis()
    return float(costs["flops"]), float(costs["bytes accessed"])
