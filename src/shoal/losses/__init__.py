# SPDX-License-Identifier: Apache-2.0
"""Pure functions from trajectories to numbers: returns, losses, and the policies they are taken of."""

from shoal.losses.distributions import Categorical, DiagGaussian, MultiCategorical, only_legal
from shoal.losses.policy_gradient import (
    Surrogate,
    clipped_surrogate,
    entropy_loss,
    explained_variance,
    kl_from_log_ratio,
    normalise,
    policy_gradient_loss,
    reduce,
    value_loss,
)
from shoal.losses.returns import (
    Advantage,
    Discounts,
    VTrace,
    discounts,
    gae,
    lambda_returns,
    n_step_returns,
    vtrace,
)

__all__ = [
    "Advantage",
    "Categorical",
    "DiagGaussian",
    "Discounts",
    "MultiCategorical",
    "Surrogate",
    "VTrace",
    "clipped_surrogate",
    "discounts",
    "entropy_loss",
    "explained_variance",
    "gae",
    "kl_from_log_ratio",
    "lambda_returns",
    "n_step_returns",
    "normalise",
    "only_legal",
    "policy_gradient_loss",
    "reduce",
    "value_loss",
    "vtrace",
]
