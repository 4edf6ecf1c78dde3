# SPDX-License-Identifier: Apache-2.0
"""All ways to collect, by name, and trajectories collected in one of them."""

import jax
import numpy as np

from shoal import envs
from shoal.actors.samplers import start
from shoal.architectures import a2c
from shoal.architectures.assemble import environment_for, make_parts

SEED = 5
LENGTHS = (7, 16)
"""two unrolls; episodes of toy:catch take 9 steps"""
WAYS = {
    "serial": {"sampler": "serial"},
    "parallel": {"sampler": "parallel", "env_workers": 2},
    "parallel, one worker": {"sampler": "parallel", "env_workers": 1},
    "parallel, uneven": {"sampler": "parallel", "env_workers": 3},
    "central": {"sampler": "central", "env_workers": 2},
    "central by size": {"sampler": "central", "env_workers": 2, "inference_batch": 1},
    "central by deadline": {"sampler": "central", "env_workers": 2, "inference_deadline_s": 1e-6},
    "alternating": {"sampler": "alternating", "env_workers": 2},
    "alternating, not overlapping": {"sampler": "alternating", "env_workers": 1, "alternate_overlap": False},
    "async": {"sampler": "async"},
    "async over workers": {"sampler": "async", "env_workers": 2, "inference_batch": 3},
}
WHOLE = ("serial", "parallel, one worker", "central", "async")
"""these act in all environments at once"""


def config_of(**fields):
    return a2c.Config(**{"envs_per_actor": 4, "num_actors": 2, "seed": SEED, **fields})


def parts_of(config, env="toy:catch", network="auto", **kwargs):
    return make_parts(a2c, config, environment_for(config, envs.resolve(env, kwargs)), network)


def collect(config, parts, lengths=LENGTHS, params_seed=0, index=1, epoch=0):
    """Trajectories of one actor under frozen params."""
    params = np.asarray(parts.learner.init(params_seed).params)
    sampler = start(index, config, parts, epoch)
    try:
        return [sampler.unroll(params, version, length) for version, length in enumerate(lengths)]
    finally:
        sampler.close()


def assert_equal(one, other, *, rounded=False):
    """Field by field; `rounded` allows what two sizes of a matrix product differ in."""
    for name, a, b in zip(one._fields, one, other, strict=True):
        same = np.testing.assert_array_equal
        if rounded and name in ("log_prob", "memory"):
            same = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)  # noqa: E731
        jax.tree.map(same, a, b)


def assert_all_equal(some, others, *, rounded=False):
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        assert_equal(one, other, rounded=rounded)
