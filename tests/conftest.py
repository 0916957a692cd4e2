"""For all tests."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

hypothesis.settings.register_profile("patient", deadline=None)  # a busy machine is no mistake
hypothesis.settings.load_profile("patient")


@pytest.fixture(autouse=True)
def _signals_as_before() -> Generator[None]:
    """A command that is interrupted ignores signals until its process ends, which here goes on."""
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, str], list[dict[str, Any]]]:
    """recorded(wandb_dir, kind): what W&B's own reader finds in an offline run; what a tracker sets is undone."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_RUN_ID", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)

    def recorded(wandb_dir: Path, kind: str) -> list[dict[str, Any]]:
        reader = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(wandb_dir)]
        lines = subprocess.run(reader, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
        return [record[kind] for record in map(json.loads, lines) if record["type"] == kind]

    return recorded
