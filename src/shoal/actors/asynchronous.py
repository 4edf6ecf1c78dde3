# SPDX-License-Identifier: Apache-2.0
"""Free collecting: take whatever params are newest, unroll, hand over, never wait for the learner.

In: any version of params. Out: trajectories some versions old, which the learner must correct for. Prefer it where
environments are slow or uneven; the queue's length bounds how stale data gets.
"""

from contextlib import closing
from typing import Any, NoReturn

from shoal.actors.samplers import start
from shoal.engines import me, phase
from shoal.engines.wires.channel import Channel
from shoal.engines.wires.store import Store


def act_freely(index: int, config: Any, parts: Any, params: Store, trajectories: Channel) -> NoReturn:
    """One actor's life. `config.forced_lag` holds the params back by that many versions, for studies of staleness."""
    with closing(phase("start", start, index, config, parts, me().epoch)) as sampler:
        while True:
            acting, version = params.pull(behind=config.forced_lag)
            trajectories.put(sampler.unroll(acting, version, config.unroll_length), version)
