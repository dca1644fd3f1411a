"""A process that has made its imports and forks one child after another, for tests that kill many."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

LOOP = """
import json, os, sys
while line := sys.stdin.readline():
    child = os.fork()
    if not child:
        work(*json.loads(line))
        os._exit(0)
    print("began", child, flush=True)
    sys.stdin.readline()  # until then the child's number is nobody else's, even if it has ended
    print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Forks:
    """Its children run `work(*arguments)`, which `program` defines."""

    def __init__(self, program: str):
        self.process = subprocess.Popen(
            [sys.executable, "-c", program + LOOP],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def begin(self, *arguments: str) -> int:
        """The child's process number, once it has begun."""
        print(json.dumps(arguments), file=self.process.stdin, flush=True)
        self.printed = []
        return int(self.line("began"))

    def end(self) -> tuple[int, list[str]]:
        """The child's exit code, the signal's number negative, and the lines that it printed."""
        print(file=self.process.stdin, flush=True)
        return int(self.line("ended")), self.printed

    def line(self, word: str) -> str:
        while not (line := self.process.stdout.readline().strip()).startswith(word):
            assert line, "the process has ended"
            self.printed.append(line)
        return line.removeprefix(word)

    def __enter__(self) -> Forks:
        return self

    def __exit__(self, *_) -> None:
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()
