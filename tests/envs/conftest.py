"""MuJoCo writes its warnings to a file in the working directory: tests run in a temporary one."""

import pytest


@pytest.fixture(autouse=True)
def _in_a_temporary_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
