# SPDX-License-Identifier: Apache-2.0
"""The `shoal` command: one small module per command, imported only when that command is asked for."""
