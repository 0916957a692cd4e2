"""Files are written whole or not at all; what is read as JSON, and what is refused in one line."""

import json
import math
import subprocess
import sys

import pytest

from metarl.system.files import draft_of, parse_json, remove_drafts, write_atomically


def test_plain_json_is_read_as_json_reads_it():
    data = {"a": [1, -2.5, 1e300, None, True, "é"], "b": {"c": 10**300, "d": 2**80}}
    assert parse_json(json.dumps(data)) == parse_json(json.dumps(data).encode()) == data


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "Expecting value"),
        (b"\xff", "utf-8"),
        ("[" * 10_000 + "]" * 10_000, "nested too deeply"),
        ('{"a":' * 10_000 + "1" + "}" * 10_000, "nested too deeply"),
        ("1" + "0" * 400, "1000.*… is no finite number"),
        ("1" + "0" * 5000, "1000.*… is no finite number"),
        ("1e999", "1e999 is no finite number"),
        ("[Infinity]", "Infinity is no finite number"),
        ("-Infinity", "-Infinity is no finite number"),
        ("NaN", "NaN is no finite number"),
    ],
)
def test_everything_else_is_a_value_error_of_one_line(content, reason):
    with pytest.raises(ValueError, match=reason) as refused:
        parse_json(content)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 200


def test_numbers_that_were_read_are_finite():
    assert math.isfinite(float(parse_json("9" * 308)))


def test_what_does_not_fit_on_the_disk_is_added_not_at_all(tmp_path):
    """A file may have 100 bytes at first, of which the second line would take more."""
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from metarl.system.files import append_whole\n"
        "path = Path(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, -1))\n"
        "append_whole(path, b'a' * 60 + b'\\n')\n"
        "try:\n"
        "    append_whole(path, b'b' * 60 + b'\\n')\n"
        "except OSError as error:\n"
        "    print(error)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))\n"
        "append_whole(path, b'c' * 60 + b'\\n')\n"
    )
    path = tmp_path / "rows"
    result = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert "File too large" in result.stdout
    assert path.read_text() == "a" * 60 + "\n" + "c" * 60 + "\n"


def test_folders_that_are_gone_are_not_made_again(tmp_path):
    with pytest.raises(FileNotFoundError, match="cannot write this file"):
        write_atomically(tmp_path / "gone" / "a", b"", make_folders=False)
    assert not list(tmp_path.iterdir())


def test_drafts_of_processes_that_are_no_more_are_removed(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / "videos").mkdir()
    left = [tmp_path / f".checkpoint.pt.{ended.pid}.tmp", tmp_path / "videos" / f".task-00.{ended.pid}.mp4"]
    kept = [draft_of(tmp_path / "best.pt"), tmp_path / ".notes.tmp", tmp_path / f"a.{ended.pid}.tmp"]
    for path in (*left, *kept):
        path.write_bytes(b"")
    remove_drafts(tmp_path)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)
