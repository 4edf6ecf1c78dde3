# SPDX-License-Identifier: Apache-2.0
"""The nodes of a cluster: an agent on each, conversations with them, and arrays that go from one to another.

    children ==slots==> attendant (agent) ==lasting conversation==> fleet, far children (main process) --> shadows, wires
                           |                                          |
                         shelf <============= arrays =============> shelf
    workers <========== shards of shared vectors (holders) ==========> nodes

Nothing here but `ray_*.py` knows of Ray, which says what nodes there are and starts an agent on each.
"""
