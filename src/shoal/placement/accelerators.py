# SPDX-License-Identifier: Apache-2.0
"""Accelerators that nobody has at hand, modelled from published figures: seconds of acting and of an update. Needs no
JAX.

    seconds = launches + max(operations / (efficiency * peak), bytes / bandwidth) + host bytes / link

Every figure that comes out of here is a model's, and is called so wherever it is shown. `shoal advise` on a machine
with an accelerator measures the real ones.
"""

import difflib
from dataclasses import dataclass

from shoal.errors import ConfigError
from shoal.placement.profile import Flops

LAUNCH_S = 100e-6
"""of a compiled call or a gradient step, beside its arithmetic"""
EFFICIENCY = {"float32": 0.3, "TF32": 0.1}
"""share of the peak that networks of this size come to, by arithmetic"""
LINKS = {"PCIe 3": 11e9, "PCIe 4": 25e9, "PCIe 5": 50e9}
"""bytes a second from the host's memory, 16 lanes"""
SOURCES = {
    "peak, memory": "the vendor's data sheet; TF32 without sparsity, which JAX uses by default where a card has it "
    "(docs.jax.dev, Matmul precision)",
    "link": "PCIe 3: 11 GB/s from pinned memory, measured (forums.developer.nvidia.com/t/148400); assumptions: PCIe 4 "
    "25 GB/s, PCIe 5 twice that",
    "launch": "an assumption: 20 kernels at 5 us, the lower end of what is reported for XLA's (5 to 10); a small "
    "compiled JAX call took 129 us in jax-ml/jax#4128",
    "fused": "measured: XLA's programs for the CPU, before and after it fuses operations",
    "efficiency": "assumptions: float32 0.3, the low end of 0.3 to 0.75 measured on a P100 "
    "(epochai.org/blog/measure-FLOPs-empirically); TF32 0.1, since narrow layers fill tensor cores badly",
}
"""where the constants come from, for people"""
IN_SHORT = (
    "peak and memory by data sheet, PCIe 3 as measured, launch, efficiency and faster links assumed: docs/prediction.md"
)
FUSED = 0.5
"""share of the bytes that is left where XLA fuses operations: 0.45 to 0.61 in its programs for the CPU, acting and
gradients of a perceptron and of a convolutional network"""
STEP_TOUCHES = 10
"""times that a gradient step with Adam reads or writes every number of the params: weights forwards and backwards, the
gradient out and in, both moments and the weights in and out"""


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """What one is said to be able to do."""

    title: str
    arithmetic: str
    """in which JAX multiplies float32 matrices on it unless told otherwise: float32 or TF32"""
    peak: float
    """floating-point operations a second in that arithmetic"""
    memory_bytes: int
    bytes_per_s: float
    """of its memory"""
    link: str
    """to the host"""

    @property
    def link_bytes_per_s(self) -> float:
        """From the host's memory."""
        return LINKS[self.link]

    @property
    def efficiency(self) -> float:
        """Share of the peak that is come to."""
        return EFFICIENCY[self.arithmetic]

    @property
    def words(self) -> str:
        """All constants of the model, for people."""
        return (
            f"{self.title}: {self.peak / 1e12:g} TFLOP/s {self.arithmetic} x {self.efficiency:g}, "
            f"{self.memory_bytes / 1e9:g} GB at {self.bytes_per_s / 1e9:g} GB/s, link {self.link_bytes_per_s / 1e9:g} "
            f"GB/s, launch {LAUNCH_S * 1e6:g} us"
        )


ACCELERATORS = {
    "t4": Accelerator(
        title="NVIDIA T4",
        arithmetic="float32",
        peak=8.1e12,
        memory_bytes=16 * 10**9,
        bytes_per_s=320e9,
        link="PCIe 3",
    ),
    "v100": Accelerator(
        title="NVIDIA V100 PCIe",
        arithmetic="float32",
        peak=14e12,
        memory_bytes=16 * 10**9,
        bytes_per_s=900e9,
        link="PCIe 3",
    ),
    "a100": Accelerator(
        title="NVIDIA A100 40 GB",
        arithmetic="TF32",
        peak=156e12,
        memory_bytes=40 * 10**9,
        bytes_per_s=1555e9,
        link="PCIe 4",
    ),
    "h100": Accelerator(
        title="NVIDIA H100 SXM",
        arithmetic="TF32",
        peak=494.7e12,
        memory_bytes=80 * 10**9,
        bytes_per_s=3350e9,
        link="PCIe 5",
    ),
    "rtx4090": Accelerator(
        title="NVIDIA GeForce RTX 4090",
        arithmetic="TF32",
        peak=82.6e12,
        memory_bytes=24 * 10**9,
        bytes_per_s=1008e9,
        link="PCIe 4",
    ),
}


def require_accelerator(name: str, where: str) -> None:
    """Raises ConfigError in one line for a name that is not known, with the nearest that is."""
    if name not in ACCELERATORS:
        near = difflib.get_close_matches(name, ACCELERATORS, n=1)
        remedy = f"nearest: {near[0]}" if near else f"use {', '.join(ACCELERATORS)}"
        raise ConfigError(f"{where} has an unknown device {name!r}; {remedy}")


def call_s(facts: Accelerator, operations: float, moved: float, sent: float, launches: int = 1) -> float:
    """Seconds of `launches` calls that together take so many floating-point operations, read and write so many bytes of
    the accelerator's memory, and get so many bytes from the host before: launches * LAUNCH_S + max(operations /
    (efficiency * peak), moved / bandwidth) + sent / link.

    Check: with nothing to compute, move or send, the launches.
    """
    computing = max(operations / (facts.efficiency * facts.peak), moved / facts.bytes_per_s)
    return launches * LAUNCH_S + computing + sent / facts.link_bytes_per_s


def acting_s(facts: Accelerator, flops: Flops, params: int, obs_bytes: int, batch: int) -> float:
    """Seconds to act on a batch of observations that come from the host, `obs_bytes` each, with so many params.

    Check: of two batches beyond what a launch hides, the larger takes longer by its rows alone.
    """
    moved = 4 * params + FUSED * batch * flops.act_bytes
    return call_s(facts, batch * flops.act, moved, batch * obs_bytes)


def learning_s(
    facts: Accelerator, flops: Flops, params: int, row_bytes: int, *, rows: int, passes: int, steps: int
) -> float:
    """Seconds of an update that goes `passes` times through its rows, in `steps` gradient steps in all; rows come from
    the host once, `row_bytes` each.

    Check: twice the passes in twice the steps take twice as long, but for the transfer.
    """
    moved = steps * STEP_TOUCHES * 4 * params + FUSED * passes * rows * flops.gradient_bytes
    return call_s(facts, passes * rows * flops.gradient, moved, rows * row_bytes, steps)
