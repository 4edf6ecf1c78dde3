# SPDX-License-Identifier: Apache-2.0
"""`python -m shoal` is the `shoal` command."""

from shoal.cli.main import console

if __name__ == "__main__":
    console()
