"""Episodes are recorded, captioned and encoded, frame by frame."""

import io
import subprocess
import sys
from typing import ClassVar

import gymnasium
import imageio.v2 as imageio
import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from metarl.figures.video import (
    GAP,
    Episode,
    RenderingUnavailable,
    last_frame,
    record_episode,
    side_by_side,
    write_mp4,
)


class Counter(gymnasium.Env):
    """Frame and observation are the number of steps taken; the reward of step t is t; `length` steps long."""

    metadata: ClassVar = {"render_modes": ["rgb_array"]}
    observation_space = gymnasium.spaces.Box(0, 255, (1,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def __init__(self, length=5, render_mode="rgb_array", broken=None):
        self.length, self.render_mode, self.broken = length, render_mode, broken
        self.actions = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        self.start = self.np_random.random()
        return np.array([0.0]), {}

    def step(self, action):
        self.actions.append(action.copy())
        self.steps += 1
        measured = {"x_velocity": 10.0 * self.steps, "velocity": np.array([self.steps, -1.0])}
        info = {**measured, "x_position": 7.0, "reward_velocity": 8.0}
        return np.array([float(self.steps)]), float(self.steps), self.steps == self.length, False, info

    def render(self):
        if self.broken:
            raise self.broken
        return np.full((32, 40, 3), self.steps, np.uint8)


def grey(frames, height=64, width=96, value=128):
    return np.full((frames, height, width, 3), value, np.uint8)


def test_an_episode_is_recorded_to_its_end():
    env = Counter(length=5)
    episode = record_episode(env, lambda observation: observation / 10, seed=7, max_steps=100)
    assert episode.frames.shape == (6, 32, 40, 3)
    assert episode.frames.dtype == np.uint8
    assert episode.frames[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert episode.rewards.tolist() == [1, 2, 3, 4, 5]
    assert episode.running_return.tolist() == [0, 1, 3, 6, 10, 15]
    assert np.concatenate(env.actions).tolist() == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert env.start == np.random.Generator(np.random.PCG64(np.random.SeedSequence(7))).random()


def test_measured_velocities_are_recorded_and_nothing_else_of_the_info():
    velocities = record_episode(Counter(length=3), np.sin, seed=0, max_steps=9).velocities
    assert {name: values.tolist() for name, values in velocities.items()} == {
        "x_velocity": [10, 20, 30],
        "velocity": [[1, -1], [2, -1], [3, -1]],
    }


def test_an_episode_stops_after_max_steps():
    assert len(record_episode(Counter(length=5), np.sin, seed=0, max_steps=2).rewards) == 2


def test_captions_follow_the_return():
    episode = Episode(grey(3), np.array([1.0, -2.5]))
    assert episode.captions("before", "goal 1 m/s") == [
        "before\ngoal 1 m/s\nnow: return 0.0",
        "before\ngoal 1 m/s\nnow: return 1.0",
        "before\ngoal 1 m/s\nnow: return -1.5",
    ]


def test_captions_show_velocities_as_means_of_the_last_steps():
    steps = np.arange(12.0)
    episode = Episode(grey(13), np.zeros(12), {"x_velocity": steps, "velocity": np.stack([steps, -steps], -1)})
    lines = [caption.splitlines()[-1] for caption in episode.captions("before")]
    assert lines[0] == "now: return 0.0, x velocity –, velocity –"
    assert lines[2] == "now: return 0.0, x velocity 0.50 m/s, velocity (0.50, -0.50) m/s"
    assert lines[-1] == "now: return 0.0, x velocity 6.50 m/s, velocity (6.50, -6.50) m/s"  # of 2, 3, …, 11


def test_there_is_a_velocity_for_each_step():
    with pytest.raises(ValueError, match="2 steps need as many values of velocity, got 3"):
        Episode(grey(3), np.zeros(2), {"velocity": np.zeros(3)})


@pytest.mark.parametrize(
    ("frames", "rewards"),
    [
        (grey(3), np.zeros(3)),
        (grey(3).astype(np.float32), np.zeros(2)),
        (grey(3)[..., :1], np.zeros(2)),
        (grey(0), np.zeros(0)),
    ],
)
def test_a_malformed_episode_is_refused(frames, rewards):
    with pytest.raises(ValueError, match="frames"):
        Episode(frames, rewards)


NO_OPENGL = ImportError("no OpenGL here")


@pytest.mark.parametrize(
    ("env", "reason"), [(Counter(broken=NO_OPENGL), "no OpenGL"), (Counter(render_mode=None), "None")]
)
def test_an_environment_that_cannot_render(env, reason):
    with pytest.raises(RenderingUnavailable, match=reason):
        record_episode(env, np.sin, seed=0, max_steps=1)


def test_a_broken_renderer_names_what_to_install():
    with pytest.raises(RenderingUnavailable, match=r"MUJOCO_GL=egl.*libegl1"):
        record_episode(Counter(broken=NO_OPENGL), np.sin, seed=0, max_steps=1)


def test_what_an_environment_says_itself_of_its_renderer_is_enough():
    error = gymnasium.error.Error("install this")
    with pytest.raises(RenderingUnavailable, match=r"install this$"):
        record_episode(Counter(broken=error), np.sin, seed=0, max_steps=1)


def caption(frames, *texts):
    """The left clip of two that are the same."""
    return side_by_side(frames, frames, texts, texts)[:, :, : frames.shape[2]]


def test_caption_is_legible_and_leaves_the_rest_alone():
    frames = grey(2, 240, 320)
    captioned = caption(frames, "return 0.0", "return 8.8")
    assert (frames == 128).all()
    assert captioned.max() == 255  # white letters …
    assert captioned[:, :20].min() < 64  # … on a dark strip
    assert (captioned[:, 60:] == 128).all()
    assert (captioned[0] != captioned[1]).any()


def test_caption_draws_the_signs_of_units():
    """A font without them would draw the same box for each."""
    drawn = [caption(grey(1, 240, 320), sign).tobytes() for sign in "²°θ→±"]
    assert len(set(drawn)) == 5


def test_a_long_caption_is_shrunk_to_the_width():
    frame = caption(grey(1, 200, 200), "HalfCheetahVel, after 3 steps")[0]
    bright = np.flatnonzero((frame > 200).any(axis=(0, 2)))
    assert bright[0] > 0
    assert 100 < bright[-1] < 199


def test_there_must_be_a_caption_for_each_frame():
    with pytest.raises(ValueError, match="3 frames need as many captions, got 2"):
        caption(grey(3), "a", "b")


def test_side_by_side_waits_on_the_last_frame_of_the_shorter():
    left = np.stack([grey(1, value=value)[0] for value in (10, 20)])
    right = np.stack([grey(1, width=80, value=value)[0] for value in (30, 40, 50, 60)])
    both = side_by_side(left, right, ["before"] * 2, ["a", "b", "c", "d"])
    assert both.shape == (4, 64, 96 + GAP + 80, 3)
    assert both[:, -1, 0, 0].tolist() == [10, 20, 20, 20]
    assert both[:, -1, -1, 0].tolist() == [30, 40, 50, 60]
    assert (both[1, :, :96] == both[3, :, :96]).all()
    assert (both[0, :30, -80:] != both[1, :30, -80:]).any()


def test_side_by_side_needs_one_height():
    with pytest.raises(ValueError, match="64 and 66 px"):
        side_by_side(grey(1), grey(1, height=66), [""], [""])


@pytest.mark.parametrize(("size", "encoded"), [((64, 96), (64, 96)), ((65, 97), (66, 98))])
def test_a_video_decodes_to_what_was_encoded(tmp_path, size, encoded):
    values = np.arange(12) * 20
    path = tmp_path / "new" / "rollout.mp4"
    write_mp4(path, np.stack([np.full((*size, 3), value, np.uint8) for value in values]), fps=20)
    with imageio.get_reader(path) as reader:
        assert reader.get_meta_data()["fps"] == 20
    decoded = np.stack(imageio.mimread(path))
    assert decoded.shape == (12, *encoded, 3)
    assert np.abs(decoded.mean(axis=(1, 2, 3)) - values).max() < 4
    assert [entry.name for entry in path.parent.iterdir()] == ["rollout.mp4"]


def test_colours_are_kept_in_order(tmp_path):
    red = np.zeros((3, 64, 64, 3), np.uint8)
    red[..., 0] = 200
    write_mp4(tmp_path / "red.mp4", red, fps=10)
    pixel = imageio.mimread(tmp_path / "red.mp4")[0].mean(axis=(0, 1))
    assert pixel[0] > 150
    assert pixel[1:].max() < 50


def test_a_browser_can_play_it(tmp_path):
    path = tmp_path / "rollout.mp4"
    write_mp4(path, grey(5), fps=30)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-i", str(path)]
    described = subprocess.run(command, capture_output=True, text=True).stderr
    assert "Video: h264" in described
    assert "yuv420p" in described
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # plays before it is loaded


@pytest.mark.parametrize(("count", "fps"), [(1, 20), (2, 20), (61, 50), (5, 1)])
def test_the_last_frame_of_a_video(tmp_path, count, fps):
    frames = np.stack([np.full((48, 64, 3), 4 * f, dtype=np.uint8) for f in range(count)])
    write_mp4(tmp_path / "a.mp4", frames, fps)
    picture = Image.open(io.BytesIO(last_frame(tmp_path / "a.mp4")))
    assert (picture.format, picture.size) == ("JPEG", (64, 48))
    np.testing.assert_allclose(np.asarray(picture), 4 * (count - 1), atol=2)


def test_the_last_frame_of_no_video(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"torn")
    with pytest.raises(RenderingUnavailable, match=r"cannot show the last frame of .*a\.mp4"):
        last_frame(tmp_path / "a.mp4")


def test_a_coarser_video_is_smaller(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, size=(10, 64, 64, 3), dtype=np.uint8)
    for coarseness in (20, 32):
        write_mp4(tmp_path / f"{coarseness}.mp4", frames, 20, coarseness)
    assert (tmp_path / "32.mp4").stat().st_size < 0.5 * (tmp_path / "20.mp4").stat().st_size


def test_without_ffmpeg(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "absent"))
    with pytest.raises(RenderingUnavailable, match="pip install imageio-ffmpeg"):
        write_mp4(tmp_path / "rollout.mp4", grey(2), fps=20)
    assert not list(tmp_path.iterdir())


def test_a_failed_encoding_leaves_the_old_video(tmp_path, monkeypatch):
    path, broken = tmp_path / "rollout.mp4", tmp_path / "ffmpeg"
    path.write_bytes(b"old")
    broken.write_text(f"#!{sys.executable}\nimport sys\nsys.stdin.buffer.read()\nsys.exit('Unknown encoder')\n")
    broken.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(broken))
    with pytest.raises(RenderingUnavailable, match="Unknown encoder"):
        write_mp4(path, grey(2), fps=20)
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("fps", [0, -1, float("nan")])
def test_fps_must_be_positive(tmp_path, fps):
    with pytest.raises(ValueError, match="fps must be positive"):
        write_mp4(tmp_path / "rollout.mp4", grey(2), fps=fps)
