"""The outer loop on an environment that keeps every round of episodes, with an algorithm that counts its steps."""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, VectorEnv

from metarl import runs
from metarl.algorithms.maml_trpo import MAMLTRPO
from metarl.errors import NonFinite, SimulationDiverged
from metarl.experiment import Environment, Evaluation, Experiment, Policy, Sampling
from metarl.experiment.builders import training_tasks
from metarl.inner.sgd import SGD
from metarl.policy_gradient import normalizer
from metarl.runs import checkpoints
from metarl.runs.metrics import truncate_metrics
from metarl.runs.tracking import Tracker
from metarl.seeding import Purpose
from metarl.training import prepare, train

SCALE = 1e-4
M, E, T, K = 3, 2, 3, 2  # of training
STEPS = (K + 1) * 2 * (1 + 2 + 3)  # of an iteration: six episodes of one, two or three steps in each round


@dataclass(frozen=True)
class Goal:
    x: float

    @property
    def label(self):
        return f"goal {self.x}"


class Goals:
    """Test goals are 1, 2, 3, …; training goals lie below."""

    def restrict(self, split):
        return self

    def stratified(self, n, rng):
        return [Goal(x) for x in rng.random(n)]

    def grid(self, n):
        return [Goal(1.0 + i) for i in range(n)]

    def to_dict(self, goal):
        return {"x": goal.x}


class Round(NamedTuple):
    """One round of episodes: the goals, the address of each one's random stream, and what its policy put out."""

    goals: tuple[Goal, ...]
    streams: list[tuple[int, ...]]
    outputs: list[float]


class Echo(VectorEnv):
    """The first step is worth the goal plus the policy's output; simulation n ends after 1, 2 or 3 steps."""

    metadata: ClassVar = {"autoreset_mode": AutoresetMode.DISABLED}
    single_observation_space = single_action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    task_space = Goals()
    rounds: ClassVar[list[Round]] = []
    diverging: ClassVar[list[int]] = []

    def __init__(self, num_envs, max_episode_steps, nthread):
        assert max_episode_steps == T
        self.num_envs, self.tasks = num_envs, ()

    def set_tasks(self, tasks):
        self.tasks = tuple(tasks)

    def reset(self, *, seed=None, options=None):
        self.streams = [tuple(g.bit_generator.seed_seq.entropy) for g in options["generators"]]
        self.t = 0
        return np.zeros((self.num_envs, 1)), {}

    def step(self, actions):
        n = np.arange(self.num_envs)
        rewards = np.zeros(self.num_envs)
        if self.t == 0:
            outputs = (actions[:, 0] / SCALE).reshape(len(self.tasks), -1)
            self.rounds.append(Round(self.tasks, self.streams, outputs.mean(1).round(3).tolist()))
            rewards = (outputs + np.array([[goal.x] for goal in self.tasks])).ravel()
        self.t += 1
        over, diverged = self.t > n % T, np.isin(n, self.diverging)
        return np.zeros((self.num_envs, 1)), rewards, over | diverged, ~over & False, {"diverged": diverged}


class Climbing(SGD):
    """A step raises the output of task m by m + 1, times the scale."""

    def descend(self, model, params, batch, scale=1.0):
        rise = torch.arange(1.0, batch.num_tasks + 1)[:, None]
        return params | {"b1": params["b1"] + scale * rise}


class Counting(MAMLTRPO):
    """An outer step raises the output by 10, and counts itself."""

    inside: ClassVar[SGD] = Climbing(steps=K)
    learned_from: ClassVar[list[list[float]]] = []

    def update(self, policy, params, state, experience):
        batches = (*experience.support, experience.query)
        means = [batch.policy.mean[-1, 0, 0].item() for batch in batches if batch]
        self.learned_from.append([*means, experience.adapted["b1"][-1].item()])
        return params | {"b1": params["b1"] + 10}, {"count": state.get("count", 0) + 1}, {"kl": 0.5}


class Wavering(Counting):
    """An outer step raises the output by 10, but the one from 20 leads to 5."""

    def update(self, policy, params, state, experience):
        b1 = params["b1"]
        return params | {"b1": torch.where((b1 - 20).abs() < 1e-3, 5.0, b1 + 10)}, state, {}


class WithoutQuery(Counting):
    """It learns from where adaptation leads."""

    uses_query = False


