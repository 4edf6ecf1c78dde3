# SPDX-License-Identifier: Apache-2.0
"""The nodes of a cluster: an agent on each, conversations with them, and arrays that go from one to another.

    children ==slots==> attendant ==== conversation ====> far children ----> shadows, wires
                           |        (frames, lasting)        fleet                :main process
                         shelf <======== arrays =========> shelf
    workers <========= shards of shared vectors ========> holders

Nothing here but `ray_*.py` knows of Ray, which says what nodes there are and starts an agent on each.
"""
