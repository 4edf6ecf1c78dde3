# SPDX-License-Identifier: Apache-2.0
"""What a run leaves behind: its folder, metrics, flow, checkpoints, and the view of it while it runs.

In: rows, ledgers and arrays from a running architecture. Out: files that other commands read back.
No clocks here: elapsed seconds arrive as arguments. Import from the modules; nothing is loaded by this package itself.
"""
