# SPDX-License-Identifier: Apache-2.0
"""Losing a node at the moment at which something lies on it that nobody can fetch any more."""

import gc
import threading
import time

from cluster.proxy import Weather
from clusters import LocalCluster
from shoal.engines.remote.far import FarParcel


def handed_over(engine, name: str) -> int:
    """Messages from workers of a node so far."""
    shadows = [worker.shadow for worker in list(engine._workers)]
    return sum(s.handed_over for s in shadows if s is not None and s.child.node.name == name)


def lies_at(name: str) -> bool:
    """Whether anything in this process stands for an item that lies on a node."""
    return any(type(one) is FarParcel and one._node.name == name for one in gc.get_objects())


def await_more(engine, name: str, before: int, least: int) -> None:
    """Until workers of a node have handed over so much more, or nothing for a while though something lies there: then
    they wait for what cannot come."""
    found, since = before, time.monotonic()
    while found - before < least and (time.monotonic() - since < 3.0 or not lies_at(name)):
        time.sleep(0.01)
        if (now := handed_over(engine, name)) > found:
            found, since = now, time.monotonic()


def lose_later(cluster: LocalCluster, weather: Weather, engine, name: str, least: int) -> None:
    """Cut the way to what lies on a node; lose the node once something has come to lie there that nobody can fetch."""
    weather.freeze(600)
    before = handed_over(engine, name)

    def lose() -> None:
        await_more(engine, name, before, least)
        cluster.lose(name)

    threading.Thread(target=lose, daemon=True).start()
