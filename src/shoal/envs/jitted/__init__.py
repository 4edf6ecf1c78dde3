# SPDX-License-Identifier: Apache-2.0
"""Environments written in JAX: the only JAX under `envs`, loaded when an id needs it."""
