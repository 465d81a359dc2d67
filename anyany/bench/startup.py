"""Time until a process is done with something small; most of it is imports."""

from __future__ import annotations

import subprocess
import sys

from anyany.bench.measure import Figure, quartiles, rounds_of


def plugins_list(rounds: int) -> Figure:
    """``anyany plugins list``, from start to exit."""
    program = "from anyany.cli.main import main; raise SystemExit(main(['plugins', 'list']))"
    return _against("plugins-list", "'anyany plugins list', the whole process", program, 0.3, rounds)


def bare_import(rounds: int) -> Figure:
    """``import anyany``, from start to exit."""
    return _against("import", "'python -c \"import anyany\"', the whole process", "import anyany", 0.1, rounds)


def _against(name: str, what: str, program: str, limit: float, rounds: int) -> Figure:
    command = [sys.executable, "-c", program]

    def process() -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    times = rounds_of((process,), rounds)
    return Figure(
        id=name,
        what=what,
        quartiles=quartiles([limit / spent for (spent,) in times]),
        peer=f"{limit:g} s",
        goal=1.0,
    )
