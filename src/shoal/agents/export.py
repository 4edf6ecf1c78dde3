# SPDX-License-Identifier: Apache-2.0
"""A trained policy as two files that need nothing but NumPy: policy.json says how to act, params.safetensors holds what
was learnt, running statistics of observations included. No code is stored, and none is run on loading."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as tensors

from shoal.agents.host_policy import Plan, acting_in_numpy
from shoal.agents.policy import Policy
from shoal.errors import CheckpointError
from shoal.records.files import replace_file, replace_json, unwritable
from shoal.trees import tree_map
from shoal.types import ActionSpec, ArraySpec, Box, Discrete, EnvSpec, MultiDiscrete, ObsSpec

POLICY, PARAMS = "policy.json", "params.safetensors"
FORMAT = 1


def export_policy(folder: Path | str, spec: EnvSpec, plan: dict[str, Any], params: np.ndarray) -> Path:
    """Write a policy that acts by `plan` with flat params [P]; gives the folder, which is made.

    Raises: CheckpointError where it cannot be written.

    Check: `load_policy` acts as the original at 1e-5, in a process without JAX.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise unwritable(folder, fault) from None
    replace_file(folder / PARAMS, tensors.save({"params": np.ascontiguousarray(params, np.float32)}))
    replace_json(folder / POLICY, {"format": FORMAT, "spec": spec_to_dict(spec), "plan": plan})
    return folder


def load_policy(folder: Path | str) -> Policy:
    """The policy that `export_policy` wrote; acts in NumPy, JAX is never imported.

    Raises: CheckpointError where files are missing, cut short, of a later format, or don't belong together.
    """
    folder = Path(folder)
    try:
        facts = json.loads((folder / POLICY).read_text())
        if facts["format"] != FORMAT:
            raise CheckpointError(f"{folder / POLICY} has format {facts['format']}, not {FORMAT}; use a newer shoal")
        spec, plan = spec_from_dict(facts["spec"]), Plan.from_dict(facts["plan"])
        params = tensors.load((folder / PARAMS).read_bytes())["params"]
        policy = Policy(spec, acting_in_numpy(plan, spec), params)
        policy.act(tree_map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), spec.obs))  # all of it fits together
    except (OSError, ValueError, LookupError, TypeError, AttributeError, SafetensorError) as fault:
        reason = " ".join(f"{type(fault).__name__}: {fault}".split())[:200]
        raise CheckpointError(f"{folder} holds no whole policy ({reason}); export it again") from fault
    return policy


def spec_to_dict(spec: EnvSpec) -> dict[str, Any]:
    """The spec in words and numbers.

    Check: `spec_from_dict` gives it back, also through JSON.
    """
    kinds = {Discrete: "discrete", MultiDiscrete: "multi_discrete", Box: "box"}
    bounds = {name: [_number(x) for x in value] for name, value in vars(spec.action).items() if name in ("low", "high")}
    return {
        "id": spec.id,
        "obs": _obs_to_dict(spec.obs),
        "action": {"kind": kinds[type(spec.action)], **_fields(spec.action), **bounds},
        "max_episode_steps": spec.max_episode_steps,
    }


def spec_from_dict(facts: dict[str, Any]) -> EnvSpec:
    """The spec that `spec_to_dict` described."""
    action = dict(facts["action"])
    kind = action.pop("kind")
    made: ActionSpec
    if kind == "discrete":
        made = Discrete(action["n"])
    elif kind == "multi_discrete":
        made = MultiDiscrete(tuple(action["sizes"]))
    else:
        low, high = (tuple(float(x) for x in action[name]) for name in ("low", "high"))
        made = Box(tuple(action["shape"]), low, high)
    return EnvSpec(facts["id"], _obs_from_dict(facts["obs"]), made, facts["max_episode_steps"])


def _fields(action: ActionSpec) -> dict[str, Any]:
    if isinstance(action, Discrete):
        return {"n": action.n}
    return {"sizes": list(action.sizes)} if isinstance(action, MultiDiscrete) else {"shape": list(action.shape)}


def _number(x: float) -> float | str:
    """JSON has no infinity: that is a word there."""
    return x if math.isfinite(x) else str(x)


def _obs_to_dict(obs: ObsSpec) -> dict[str, Any]:
    if isinstance(obs, ArraySpec):
        return {"shape": list(obs.shape), "dtype": obs.dtype}
    if isinstance(obs, dict):
        return {"entries": {name: _obs_to_dict(part) for name, part in obs.items()}}
    return {"parts": [_obs_to_dict(part) for part in obs]}


def _obs_from_dict(facts: dict[str, Any]) -> ObsSpec:
    if "shape" in facts:
        return ArraySpec(tuple(facts["shape"]), facts["dtype"])
    if "entries" in facts:
        return {name: _obs_from_dict(part) for name, part in facts["entries"].items()}
    return tuple(_obs_from_dict(part) for part in facts["parts"])
