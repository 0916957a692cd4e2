"""Checkpoints come back as they were, survive a failed write, and never run code."""

import contextlib
import os
import pickle
import re
import struct
import subprocess
import sys
import zipfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metarl.errors import UserError
from metarl.runs import checkpoints

SCALARS = st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False) | st.text()
KEYS = st.text() | st.integers(0, 1000)
PLAIN = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.lists(inner, max_size=4).map(tuple) | st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=12,
)


class Bomb:
    """A pickle of it creates a file when it is unpickled without care."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "last.pt"


@given(state=st.dictionaries(st.text(), PLAIN, max_size=4))
@settings(max_examples=60, deadline=None)
def test_plain_data_comes_back_with_its_types(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("state") / "last.pt"
    checkpoints.save(path, state)
    assert repr(checkpoints.load(path)) == repr(state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool])
def test_tensors_come_back_bit_for_bit(path, dtype):
    tensor = torch.arange(12).reshape(3, 4).to(dtype)
    checkpoints.save(path, {"theta": {"w": tensor, "empty": torch.empty(0, 3)}})
    back = checkpoints.load(path)["theta"]
    assert back["w"].dtype == dtype
    assert torch.equal(back["w"], tensor)
    assert back["empty"].shape == (0, 3)


def test_a_stored_tensor_is_a_value(path):
    flat = torch.zeros(1_000_000, requires_grad=True)
    checkpoints.save(path, {"slice": flat[:3]})
    assert path.stat().st_size < 10_000
    assert not checkpoints.load(path)["slice"].requires_grad


def test_the_state_of_an_optimizer_is_plain(path):
    parameter = torch.nn.Parameter(torch.ones(3))
    adam = torch.optim.Adam([parameter])
    parameter.sum().backward()
    adam.step()
    checkpoints.save(path, {"adam": adam.state_dict()})
    fresh = torch.optim.Adam([parameter])
    fresh.load_state_dict(checkpoints.load(path)["adam"])
    assert torch.equal(fresh.state_dict()["state"][0]["exp_avg"], adam.state_dict()["state"][0]["exp_avg"])


@pytest.mark.parametrize(
    ("state", "where"),
    [
        ({"a": {"b": [1, {2}]}}, "state['a']['b'][1] is a set"),
        ({"a": torch.zeros(1).numpy()}, "state['a'] is a ndarray"),
        ({"a": torch.zeros(1).numpy()[0]}, "state['a'] is a float32"),
        ({"a": {(1, 2): 3}}, "state['a'] has the key (1, 2)"),
    ],
)
def test_what_could_not_be_read_back_is_refused_by_name(path, state, where):
    with pytest.raises(TypeError, match=re.escape(where)):
        checkpoints.save(path, state)
    assert not path.exists()


@pytest.mark.parametrize("number", [10**620, 2**63, -(2**63) - 1])
def test_an_integer_beyond_64_bits_is_refused_by_name(path, number):
    with pytest.raises(ValueError, match=r"state\['a'\]\[0\] is an integer of \d+ bits; a checkpoint holds at most 64"):
        checkpoints.save(path, {"a": [number]})
    assert not path.exists()
    checkpoints.save(path, {"most": 2**63 - 1, "least": -(2**63)})
    assert checkpoints.load(path) == {"most": 2**63 - 1, "least": -(2**63)}


def test_missing_folders_are_made_and_nothing_else_is_left(tmp_path):
    checkpoints.save(tmp_path / "a" / "b" / "last.pt", {})
    assert [p.name for p in (tmp_path / "a" / "b").iterdir()] == ["last.pt"]


def test_a_full_disk_leaves_the_old_checkpoint(path):
    checkpoints.save(path, {"iteration": 1})
    script = (
        "import resource, sys, torch\n"
        "from metarl.runs import checkpoints\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "try:\n"
        "    checkpoints.save(sys.argv[1], {'iteration': 2, 'theta': torch.zeros(10_000)})\n"
        "except OSError as error:\n"
        "    print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert "cannot write this file" in result.stdout
    assert str(path) in result.stdout
    assert checkpoints.load(path) == {"iteration": 1}
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("blocked", ["folder in its place", "file in place of its folder"])
def test_a_path_that_cannot_be_written_is_named(tmp_path, blocked):
    if blocked == "folder in its place":
        path = tmp_path / "last.pt"
        path.mkdir()
    else:
        (tmp_path / "run").write_text("a file")
        path = tmp_path / "run" / "last.pt"
    with pytest.raises(OSError, match=re.escape(str(path))):
        checkpoints.save(path, {})
    assert len(list(tmp_path.iterdir())) == 1


def test_an_interrupted_write_leaves_the_old_checkpoint(path, monkeypatch):
    checkpoints.save(path, {"iteration": 1})

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(path, {"iteration": 2})
    assert checkpoints.load(path) == {"iteration": 1}
    assert list(path.parent.iterdir()) == [path]


def test_a_missing_checkpoint_is_told_with_its_neighbours(path):
    checkpoints.save(path, {})
    with pytest.raises(UserError, match=r"there is no checkpoint .*lst.pt. Did you mean 'last.pt'\?"):
        checkpoints.load(path.with_name("lst.pt"))
    with pytest.raises(UserError, match="the folder .* does not exist"):
        checkpoints.load(path.parent / "nowhere" / "last.pt")
    with pytest.raises(UserError, match=r"is a folder, not a checkpoint. There are: last.pt."):
        checkpoints.load(path.parent)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02.", os.urandom(4000)])
def test_foreign_bytes_are_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(UserError, match="cut off or was never a checkpoint"):
        checkpoints.load(path)


def test_no_part_of_a_checkpoint_passes_for_the_whole(path):
    checkpoints.save(path, {"theta": torch.arange(50.0)})
    content = path.read_bytes()
    for size in range(0, len(content), 37):
        path.write_bytes(content[:size])
        with pytest.raises(UserError, match=re.escape(str(path))):
            checkpoints.load(path)


def test_a_flipped_bit_in_a_tensor_is_found(path):
    theta = torch.full((100,), 1.5)
    checkpoints.save(path, {"theta": theta})
    content = bytearray(path.read_bytes())
    content[content.index(theta.numpy().tobytes()) + 40] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        checkpoints.load(path)


@settings(max_examples=100, deadline=None)
@given(place=st.integers(0, 10**6), value=st.integers(0, 255))
def test_a_changed_byte_never_leads_to_another_error(place, value, tmp_path_factory):
    path = tmp_path_factory.mktemp("byte") / "last.pt"
    checkpoints.save(path, {"theta": torch.arange(4.0), "iteration": 3})
    content = bytearray(path.read_bytes())
    content[place % len(content)] = value
    path.write_bytes(content)
    with contextlib.suppress(UserError):
        assert checkpoints.load(path)["iteration"] == 3


def test_a_bare_pickle_is_never_run(path):
    path.write_bytes(pickle.dumps(Bomb(path.parent / "harm")))
    with pytest.raises(UserError, match="never a checkpoint"):
        checkpoints.load(path)
    assert not (path.parent / "harm").exists()


@pytest.mark.parametrize("place", ["whole", "state", "key"])
def test_code_inside_a_torch_file_is_never_run(path, place):
    bomb = Bomb(path.parent / "harm")
    marked = {"format": checkpoints.FORMAT, "version": checkpoints.VERSION}
    torch.save({"whole": bomb, "state": marked | {"state": bomb}, "key": marked | {"k": [bomb]}}[place], path)
    with pytest.raises(UserError, match="none of it was run"):
        checkpoints.load(path)
    assert not (path.parent / "harm").exists()
    torch.load(path, weights_only=False)
    assert (path.parent / "harm").exists(), "the bomb of this test is a dud"


@pytest.mark.parametrize("content", [{"w": torch.zeros(2)}, [1, 2], torch.zeros(3), {"format": "other"}])
def test_a_torch_file_of_another_program_is_refused(path, content):
    torch.save(content, path)
    with pytest.raises(UserError, match="of another program"):
        checkpoints.load(path)


def test_a_zip_archive_that_is_no_torch_file_is_refused(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("letter.txt", "hello")
    with pytest.raises(UserError, match=re.escape(str(path))):
        checkpoints.load(path)


def test_a_newer_version_asks_for_an_update(path):
    torch.save({"format": checkpoints.FORMAT, "version": 2, "state": {}}, path)
    with pytest.raises(UserError, match="version 2; this metarl-suite reads version 1"):
        checkpoints.load(path)


def declares(content, size):
    """An archive whose last member says that it unpacks to so many bytes."""
    at = content.rindex(b"PK\x01\x02") + 24
    return content[:at] + struct.pack("<I", size) + content[at + 4 :]


def test_an_archive_that_unpacks_to_gigabytes_is_refused_before_it_is_read(path):
    checkpoints.save(path, {"theta": torch.zeros(3)})
    path.write_bytes(declares(path.read_bytes(), 3 * 2**30))
    with pytest.raises(UserError, match=r"it unpacks to 3,221,\d{3},\d{3} bytes, and at most 1,073,741,824 are read"):
        checkpoints.load(path)


def test_a_pickle_that_unpacks_to_many_megabytes_is_refused(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("last/data.pkl", b"]" * (2**24 + 1))
    assert path.stat().st_size < 50_000
    with pytest.raises(
        UserError, match=r"'last/data.pkl' unpacks to 16,777,217 bytes, and at most 16,777,216 are read"
    ):
        checkpoints.load(path)


def laughing():
    """Ten to the power of ten words, in a list of ten references to one list of ten references …"""
    words = ["ha"] * 10
    for _ in range(9):
        words = [words] * 10
    return words


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"experiment": laughing()}, "what it describes takes more than 1,073,741,824 bytes"),
        ({"text": ["ha" * 10_000] * 10**6}, "what it describes takes more"),
        ({"w": torch.zeros(1).expand(10**10)}, "what it describes takes more"),
        ({"a": {1, 2}}, "more than tensors and plain data: a set"),
        (3, "it holds no state"),
    ],
)
def test_what_save_would_not_write_is_refused(path, state, message):
    torch.save({"format": checkpoints.FORMAT, "version": checkpoints.VERSION, "state": state}, path)
    with pytest.raises(UserError, match=message):
        checkpoints.load(path)


def test_what_is_nested_too_deeply_is_refused(path):
    state = {"a": 1}
    for _ in range(120):
        state = {"a": state}
    torch.save({"format": checkpoints.FORMAT, "version": checkpoints.VERSION, "state": state}, path)
    with pytest.raises(UserError, match="nested more than 100 levels deep"):
        checkpoints.load(path)
