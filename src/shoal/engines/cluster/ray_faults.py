# SPDX-License-Identifier: Apache-2.0
"""What Ray says, in one line of ours."""

from typing import Any

from shoal.engines.faults import Lost

KNOWN = (
    ("Version mismatch", "its versions differ from these here; install the same Ray and Python on all machines"),
    ("expects this IP address to be either", "this machine is none of its nodes; run `ray start --address=...` here"),
    ("authentication", "it asks for a token that this process has not got; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN "
     "or RAY_AUTH_TOKEN_PATH"),
    ("Unauthenticated", "it asks for another token than this process has; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"),
    ("Could not find any running Ray instance", "there is none on this machine; start one with `ray start`, or give "
     "the head's host:port"),
)  # fmt: skip
"""what to look for in Ray's errors, and what to say"""


class ClusterLost(Lost):
    """The cluster is gone under a run."""


def explained(error: BaseException) -> str:
    """An error of Ray's in one line."""
    text = " ".join(str(error).split())
    for sign, words in KNOWN:
        if sign.lower() in text.lower():
            return words
    return text[:300] or type(error).__name__


def missing(
    bundles: list[dict[str, float]], nodes: list[dict[str, Any]], what: str, free: dict[str, float] | None = None
) -> str | None:
    """What a cluster has not got of what bundles need, in one line; None where it has all of it.

    Args:
      what: what the bundles are for, in words.
      free: what of it nobody uses now; without, all of it.
    """
    have = free if free is not None else _total(nodes)
    want = _total([{"Resources": bundle} for bundle in bundles])
    short = {name: count for name, count in want.items() if have.get(name, 0.0) < count}
    too_large = [
        bundle for bundle in bundles[:1]
        if not any(all(n["Resources"].get(k, 0.0) >= v for k, v in bundle.items()) for n in nodes)
    ]  # fmt: skip
    if not short and not too_large:
        return None
    needs = ", ".join(f"{count:g} {name}" for name, count in want.items())
    has = ", ".join(f"{have.get(name, 0.0):g} {name}" for name in want)
    each = f"; no node has {', '.join(f'{v:g} {k}' for k, v in bundles[0].items())} by itself" if too_large else ""
    where = f"the cluster has {has}{' free' if free is not None else ''} on {len(nodes)} nodes{each}"
    return f"{what} need {needs}, {where}; add nodes, use fewer workers, or lower --actor-cpus"


def _total(nodes: list[dict[str, Any]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for node in nodes:
        for name, count in node["Resources"].items():
            total[name] = total.get(name, 0.0) + count
    return total
