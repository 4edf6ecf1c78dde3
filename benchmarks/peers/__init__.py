# SPDX-License-Identifier: Apache-2.0
"""shoal beside other libraries: each in its own environment, as separate processes, by turns."""
