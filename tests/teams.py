"""Teams of processes: by the launcher, or forked from one that has made the imports, before any threads."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

from precompute.team import Team, team

ROOT = Path(__file__).parents[1]


def _fork(size: int, rank: int, port: int, work: Callable[[Team], None]) -> int:
    child = os.fork()
    if not child:
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
        os.environ |= {name: str(value) for name, value in names.items()}
        try:
            work(team())
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


def run_teams(sizes: Iterable[int], work: Callable[[Team], None]) -> None:
    """Lets teams of these sizes work, one after the other. Raises RuntimeError if one of them failed."""
    for size in sizes:
        with socket.socket() as s:
            s.bind(("localhost", 0))
            port = s.getsockname()[1]
        children = [_fork(size, rank, port, work) for rank in range(size)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        if any(codes):
            raise RuntimeError(f"a team of {size} failed: {codes}")


def begin(script: Path, n: int, *arguments) -> subprocess.Popen:
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node", str(n)]
    command = [sys.executable, "-m", *launcher, str(script)]
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*command, *map(str, arguments)], env=env, cwd=ROOT)


def run_program(text: str, place: Path) -> None:
    """A script that forks teams, `place` its argument."""
    env = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", text, place], env=env, cwd=ROOT, check=True, timeout=120)
