"""Videos on an environment that shows what it is given, and what a finished run publishes."""

import json
from types import SimpleNamespace
from typing import ClassVar
from unittest.mock import Mock

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec

from metarl import runs
from metarl.experiment import Environment, Evaluation, Experiment
from metarl.experiment.evaluation import AdaptationReturns
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.runs import publish
from metarl.runs.directory import State
from metarl.runs.metrics import read_metrics
from metarl.runs.tracking import Tracker
from metarl.seeding import Purpose, stream

A, T, STD = 2, 4, 0.5
POLICY = GaussianMLP(observation_size=1, action_size=A, hidden_sizes=(), action_scale=1e-2, min_std=0)
TASKS = [SimpleNamespace(label=f"task {m}", m=m) for m in range(5)]
PARAMS = tuple(
    {"w0": torch.zeros(5, 1, A), "b0": torch.full((5, A), 10.0 * k), "log_std": torch.full((5, A), np.log(STD))}
    for k in range(3)
)
"""After k steps the policy puts out 10 k, and on top of it the number of the task."""
for params in PARAMS:
    params["b0"] += torch.arange(5.0)[:, None]


class Filmed(gymnasium.Env):
    """Its picture is as bright as the last action; it keeps task, start and policy outputs of every episode."""

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 17}
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = gymnasium.spaces.Box(-1, 1, (A,), np.float32)
    episodes: ClassVar[list] = []

    def __init__(self, render_mode, wide):
        assert wide
        self.render_mode = render_mode

    def set_task(self, task):
        self.task = task

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.last, self.outputs = 0.0, []
        start = self.np_random.normal(size=1)
        self.episodes.append((self.task.m, start.item(), self.outputs))
        return start, {}

    def step(self, action):
        self.last = action.mean()
        self.outputs.append(action / POLICY.action_scale)
        return np.zeros(1), 1.0, False, False, {}

    def render(self):
        return np.full((200, 200, 3), round(100 + 500 * self.last), np.uint8)


@pytest.fixture
def film(tmp_path, monkeypatch):
    """film(count, …) -> what was made, and the frames and speed of each file."""
    monkeypatch.setitem(gymnasium.registry, "Filmed-v0", EnvSpec("Filmed-v0", entry_point=Filmed))
    monkeypatch.setattr(Filmed, "episodes", [])
    written = []
    monkeypatch.setattr(publish, "write_mp4", lambda *args: written.append(args))

    def film(count):
        environment = Environment(id="Filmed-v0", horizon=T, options={"wide": True})
        result = AdaptationReturns(np.zeros((5, 3, 1)), PARAMS)
        return publish.make_videos(environment, POLICY, TASKS, result, count, tmp_path), written

    return film


def test_before_and_after_differ_in_nothing_but_the_parameters(film):
    film(2)
    z = stream(0, Purpose.VIDEO).standard_normal((T, A), dtype=np.float32)
    starts = {start for _, start, _ in Filmed.episodes}
    assert len(starts) == 1
    assert [m for m, _, _ in Filmed.episodes] == [0, 0, 4, 4]
    for (m, _, outputs), output in zip(Filmed.episodes, (0, 20, 0, 20), strict=True):
        np.testing.assert_allclose(outputs, m + output + STD * z, rtol=1e-4)


def test_a_video_shows_before_on_the_left_and_after_on_the_right(film, tmp_path):
    made, written = film(1)
    assert made == [(0, tmp_path / "task-00.mp4")]
    [(path, frames, fps, _)] = written
    assert (path, fps, len(frames)) == (made[0][1], 17, T + 1)
    left, right = frames[1:, -1, 0, 0].astype(int), frames[1:, -1, -1, 0].astype(int)
    np.testing.assert_allclose(right - left, 500 * POLICY.action_scale * 20, atol=1)


@pytest.mark.parametrize(("count", "chosen"), [(0, []), (3, [0, 2, 4]), (9, [0, 1, 2, 3, 4])])
def test_recorded_tasks_are_spread_over_the_test(film, monkeypatch, count, chosen):
    monkeypatch.setattr(publish, "LONGEST_VIDEO", 1)
    made, written = film(count)
    assert [m for m, _ in made] == chosen
    assert all(len(frames) == 2 for _, frames, *_ in written)


def test_a_machine_that_cannot_render_is_warned_of_once(film, monkeypatch):
    monkeypatch.setattr(Filmed, "render", Mock(side_effect=OSError("no display")))
    with pytest.warns(UserWarning, match="no videos: .*no display") as caught:
        made, _ = film(3)
    assert made == []
    assert len(caught) == 1


def test_captions_say_how_many_steps(film, monkeypatch):
    panels = Mock(return_value=np.zeros((1, 2, 2, 3), np.uint8))
    monkeypatch.setattr(publish, "side_by_side", panels)
    film(1)
    left, right = panels.call_args.args[2:]
    assert (left[0], left[-1]) == (
        "before adaptation\ntask: task 0\nnow: return 0.0",
        f"before adaptation\ntask: task 0\nnow: return {T}.0",
    )
    assert right[0] == "after 2 steps\ntask: task 0\nnow: return 0.0"


