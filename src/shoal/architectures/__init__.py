# SPDX-License-Identifier: Apache-2.0
"""One short file per system: its docstring draws the flow, Config holds the settings, run wires the roles."""
