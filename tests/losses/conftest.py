# SPDX-License-Identifier: Apache-2.0
"""Losses run with JAX's strictest arithmetic: nothing is broadcast to another rank or cast to another type unasked."""

import jax
import pytest


@pytest.fixture(autouse=True)
def strict_arithmetic():
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield
