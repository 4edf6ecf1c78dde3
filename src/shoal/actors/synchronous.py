# SPDX-License-Identifier: Apache-2.0
"""Lock-step collecting: every unroll is made under the params of the update just before it, so lag is exactly 0.

In: params of version k. Out: one trajectory of version k. Prefer it for on-policy updates without correction; the
slowest actor sets the pace.
"""

from contextlib import closing
from typing import Any, NoReturn

from shoal.actors.rollout import start
from shoal.engines import me, phase
from shoal.engines.wires.channel import Channel
from shoal.engines.wires.store import Store


def act_in_step(index: int, config: Any, parts: Any, params: Store, trajectories: Channel) -> NoReturn:
    """One actor's life: wait for the next version, unroll, hand over."""
    with closing(phase("start", start, index, config, parts, me().epoch)) as rollout:
        version = -1
        while True:
            acting, version = params.pull(at_least=version + 1)
            trajectories.put(rollout.unroll(acting, version, config.unroll_length), version)