class Watch:
    """Keeps what training tells, and which checkpoint lies on disk by then."""

    def __init__(self, run_dir):
        self.run_dir, self.shown, self.notes = run_dir, [], []

    def show(self, iteration, metrics):
        state = checkpoints.load(self.run_dir / runs.CHECKPOINT)
        self.shown.append((iteration, state["iteration"], state["params"]["b1"].item()))

    def note(self, text):
        self.notes.append(text)


class Summarized(Tracker):
    """A tracker that keeps the summary."""

    def summary(self, mapping):
        self.summarized = mapping
        super().summary(mapping)


class Run(NamedTuple):
    """What a run did and left behind."""

    setup: Any
    state: Any
    watch: Watch
    rounds: list[Round]
    rows: list[dict[str, Any]]
    summary: dict[str, float]
    wandb_dir: Path | None

    def logged(self, name):
        """The rows that hold a metric, as iteration, environment steps and value."""
        return [(row["iteration"], row["environment_steps"], row[name]) for row in self.rows if name in row]


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """trained(algorithm, …): a run of three iterations that is tested before every second and at the end.

    Called again for more, it goes on.
    """
    spec = EnvSpec("Echo-v0", vector_entry_point=Echo)
    monkeypatch.setitem(gymnasium.registry, "Echo-v0", spec)
    monkeypatch.setattr(Echo, "rounds", [])
    monkeypatch.setattr(Counting, "learned_from", [])

    def trained(algorithm=Counting, episodes=E, test_tasks=2, iterations=3, mode="disabled"):
        experiment = Experiment(
            env=Environment(id="Echo-v0", horizon=T),
            policy=Policy(hidden_sizes=(1,), action_scale=SCALE, initial_std=1e-6, min_std=0),
            sampling=Sampling(tasks=M, episodes=episodes),
            algorithm=algorithm(inner=algorithm.inside),
            evaluation=Evaluation(every=2, tasks=test_tasks, steps=K + 1, later_steps=0.5, episodes=1, videos=0),
            iterations=iterations,
            seed=7,
        )
        setup = prepare(experiment)
        kept = ("log_std", *normalizer.NAMES)
        zero = {name: p if name in kept else 0 * p for name, p in setup.first_params.items()}
        setup = replace(setup, first_params=zero)
        run_dir = tmp_path / "run"
        if goes_on := run_dir.exists():
            truncate_metrics(run_dir / runs.METRICS, runs.load(run_dir, experiment).iteration - 1)
        else:
            runs.create(run_dir, experiment)
        watch = Watch(run_dir)
        with Summarized.open(run_dir, {}, mode=mode, project="", group=None, name=None, run_id="run") as tracker:
            state = train(setup, run_dir, runs.load(run_dir, experiment) if goes_on else None, tracker, watch)
        rows = [json.loads(line) for line in (run_dir / runs.METRICS).read_text().splitlines()]
        return Run(setup, state, watch, Echo.rounds, rows, tracker.summarized, tracker.wandb_dir)

    return trained


def test_who_plays_when_on_which_streams_with_which_parameters(trained):
    """After i iterations theta puts out 10 i, and task m m + 1 more for each whole adaptation step."""
    run = trained()
    expected = []
    for i in range(4):
        if i in (0, 2, 3):
            for k, height in enumerate((0, 1, 2, 2.5)):  # a step beyond the trained ones is half as long
                streams = [(0, Purpose.EVALUATION, 0, k, m) for m in range(2)]
                expected.append(Round((Goal(1), Goal(2)), streams, [10 * i + height * (m + 1) for m in range(2)]))
        if i < 3:
            goals = tuple(training_tasks(run.setup.env, run.setup.experiment, i))
            for k in range(K + 1):
                streams = [(7, Purpose.TRAINING, i, k, m) for m in range(M)]
                expected.append(Round(goals, streams, [10 * i + k * (m + 1) for m in range(M)]))
    assert run.rounds == expected
    expected = [[10 * i, 10 * i + 3, 10 * i + 6, 10 * i + 6] for i in range(3)]
    np.testing.assert_allclose(Counting.learned_from, expected)
    assert run.state.algorithm_state == {"count": 3}
    assert run.state.params["b1"].item() == 30