@pytest.fixture
def published(tmp_path, monkeypatch):
    """published(rows) -> what a finished run tells its tracker, and the arguments of its learning curve."""
    draw, tracker = Mock(), Mock(spec=Tracker)
    monkeypatch.setattr(publish.adaptation, "learning_curve", draw)

    def published(rows):
        evaluation = Evaluation(split="out-of-range", steps=2, videos=0)
        experiment = Experiment(evaluation=evaluation, iterations=5)
        runs.create(tmp_path, experiment)
        (tmp_path / runs.METRICS).write_text("".join(json.dumps(row) + "\n" for row in rows))
        returns = np.array([[[1.0], [2], [4]], [[3], [5], [8]], [[np.nan], [np.nan], [np.nan]]])
        state = State(5, 50, params={}, algorithm_state={}, test_tasks=[])
        publish.publish_test(experiment, tmp_path, state, POLICY, TASKS[:3], AdaptationReturns(returns, ()), tracker)
        return tracker, draw

    return published


def test_the_summary_is_of_the_first_and_the_last_step_without_tasks_left_out(published):
    tracker, _ = published([])
    summary = {"return_before_adaptation": 2.0, "return_after_adaptation": 6.0, "gain": 4.0}
    tracker.summary.assert_called_once_with({**summary, "best_return_after_adaptation": 6.0})


@pytest.mark.parametrize(("when", "filmed"), [("end", [4]), ("always", [0, 2, 4])])
def test_videos_are_made_at_the_end_or_always(tmp_path, monkeypatch, when, filmed):
    monkeypatch.setitem(gymnasium.registry, "Filmed-v0", EnvSpec("Filmed-v0", entry_point=Filmed))
    monkeypatch.setattr(Filmed, "episodes", [])
    environment = Environment(id="Filmed-v0", horizon=T, options={"wide": True})
    experiment = Experiment(env=environment, evaluation=Evaluation(videos=2, film=when), iterations=4)
    runs.create(tmp_path, experiment)
    returns = np.arange(5.0)[:, None, None] * [[1], [3]]
    result = AdaptationReturns(returns, PARAMS[:2])
    with Tracker.open(tmp_path, {}, mode="disabled", project="", group=None, name=None, run_id="r") as tracker:
        for iteration in (0, 2, 4):
            state = State(iteration, 10 * iteration, params={}, algorithm_state={}, test_tasks=[])
            runs.save(tmp_path, experiment, state)
            publish.publish_test(experiment, tmp_path, state, POLICY, TASKS, result, tracker)
    rows = read_metrics(tmp_path / runs.METRICS)
    assert [(row["iteration"], row["environment_steps"]) for row in rows] == [(i, 10 * i) for i in filmed]
    expected = [["task 0", 0.0, 0.0, 0.0, "videos/task-00.mp4"], ["task 4", 4.0, 12.0, 8.0, "videos/task-04.mp4"]]
    assert [row["rollouts/tasks"]["rows"] for row in rows] == [expected] * len(filmed)
    assert sorted(path.name for path in (tmp_path / "videos").iterdir()) == ["task-00.mp4", "task-04.mp4"]


def test_what_breaks_while_a_video_is_made_is_a_warning(film, monkeypatch):
    """The videos made before it stay."""
    step = Filmed.step

    def breaking(env, action):
        if env.task.m == 2:
            raise FloatingPointError("it fell apart")
        return step(env, action)

    monkeypatch.setattr(Filmed, "step", breaking)
    with pytest.warns(UserWarning, match="no videos: FloatingPointError: it fell apart"):
        made, _ = film(3)
    assert [m for m, _ in made] == [0]


def test_the_learning_curve_is_that_of_the_metrics(published, tmp_path):
    """A row that was not finite is a gap; nothing is drawn before there is a row of training."""
    last = "out_of_range/return_2_steps"
    tested = {last: 3.0, f"{last}_spread_over_tasks": 1.5, "out_of_range/return_0_steps": -9.0}
    rows = [
        {"iteration": 0, "environment_steps": 0, **tested},
        {"iteration": 0, "environment_steps": 0, "train/return_before": -1.0, "train/return_after": 1.0},
        {"iteration": 1, "environment_steps": 10, "train/return_before": None, "train/return_after": None},
        {"iteration": 2, "environment_steps": 20, "train/return_before": -2.0, "train/return_after": 2.0},
    ]
    tracker, draw = published(rows)
    path, steps, before, after, _ = draw.call_args.args
    assert (path, draw.call_args.kwargs["tested_on"]) == (tmp_path / publish.LEARNING, "out-of-range")
    assert [values.tolist() for values in (steps, before, after)] == [[0, 20], [-1, -2], [1, 2]]
    at, curve = draw.call_args.kwargs["tested"]
    assert (at.tolist(), [(e.value, e.spread) for e in curve]) == ([0], [(3.0, 1.5)])
    assert draw.call_args.kwargs["clock"].shape == (2, 0)  # the rows are of before seconds were logged
    assert tracker.media.call_args.args[:2] == ("figures/learning", path)


def test_the_learning_curve_has_the_seconds_of_training_and_test(published):
    last = "out_of_range/return_2_steps"
    tested = {last: 3.0, f"{last}_spread_over_tasks": 1.5}
    trained = {"train/return_before": -1.0, "train/return_after": 1.0}
    rows = [
        {"iteration": i, "environment_steps": 10 * i, "time/training_s": 2.0 * i, **what}
        for i, what in ((0, tested), (0, trained), (1, trained), (2, tested), (2, {"sb3/a": 1.0}), (3, {"sb3/a": 1.0}))
    ]
    _, draw = published(rows)
    assert draw.call_args.kwargs["clock"].tolist() == [[0, 10, 20], [0, 2, 4]]


def test_no_learning_curve_before_there_is_training(published):
    tracker, draw = published([{"iteration": 0, "environment_steps": 0, "out_of_range/return_2_steps": 3.0}])
    draw.assert_not_called()
    tracker.media.assert_not_called()
