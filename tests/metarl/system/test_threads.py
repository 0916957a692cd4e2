"""The threads that tasks are worked on, also in a process that was forked."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from metarl.system import threads
from metarl.system.threads import parallel_map, set_threads

ROOT = Path(__file__).parents[3]

FORKS = """
import os, signal
from metarl.system.threads import parallel_map, set_threads
set_threads(1)
assert parallel_map(abs, [-1, -2]) == [1, 2]
child = os.fork()
if not child:
    signal.alarm(20)  # what hangs is ended
    os._exit(0 if parallel_map(abs, [-3, -4, -5, -6]) == [3, 4, 5, 6] else 1)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status))
"""


@pytest.fixture
def _own_threads():
    yield
    set_threads(0)


@pytest.mark.skipif(not hasattr(threads.os, "fork"), reason="processes are not forked here")
def test_a_forked_process_has_threads_of_its_own():
    process = subprocess.run([sys.executable, "-c", FORKS], cwd=ROOT, capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "0"


@pytest.mark.usefixtures("_own_threads")
@pytest.mark.parametrize("count", [1, 3])
def test_so_many_threads_work_at_once(count):
    set_threads(count)
    together = threading.Barrier(count)
    assert parallel_map(lambda i: together.wait(timeout=20) >= 0 and i, range(6 * count)) == [*range(6 * count)]


def test_the_first_error_is_raised():
    with pytest.raises(ZeroDivisionError):
        parallel_map(lambda i: 1 / i, [1, 0])