def test_what_is_logged_of_training(trained):
    run = trained()
    goals = [np.mean([goal.x for goal in training_tasks(run.setup.env, run.setup.experiment, i)]) for i in range(3)]
    for name, gain in (("before", 0), ("after", K * 2)):
        rows = [(i, i * STEPS, pytest.approx(goals[i] + 10 * i + gain, abs=1e-3)) for i in range(3)]
        assert run.logged(f"train/return_{name}") == rows
    assert run.logged("update/kl") == [(i, i * STEPS, 0.5) for i in range(3)]
    assert (run.state.iteration, run.state.environment_steps) == (3, 3 * STEPS)
    assert run.watch.shown == [(i, i, 10 * i) for i in (1, 2, 3)]


def test_what_is_logged_of_the_test(trained):
    """Before adaptation the two goals bring 1 and 2; the steps raise them by 2.5 and 5."""
    run = trained()

    def rows(value, slope=10):
        return [(i, i * STEPS, pytest.approx(value + slope * i, abs=1e-3)) for i in (0, 2, 3)]

    for k, mean in enumerate((1.5, 3, 4.5, 5.25)):
        assert run.logged(f"validation/return_{k}_steps") == rows(mean)
    spread = np.sqrt(2) / 2  # the standard deviation of two numbers, for each 1 between them
    assert run.logged("validation/return_3_steps_spread_over_tasks") == rows(3.5 * spread, slope=0)
    assert run.logged("validation/gain") == rows(3.75, slope=0)
    assert run.logged("validation/gain_spread_over_tasks") == rows(2.5 * spread, slope=0)
    last = run.logged("validation/returns")[-1][-1]
    assert last["columns"] == ["task", "0 steps", "1 steps", "2 steps", "3 steps"]
    assert [row[0] for row in last["rows"]] == ["goal 1.0", "goal 2.0"]
    np.testing.assert_allclose([row[1:] for row in last["rows"]], [[31, 32, 33, 33.5], [32, 34, 36, 37]], atol=1e-3)
    after = {"return_before_adaptation": 31.5, "return_after_adaptation": 35.25, "gain": 3.75}
    after |= {"best_return_after_adaptation": 35.25}
    assert run.summary == pytest.approx(after, abs=1e-3)
    assert [note.split(":")[0] for note in run.watch.notes] == [f"validation tasks at iteration {i}" for i in (0, 2, 3)]


