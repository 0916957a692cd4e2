"""Training processes that are forks of one that has imported everything, so that hundreds can be killed.

`multiprocessing` imports this module in its fork server; it is no test itself.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot  # noqa: F401
import torch._dynamo  # noqa: F401
import wandb  # noqa: F401  (what a run imports late is imported once for all)

import envs  # noqa: F401
from metarl.commands import train

EVENTS = ("open", "os.rename", "os.remove", "os.mkdir")
"""What Python reports before it changes a file."""


def run(arguments: list[str], output: Path, folder: Path, last_write: int | None = None) -> None:
    """`metarl train`, killed before its write number `last_write` in `folder`.

    Without a number the writes are counted; when the run has ended well, the last line of the output tells them.
    """
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for fd in (1, 2):
        os.dup2(file, fd)
    writes, place = 0, str(folder)

    def count(event: str, about: tuple[Any, ...]) -> None:
        nonlocal writes
        if event not in EVENTS or not str(about[0]).startswith(place):
            return
        if event == "open" and not about[2] & (os.O_WRONLY | os.O_RDWR):
            return
        if writes == last_write:
            os.kill(os.getpid(), signal.SIGKILL)
        writes += 1

    sys.addaudithook(count)
    train.main(arguments)
    print(f"writes {writes}", flush=True)
