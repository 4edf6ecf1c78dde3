# SPDX-License-Identifier: Apache-2.0
"""From trajectories to new params: what the learner role computes, on one device."""
