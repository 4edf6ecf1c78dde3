# SPDX-License-Identifier: Apache-2.0
"""Workers that are processes: wires stay in the main process, where a shadow of each worker does what its child asks.

    child: program --> handles, phases --> desk ==link==> shadow --> wires, ledger :main
                 arrays --> slots of shared memory ------> parcels --> whoever gets them

Only function names, plain records, numbers of slots and small messages go over the link. Arrays are written once, by
who made them, and read where they lie. A child that dies takes nothing with it: its shadow notices, names it, and
either starts it anew or fails the system.
"""
