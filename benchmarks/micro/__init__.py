# SPDX-License-Identifier: Apache-2.0
"""What the parts cost on their own: primitives of the engines, start-up, commands."""