def test_the_best_and_the_latest_checkpoint_are_kept_also_over_a_resume(trained, tmp_path, recorded):
    """Tests bring 5.25 more than theta puts out, which after 0, 2, 3, 4 and 6 iterations is 0, 20, 5, 15 and 35."""
    tested, best = [], []
    for end in (3, 4, 6):
        time.sleep(1.1)  # W&B names the parts of a run after the second
        run = trained(Wavering, iterations=end, mode="offline")
        summaries = [record["update"] for record in recorded(run.wandb_dir, "summary")]
        summaries = [row for row in summaries if "best_return_after_adaptation" in row]
        artifacts = recorded(run.wandb_dir, "artifact")
        kept = [artifact for artifact in artifacts if artifact["type"] == "model"]
        assert len({artifact["name"] for artifact in kept}) == 1
        for row, artifact in zip(summaries, kept, strict=True):
            about = json.loads(artifact["metadata"])
            assert about.items() - row.items() == {(name, about[name]) for name in ("iteration", "environment_steps")}
            (file,) = artifact["manifest"]["contents"]
            assert checkpoints.load(file["local_path"])["iteration"] == about["iteration"]
            tested.append((about["iteration"], about["environment_steps"] // STEPS, row["return_after_adaptation"]))
            best.append((row["best_return_after_adaptation"], sorted(artifact["aliases"])))
        file = checkpoints.load(tmp_path / "run" / runs.BEST)
        iteration, value = (2, 25.25) if end < 6 else (6, 40.25)
        assert (file["iteration"], file["return_after_adaptation"]) == (iteration, pytest.approx(value, abs=1e-3))
        assert file["params"]["b1"].item() == pytest.approx(value - 5.25, abs=1e-3)
    expected = [(0, 5.25), (2, 25.25), (3, 10.25), (4, 20.25), (4, 20.25), (6, 40.25)]
    assert tested == [(i, i, pytest.approx(value, abs=1e-3)) for i, value in expected]
    highest = [(5.25, True), (25.25, True), (25.25, False), (25.25, False), (25.25, False), (40.25, True)]
    aliases = {True: ["best", "latest"], False: ["latest"]}
    assert best == [(pytest.approx(value, abs=1e-3), aliases[is_best]) for value, is_best in highest]


def test_a_run_that_fails_has_the_summary_of_its_last_test(trained, tmp_path, recorded):
    with pytest.raises(NonFinite):
        trained(BrokenUpdate, mode="offline")
    (wandb_dir,) = (tmp_path / "run" / "wandb").glob("offline-run-*")
    summary = {}
    for record in recorded(wandb_dir, "summary"):
        summary |= record["update"]
    after = {"return_before_adaptation": 1.5, "return_after_adaptation": 5.25, "gain": 3.75}
    after |= {"best_return_after_adaptation": 5.25, "iteration": 0, "environment_steps": 0}
    assert {name: summary[name] for name in after} == pytest.approx(after, abs=1e-3)
    assert [record["exit_code"] for record in recorded(wandb_dir, "exit")] == [1]


def test_a_test_task_that_was_left_out_is_not_counted(trained, monkeypatch):
    """The first of eleven goals, whose only simulation diverges; with it one training simulation of twelve."""
    monkeypatch.setattr(Echo, "diverging", [0])
    with pytest.warns(UserWarning, match="diverged"):
        run = trained(episodes=4, test_tasks=11)
    rest = np.arange(2.0, 12)
    assert run.logged("validation/return_0_steps")[0][-1] == pytest.approx(rest.mean(), abs=1e-3)
    assert run.logged("validation/gain")[-1][-1] == pytest.approx(2.5 * rest.mean(), abs=1e-3)
    assert run.summary["gain"] == pytest.approx(2.5 * rest.mean(), abs=1e-3)
    numbers = [value for row in run.rows for name, value in row.items() if name != "validation/returns"]
    assert np.isfinite(np.array(numbers, dtype=float)).all()


def test_without_a_query_nothing_is_sampled_after_the_last_step(trained):
    """Two rounds of training episodes an iteration, before each of the two adaptation steps."""
    run = trained(WithoutQuery)
    rounds = [r for r in run.rounds if r.streams[0][1] == Purpose.TRAINING]
    assert [(r.streams[0][2], r.streams[0][3]) for r in rounds] == [(i, k) for i in range(3) for k in range(K)]
    expected = [[10 * i, 10 * i + 3, 10 * i + 6] for i in range(3)]
    np.testing.assert_allclose(Counting.learned_from, expected)
    assert run.state.environment_steps == 3 * STEPS * K / (K + 1)
    assert [row[:2] for row in run.logged("train/return_after")] == [(i, i * STEPS * K / (K + 1)) for i in range(3)]


class BrokenUpdate(Counting):
    """The second outer step fails."""

    def update(self, policy, params, state, experience):
        b1 = params["b1"]
        return params | {"b1": torch.where(b1 == 10, torch.nan, b1 + 10)}, state, {}


class Breaking(SGD):
    """At an output of 10 a step fails."""

    def descend(self, model, params, batch, scale=1.0):
        return params | {"b1": params["b1"].where(params["b1"] != 10, torch.nan)}


class BrokenAdaptation(Counting):
    """In the second iteration an inner step fails."""

    inside: ClassVar[SGD] = Breaking(steps=K)


@pytest.mark.parametrize(
    ("algorithm", "where"),
    [
        (BrokenUpdate, "b1 is not finite after the outer step"),
        (BrokenAdaptation, "b1 of task 0 is not finite after adaptation step 1"),
    ],
)
def test_parameters_that_are_not_finite_are_neither_used_nor_saved(trained, tmp_path, algorithm, where):
    with pytest.raises(NonFinite, match=f"iteration 1: {where}.*checkpoint of 1 iterations"):
        trained(algorithm)
    state = checkpoints.load(tmp_path / "run" / runs.CHECKPOINT)
    assert (state["iteration"], state["params"]["b1"].item()) == (1, 10)
    assert all(torch.isfinite(p).all() for p in state["params"].values())


@pytest.mark.parametrize("iteration", [0, 1, 3])
def test_a_failed_run_says_in_which_iteration(trained, monkeypatch, iteration):
    """Before the first iteration in the test, then in training, then in the last test."""
    step = Echo.step

    def failing(env, actions):
        monkeypatch.setattr(Echo, "diverging", [0, 1, 2] if actions[0, 0] / SCALE > 10 * iteration - 1 else [])
        return step(env, actions)

    monkeypatch.setattr(Echo, "step", failing)
    with pytest.raises(SimulationDiverged, match=f"iteration {iteration}: .*checkpoint of {iteration} iterations"):
        trained()
