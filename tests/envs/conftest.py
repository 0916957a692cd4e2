"""MuJoCo writes its warnings to a file in the working directory: tests run in a temporary one."""

import pytest

import envs  # noqa: F401  (chooses how MuJoCo renders, before a test imports it)


@pytest.fixture(autouse=True)
def _in_a_temporary_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
