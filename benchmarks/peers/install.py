# SPDX-License-Identifier: Apache-2.0
"""Peers into .peers/<peer>: a virtual environment each, from benchmarks/peers/requirements/<peer>.txt, or a checkout of
scripts that are no package."""

import subprocess
import sys
from pathlib import Path

from benchmarks.record import ROOT

REQUIREMENTS = Path(__file__).parent / "requirements"
PEERS = ROOT / ".peers"
CHECKOUTS = {"purejaxrl": ("https://github.com/luchris429/purejaxrl", "31756b197773a52db763fdbe6d635e4b46522a73")}
"""repository and commit; needs git"""


def python_of(peer: str) -> Path | None:
    """The peer's own Python, or None where it is not installed."""
    path = PEERS / peer / "bin" / "python"
    return path if path.exists() else None


def install(peer: str) -> Path:
    """Make the peer's environment if it isn't there; its requirements are checked each time."""
    path = PEERS / peer / "bin" / "python"
    if not path.exists():
        subprocess.run([sys.executable, "-m", "venv", str(PEERS / peer)], check=True)
    subprocess.run([path, "-m", "pip", "install", "--quiet", "-r", str(REQUIREMENTS / f"{peer}.txt")], check=True)
    return path


def checkout(peer: str) -> Path:
    """Clone the peer's scripts if they aren't there."""
    path, (repository, commit) = PEERS / peer, CHECKOUTS[peer]
    if not path.exists():
        subprocess.run(["git", "clone", "--quiet", repository, str(path)], check=True)
        subprocess.run(["git", "-C", str(path), "checkout", "--quiet", commit], check=True)
    return path


def main() -> None:
    """Install the peers named on the command line, or all."""
    known = [*(path.stem for path in REQUIREMENTS.glob("*.txt")), *CHECKOUTS]
    for peer in sys.argv[1:] or sorted(known):
        print(f"{peer}: {(checkout if peer in CHECKOUTS else install)(peer).relative_to(ROOT)}")


if __name__ == "__main__":
    main()
