# SPDX-License-Identifier: Apache-2.0
"""Lock-step collecting: which params an unroll is made under is fixed, and everybody waits for everybody.

In step, every unroll is made under the params of the update just before it: lag is exactly 0. Ahead, actors unroll
while the learner updates on the unroll before: lag is exactly 1, and nobody waits but for who is slower. Params change
only between unrolls. Prefer the first for on-policy updates without correction, the second where collecting and
updating take about as long; the slowest actor sets the pace.
"""

from collections.abc import Callable
from contextlib import closing
from typing import Any, NoReturn

from shoal.actors.samplers import start
from shoal.engines import me, phase
from shoal.engines.wires.channel import Channel
from shoal.engines.wires.store import Store


def act_in_step(
    index: int, config: Any, parts: Any, params: Store, trajectories: Channel, begin: Callable = start
) -> NoReturn:
    """One actor's life: wait for the next version, unroll, hand over. `begin` makes the sampler."""
    with closing(phase("start", begin, index, config, parts, me().epoch)) as sampler:
        version = -1
        while True:
            acting, version = params.pull(at_least=version + 1)
            trajectories.put(sampler.unroll(acting, version, config.unroll_length), version)


def act_ahead(
    index: int, config: Any, parts: Any, params: Store, trajectories: Channel, begin: Callable = start
) -> NoReturn:
    """One actor's life: unroll under the version that is out, and hand over when the next one is.

    Unroll k is made under version max(0, k - 1) while the learner updates on unroll k - 1. That it is handed over only
    when version k is out keeps every batch to one unroll of each actor, so the order of arrival changes nothing.
    """
    with closing(phase("start", begin, index, config, parts, me().epoch)) as sampler:
        acting, version = params.pull()
        trajectories.put(sampler.unroll(acting, version, config.unroll_length), version)
        while True:
            collected = sampler.unroll(acting, version, config.unroll_length)
            made_under = version
            acting, version = params.pull(at_least=version + 1)
            trajectories.put(collected, made_under)
