# SPDX-License-Identifier: Apache-2.0
"""One virtual environment per peer, from benchmarks/peers/requirements/<peer>.txt into .peers/<peer>."""

import subprocess
import sys
from pathlib import Path

from benchmarks.record import ROOT

REQUIREMENTS = Path(__file__).parent / "requirements"
PEERS = ROOT / ".peers"


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


def main() -> None:
    """Install the peers named on the command line, or all."""
    for peer in sys.argv[1:] or sorted(path.stem for path in REQUIREMENTS.glob("*.txt")):
        print(f"{peer}: {install(peer).relative_to(ROOT)}")


if __name__ == "__main__":
    main()
