# SPDX-License-Identifier: Apache-2.0
"""What runs in a worker of the parallel sampler: its share of the environments, and the policy that acts in them.

    owner --params, buffer, go--> worker: rollout over its share --rows--> the buffer that all share
       ^--------------all written--------------|

A rollout like any other, whose rows lie in shared memory.
"""

from typing import Any

import numpy as np

from shoal.actors.rollout import Columns, Rollout, Rows
from shoal.actors.samplers import at_rest, rollout_over
from shoal.actors.samplers.buffers import arrays_over, share_of, unroll_forms
from shoal.envs.pool.worker import encode
from shoal.processes import codec, status
from shoal.processes.link import Hangup, Link
from shoal.processes.memory import Segment
from shoal.trees import write_at
from shoal.types import Array, PyTree

ENTRY = f"{__name__}:main"


class SharedRollout(Rollout):
    """A rollout that shows its owner with every step that it is not stuck."""

    def _step(self, rows: Rows, t: int, action: Array) -> PyTree:
        page = status.mine
        if page is None:
            return super()._step(rows, t, action)
        page.begin("env_step")
        obs = super()._step(rows, t, action)
        page.end()
        return obs


class Hands:
    """The serving side of a share."""

    def __init__(self, link: Link, rollout: Rollout, slots: slice, envs_in_buffer: int):
        self._link, self._rollout, self._slots, self._envs = link, rollout, slots, envs_in_buffer
        self._buffers: dict[int, Segment] = {}
        self._params: np.ndarray | None = None

    def serve(self) -> None:
        """Unroll whenever told to, until the owner says that it is enough."""
        while True:
            message = self._link.receive()
            if "go" not in message.header:
                return
            self._unroll(message.header, message.descriptors)

    def _unroll(self, header: dict[str, Any], descriptors: list[int]) -> None:
        fresh = iter(descriptors)
        if header["params"]:
            self._params = Segment(next(fresh), 4 * header["params"]).array((header["params"],), np.float32)
        if header["size"]:
            self._buffers[header["go"]] = Segment(next(fresh), header["size"])
        self._buffers = {number: self._buffers[number] for number in header["keep"] if number in self._buffers}
        segment, rollout = self._buffers[header["go"]], self._rollout
        forms = unroll_forms(
            rollout.env.spec, rollout.initial_memory, header["length"], self._envs,
            discounted=rollout.assembler.returns is not None,
        )  # fmt: skip
        mine = share_of(arrays_over(segment.array((segment.size,), np.uint8), forms), self._slots)
        made = rollout.unroll(
            self._params, header["version"], header["length"], into=Columns(*mine[: len(Columns._fields)])
        )
        for name in ("log_prob", "memory", "episode_return", "episode_length", "discounted_return"):
            write_at(getattr(mine, name), ..., getattr(made, name))
        self._link.send({"written": header["go"]})


def main(link: Link, header: dict[str, Any], descriptors: list[int], _server: Link) -> None:
    """The entry of every worker. A fault goes back over the link."""
    page = status.adopt(descriptors[0])
    page.begin("launch")
    recipe = link.receive()
    rollout: Rollout | None = None
    try:
        memory = np.frombuffer(bytearray(recipe.data), np.uint8)
        form = recipe.header["form"]
        config, parts = codec.unpack(form, codec.read(form, memory), calls=True)
        slots = slice(*header["slots"])
        first = header["first_index"] + slots.start
        env = at_rest(config, parts.make_env(slots.stop - slots.start, first))
        made = rollout = rollout_over(env, config, parts.agent, header["seed"], first, SharedRollout)
        page.end()
        link.send({"made": True})
        Hands(link, made, slots, header["envs"]).serve()
    except Hangup:
        raise
    except BaseException as error:  # noqa: BLE001 told to the owner, which raises it
        link.send({"error": encode(error)})
    finally:
        if rollout is not None:
            rollout.close()
