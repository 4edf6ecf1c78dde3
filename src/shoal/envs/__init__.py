# SPDX-License-Identifier: Apache-2.0
"""Environments: many sources behind one host interface, reset on the step after an episode ends.

Importing this package loads neither JAX, Gymnasium nor ale-py; resolving an id loads what that id needs.
"""

from shoal.envs.base import EnvFactory, VectorEnv
from shoal.envs.registry import list_envs, resolve

__all__ = ["EnvFactory", "VectorEnv", "list_envs", "resolve"]
