# SPDX-License-Identifier: Apache-2.0
"""Environment and policy to trajectories: what the actor role does, in lock-step or freely."""
