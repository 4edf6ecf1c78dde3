# SPDX-License-Identifier: Apache-2.0
"""`shoal describe ARCH`."""

import dataclasses
from collections.abc import Sequence

from shoal.architectures import registry
from shoal.cli.parsing import parse_command
from shoal.errors import ConfigError

USAGE = """usage: shoal describe ARCH [fields]

Draw an architecture's data flow, then run it for a moment in simulated time and list what crossed between its roles.

architectures: {names}
"""


def run(argv: Sequence[str]) -> int:
    """Print the drawing, the architecture's promises, and the ledger of a short trial."""
    if not argv:
        raise ConfigError(f"shoal describe needs an architecture: {', '.join(registry.ARCHITECTURES)}")
    if argv[0] in ("-h", "--help"):
        print(USAGE.format(names=", ".join(registry.ARCHITECTURES)), end="")
        return 0
    module = registry.load(argv[0])
    config = parse_command(module.Config, argv[1:], f"shoal describe {argv[0]}")
    print((module.__doc__ or "").strip())
    if hasattr(module, "flow"):  # drawn by setting
        print(f"\n{module.flow(config).__doc__.strip()}")
    must, never = registry.promises(module, config)
    print(f"\nmust cross:       {', '.join(must)}")
    print(f"must never cross: {', '.join(never)}")

    from shoal.placement.flow import flow_of

    rows = flow_of(argv[0], **dataclasses.asdict(config))
    print("\nCrossed in a short trial in simulated time:")
    print(f"  {'wire':<34}{'messages':>9}{'bytes each':>12}{'lag mean':>10}{'lag max':>9}")
    for row in rows:
        wire = f"{row['message']} {row['source']}>{row['target']}"
        size = row["bytes"] / max(row["count"], 1)
        print(f"  {wire:<34}{row['count']:>9,}{size:>12,.0f}{row['lag_mean'] or 0:>10.2f}{row['lag_max'] or 0:>9}")
    return 0
