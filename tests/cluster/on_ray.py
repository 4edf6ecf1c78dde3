# SPDX-License-Identifier: Apache-2.0
"""A program for a Ray cluster: small runs of architectures, and what came of them, a line of JSON for each.

python tests/cluster/on_ray.py ADDRESS ORDER ARCHITECTURE...
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))


def main(address: str, order: str, names: list[str]) -> None:
    """Run each on the cluster; in fixed order on processes as well, and with another seed."""
    from shoal.engines.cluster.options import ClusterOptions
    from shoal.engines.cluster.ray_nodes import RayCluster

    told: list[str] = []
    with RayCluster(ClusterOptions(address), told.append) as cluster:
        for name in names:
            tell({"name": name, **result(name, order, cluster)})
    tell({"notes": told})


def tell(found: dict) -> None:
    """A line."""
    sys.stdout.write(f"{json.dumps(found)}\n")
    sys.stdout.flush()


def result(name: str, order: str, cluster) -> dict:
    """What came of one architecture."""
    import numpy as np

    from architectures.small import config_of, parts_of, run_small
    from architectures.test_fingerprints import faults

    updates = 6 if order == "free" else 20
    parts = parts_of(name, config_of(name, updates))
    run = run_small(name, "ray", order=order, updates=updates, parts=parts, cluster=cluster)
    found = {
        "faults": faults(name, run.engine.rows()), "via": sorted({row["via"] for row in run.engine.rows()}),
        "places": run.engine.pids, "updates": len(run.states), "losses": run.engine.losses(),
    }  # fmt: skip
    if order == "fixed":
        processes = run_small(name, "processes", order=order, updates=updates, parts=parts)
        other = parts._replace(seed=parts.seed + 1)
        other_seed = run_small(name, "ray", order=order, updates=updates, parts=other, cluster=cluster)
        found["same_as_processes"] = bool(np.array_equal(run.params, processes.params))
        found["same_with_another_seed"] = bool(np.array_equal(run.params, other_seed.params))
    return found


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
