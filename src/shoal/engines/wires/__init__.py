# SPDX-License-Identifier: Apache-2.0
"""Wires: what connects roles. Written once, for every kernel."""
