"""Phases within phases."""

import time

import pytest

from metarl.system import timing
from metarl.system.timing import Stopwatch


def test_a_phase_within_another_counts_for_itself_alone(monkeypatch):
    clock = iter([0.0, 1.0, 4.0, 5.0, 7.0, 10.0])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    stopwatch = Stopwatch()
    with stopwatch("adaptation"):  # from 0 to 10
        with stopwatch("sampling"):  # from 1 to 4
            pass
        with stopwatch("advantages"):  # from 5 to 7
            pass
    assert stopwatch.metrics() == {"sampling_s": 3.0, "advantages_s": 2.0, "adaptation_s": 5.0}


def test_phases_add_up_also_after_an_error():
    stopwatch, began = Stopwatch(), time.perf_counter()
    with pytest.raises(ValueError, match="no"), stopwatch("outer"), stopwatch("inner"):
        raise ValueError("no")
    with stopwatch("outer"):
        pass
    assert 0 < sum(stopwatch.seconds.values()) <= time.perf_counter() - began
