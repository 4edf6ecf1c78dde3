# SPDX-License-Identifier: Apache-2.0
"""Whether agents learn, over several seeds: bands that must be reached, and what staleness costs."""
