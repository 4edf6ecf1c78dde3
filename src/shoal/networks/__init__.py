# SPDX-License-Identifier: Apache-2.0
"""Parameterised functions from one observation to a policy head and a value.

A network is an Equinox module built as `Network(spec, key)` and called on ONE observation:
`network(obs [*shape]) -> (head [K], value [])`, K being the number of actions or of action dimensions.
Agents batch it with `vmap`. Your own class of that form works everywhere a built-in name does.
"""
