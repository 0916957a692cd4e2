"""Rollouts as videos: record an episode, caption it, put two side by side, encode as MP4."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import gymnasium
import imageio_ffmpeg
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.ImageFont import FreeTypeFont

from metarl.system.files import draft_of

MARGIN = 6  # [px] around a caption
SMALLEST = 8  # [px] font size of a caption in a tiny frame
GAP = 4  # [px] between two panels
ENDING = 2.0  # [s] of a video that is searched for its last frame
SHADE = 0.35  # brightness left of the picture behind a caption
SMOOTHED = 10  # steps that a velocity in a caption is the mean of: a gait sways too much to be read step by step


class RenderingUnavailable(RuntimeError):
    """This machine cannot render or encode; the message says what to install. Callers skip their videos."""


@dataclass(frozen=True)
class Episode:
    """One rendered episode of F - 1 steps; frame f + 1 shows what the step with reward f led to."""

    frames: np.ndarray
    """(F, H, W, 3) uint8, RGB; frame 0 shows the start."""
    rewards: np.ndarray
    """(F - 1,) float."""
    velocities: Mapping[str, np.ndarray] = field(default_factory=dict)
    """What the environment measured of its velocity in each step, by name, (F - 1,) or (F - 1, k) [m/s]."""

    def __post_init__(self) -> None:
        _check_frames(self.frames)
        if self.rewards.shape != (len(self.frames) - 1,):
            raise ValueError(
                f"an episode of {len(self.frames)} frames has {len(self.frames) - 1} rewards,"
                f" got shape {self.rewards.shape}"
            )
        for name, values in self.velocities.items():
            if len(values) != len(self.rewards):
                raise ValueError(f"{len(self.rewards)} steps need as many values of {name}, got {len(values)}")

    @property
    def running_return(self) -> np.ndarray:
        """(F,) the undiscounted return up to each frame, 0 at the start."""
        return np.concatenate([[0.0], np.cumsum(self.rewards)])

    def captions(self, *lines: str) -> list[str]:
        """One caption for each frame: `lines`, the return so far, and velocities as means of the last few steps."""
        columns = [[f"now: return {value:z.1f}" for value in self.running_return]]
        for name, values in self.velocities.items():
            words = ("–", *map(_in_words, trailing_mean(values)))
            columns.append([f"{name.replace('_', ' ')} {value}" for value in words])
        return ["\n".join([*lines, ", ".join(measured)]) for measured in zip(*columns, strict=True)]


def record_episode(env: gymnasium.Env, act: Callable[[np.ndarray], np.ndarray], seed: int, max_steps: int) -> Episode:
    """Roll `act` (observation (O,) to action (A,)) in `env` until the episode ends or `max_steps` are done.

    Args:
        env: A single environment made with `render_mode="rgb_array"`; it is reset with `seed` and left open.

    Raises:
        RenderingUnavailable: The environment gives no picture.
    """
    observation, _ = env.reset(seed=seed)
    frames, rewards, velocities = [_first_frame(env)], [], {}
    for _ in range(max_steps):
        observation, reward, terminated, truncated, info = env.step(act(observation))
        rewards.append(float(reward))
        for name in filter(_is_velocity, info):
            velocities.setdefault(name, []).append(info[name])
        frames.append(np.array(env.render()))
        if terminated or truncated:
            break
    measured = {name: np.array(values, dtype=np.float64) for name, values in velocities.items()}
    return Episode(np.stack(frames), np.array(rewards, dtype=np.float64), measured)


def trailing_mean(values: np.ndarray) -> np.ndarray:
    """The mean of the last SMOOTHED values up to each, or of as many as there are; (F, …) from (F, …)."""
    sums = np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, axis=0)])
    end = np.arange(1, len(values) + 1)
    start = np.maximum(end - SMOOTHED, 0)
    return (sums[end] - sums[start]) / (end - start).reshape(-1, *[1] * (values.ndim - 1))


def _is_velocity(name: str) -> bool:
    """Whether a measurement in `info` is one [m/s]; terms of the reward are named after what they are for."""
    return name.endswith("velocity") and not name.startswith("reward_")


def _in_words(velocity: np.ndarray) -> str:
    """Such as `0.52 m/s` or `(0.31, -0.20) m/s`."""
    numbers = ", ".join(f"{component:z.2f}" for component in np.atleast_1d(velocity))
    return f"({numbers}) m/s" if np.ndim(velocity) else f"{numbers} m/s"


def side_by_side(
    left: np.ndarray, right: np.ndarray, left_captions: Sequence[str], right_captions: Sequence[str]
) -> np.ndarray:
    """Two clips as one, with white text on a darkened strip at the top; the shorter one waits on its last frame.

    Args:
        left: (F, H, W, 3) uint8.
        right: (F', H, W', 3) uint8, as high as `left`.
        left_captions, right_captions: A text for each frame of the clip; a line break starts a new line.

    Returns:
        (max(F, F'), H, W + gap + W', 3) uint8.

    Raises:
        ValueError: The heights differ, or a clip or its captions are malformed.
    """
    _check_frames(left)
    _check_frames(right)
    if left.shape[1] != right.shape[1]:
        raise ValueError(f"clips side by side need one height, got {left.shape[1]} and {right.shape[1]} px")
    lettering = _lettering([*left_captions, *right_captions], left.shape[1], min(left.shape[2], right.shape[2]))
    count = max(len(left), len(right))
    left = _hold_last(_draw(left, left_captions, lettering), count)
    right = _hold_last(_draw(right, right_captions, lettering), count)
    gap = np.full((count, left.shape[1], GAP, 3), 255, dtype=np.uint8)
    return np.concatenate([left, gap, right], axis=2)


def write_mp4(path: Path, frames: np.ndarray, fps: float, coarseness: int = 20) -> None:
    """Encode as H.264 (yuv420p, index first), which every browser plays; `path` appears only when complete.

    H.264 halves the resolution of colour, so an odd height or width grows by one repeated row or column.

    Args:
        frames: (F, H, W, 3) uint8, RGB.
        fps: Frames per second [1/s]; for real time, 1 / (environment time step).
        coarseness: x264's constant rate factor, 0 to 51; 6 more halve the file.

    Raises:
        RenderingUnavailable: There is no ffmpeg, or it cannot encode to `path`.
        ValueError: `frames` are malformed or `fps` is not positive.
    """
    _check_frames(frames)
    if not fps > 0:
        raise ValueError(f"fps must be positive, got {fps}")
    height, width = frames.shape[1:3]
    frames = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = draft_of(path)
    try:
        with _ffmpeg(f"encode H.264 to {path}"):
            _encode(draft, np.ascontiguousarray(frames), fps, coarseness)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def last_frame(path: Path) -> bytes:
    """The picture that the video at `path` ends with, as JPEG. Errors: RenderingUnavailable where ffmpeg fails."""
    with _ffmpeg(f"show the last frame of {path}"):
        about, *frames = imageio_ffmpeg.read_frames(path, input_params=["-sseof", str(-ENDING)])
    picture = io.BytesIO()
    Image.frombytes("RGB", about["size"], frames[-1]).save(picture, "JPEG", quality=85)
    return picture.getvalue()


def _encode(path: Path, frames: np.ndarray, fps: float, coarseness: int) -> None:
    """Send contiguous frames of even size through ffmpeg, which reports its failures only by a file that is not whole.

    Errors: OSError or RuntimeError where not all frames can be read again.
    """
    height, width = frames.shape[1:3]
    options = ["-preset", "fast", "-crf", str(coarseness), "-movflags", "+faststart", "-f", "mp4"]
    writer = imageio_ffmpeg.write_frames(
        path, (width, height), fps=fps, codec="libx264", macro_block_size=2, ffmpeg_log_level="error",
        output_params=options,
    )  # fmt: skip
    with contextlib.closing(writer):
        writer.send(None)
        for frame in frames:
            writer.send(frame)
    written, _ = imageio_ffmpeg.count_frames_and_secs(path)
    if written != len(frames):
        raise RuntimeError(f"{written} of {len(frames)} frames were written")


@contextlib.contextmanager
def _ffmpeg(purpose: str) -> Generator[None]:
    """What ffmpeg does inside. Errors: RenderingUnavailable where it is missing or fails at its purpose."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, IndexError) as error:
        reason = str(error).partition("\n\nFFMPEG COMMAND")[0].strip().rpartition("\n")[-1]
        raise RenderingUnavailable(
            f"ffmpeg cannot {purpose}: {reason}. Where there is none: pip install imageio-ffmpeg"
        ) from error


def _first_frame(env: gymnasium.Env) -> np.ndarray:
    """(H, W, 3) the picture after a reset; the place where a missing renderer shows."""
    name = env.spec.id if env.spec else env.unwrapped
    if env.render_mode != "rgb_array":
        raise RenderingUnavailable(f'{name} has render_mode {env.render_mode!r}: make it with "rgb_array"')
    try:
        frame = env.render()
    except gymnasium.error.Error as error:  # it says itself what is missing
        raise RenderingUnavailable(f"{name}: {error}") from error
    except Exception as error:  # each renderer fails in its own way
        raise RenderingUnavailable(
            f"{name} cannot render ({type(error).__name__}: {error}). Without a display, set MUJOCO_GL=egl"
            " (packages libegl1, libgl1, libgl1-mesa-dri) or MUJOCO_GL=osmesa (package libosmesa6)"
            " before Python starts."
        ) from error
    if frame is None:
        raise RenderingUnavailable(f"{name} rendered nothing")
    return np.array(frame)


def _check_frames(frames: np.ndarray) -> None:
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise ValueError(f"frames are (F, H, W, 3) uint8 and not empty, got {frames.shape} {frames.dtype}")


def _hold_last(frames: np.ndarray, count: int) -> np.ndarray:
    return np.concatenate([frames, np.repeat(frames[-1:], count - len(frames), axis=0)])


def _lettering(texts: Sequence[str], height: int, width: int) -> tuple[FreeTypeFont, int]:
    """The largest font in which every text fits the width, and the height of the strip for it [px]."""
    # Pillow's own font lacks the signs of units and mathematics (², θ, →); Matplotlib ships one with them.
    file = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    fonts = [ImageFont.truetype(file, size) for size in range(max(12, height // 26), SMALLEST - 1, -1)]
    font = next((font for font in fonts if _extent(texts, font)[0] <= width), fonts[-1])
    return font, min(_extent(texts, font)[1], height)


def _extent(texts: Sequence[str], font: FreeTypeFont) -> tuple[int, int]:
    """(width, height) [px] that any of `texts` needs, with its margins."""
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    boxes = [draw.multiline_textbbox((MARGIN, MARGIN), text, font=font) for text in set(texts)]
    return int(max(box[2] for box in boxes)) + MARGIN, int(max(box[3] for box in boxes)) + MARGIN


def _draw(frames: np.ndarray, texts: Sequence[str], lettering: tuple[FreeTypeFont, int]) -> np.ndarray:
    if len(texts) != len(frames):
        raise ValueError(f"{len(frames)} frames need as many captions, got {len(texts)}")
    font, strip = lettering
    drawn = frames.copy()
    for frame, text in zip(drawn, texts, strict=True):
        picture = Image.fromarray((frame[:strip] * SHADE).astype(np.uint8))
        ImageDraw.Draw(picture).multiline_text((MARGIN, MARGIN), text, font=font, fill="white")
        frame[:strip] = picture
    return drawn
