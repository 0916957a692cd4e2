"""RL²: trained on a family with the least settings, its record, and its place in comparisons."""

import builtins
import json
from dataclasses import replace

import numpy as np
import pytest
from stable_baselines3.common.vec_env import VecNormalize

from metarl import config
from metarl.baselines import rl2
from metarl.baselines.rl2 import RL2, RL2Record
from metarl.commands import rl2 as command
from metarl.commands.results import rl2_row
from metarl.config import shipped
from metarl.errors import UserError
from metarl.experiment import Environment, Evaluation, Experiment, Tracking
from metarl.experiment.builders import fixed_tasks, make_vector_env
from metarl.results.records import META, Record, Training

TINY = RL2(
    env=Environment(id="envs:metarl/PointNav-v0", horizon=5),
    episodes=2,
    hidden_size=4,
    trials=3,
    environment_steps=90,
    epochs=1,
    minibatches=1,
    evaluation=Evaluation(tasks=2, episodes=3, every=2),
    tracking=Tracking(mode="disabled"),
    threads=1,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder, calls = tmp_path_factory.mktemp("runs") / "rl2", []
    with rl2.open_tracker(TINY, folder) as tracker:
        record = rl2.train(TINY, folder, tracker, lambda: calls.append(1))
    return folder, record, calls


def test_it_is_measured_on_the_tasks_that_others_are_measured_on(trained):
    folder, record, _ = trained
    env = make_vector_env(TINY.env, 2, 1)
    tasks = fixed_tasks(env, "held-out", 2)
    assert (record.split, record.tasks) == ("held-out", tuple(env.task_space.to_dict(task) for task in tasks))
    assert record.returns.shape == (2, 2)
    assert (record.returns < 0).all()
    assert (record.noise > 0).all()
    assert rl2.read(folder).to_json() == record.to_json()


def test_it_trains_for_whole_rollouts_and_is_tested_in_between(trained):
    folder, record, calls = trained
    assert record.training == {"seed": 0, "environment_steps": 90}
    assert len(calls) == 3
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    tested = [row["environment_steps"] for row in rows if "validation/return_episode_2" in row]
    assert tested == [0, 60, 90]
    assert any("sb3/train/value_loss" in row for row in rows)
    assert (folder / "model.zip").is_file()


def test_the_same_seed_gives_the_same_returns(trained, tmp_path):
    _, record, _ = trained
    for seed, same in ((0, True), (1, False)):
        settings = replace(TINY, seed=seed)
        with rl2.open_tracker(settings, tmp_path / str(seed)) as tracker:
            again = rl2.train(settings, tmp_path / str(seed), tracker)
        assert (again.returns == record.returns).all() == same


def test_memory_lasts_through_a_trial_and_no_longer():
    """A policy whose action is the number of steps it remembers: 0, 1, …, K T - 1 in every trial."""

    class Counting:
        num_timesteps, seen = 0, []

        def predict(self, observation, state, episode_start):
            state = np.where(episode_start, 0, 0 if state is None else state + 1)
            self.seen.append(state)
            return np.zeros((len(observation), 2)), state

    env = make_vector_env(TINY.env, 1, 1)
    from metarl.sb3.trial_env import TrialVecEnv

    normalized = VecNormalize(TrialVecEnv(env, 2, lambda n: env.task_space.grid(n)))
    rl2.measure(TINY, Counting(), normalized, "validation")
    assert [state.tolist() for state in Counting.seen] == [[t] * 6 for t in range(10)]


def test_the_command_shows_each_episode(trained, capsys):
    _, record, _ = trained
    text = config.to_dict(TINY)
    assert text["episodes"] == 2
    table = command.table(record)
    assert [column.header for column in table.columns][-1] == "mean return"
    assert table.row_count == 2
    assert "one seed" in table.caption


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a config: rl2/half_cheetah_dir, rl2/half_cheetah_vel, rl2/point_nav"),
        (["rl2/point_naw"], "Did you mean 'rl2/point_nav'?"),
        (["rl2/point_nav", "--trial", "3"], "--trial: no such flag"),
        (["point_nav/promp"], "algorithm"),
    ],
)
def test_what_the_command_cannot_train_ends_in_one_message(capsys, words, message):
    with pytest.raises(SystemExit):
        command.main(words)
    assert message in capsys.readouterr().err


def test_its_configs_are_none_of_train():
    with pytest.raises(UserError, match="episodes"):
        config.load(shipped.find("rl2/point_nav"), Experiment)


@pytest.mark.parametrize("content", ["", "[]", '{"returns": [[1]]}'])
def test_a_damaged_record_is_one_message(trained, tmp_path, content):
    (tmp_path / rl2.FILE).write_text(content)
    with pytest.raises(UserError, match="rl2.json is damaged"):
        rl2.read(tmp_path)
    (tmp_path / rl2.FILE).unlink()
    with pytest.raises(UserError, match="no finished run of metarl rl2"):
        rl2.read(tmp_path)


def test_minibatches_divide_a_rollout():
    with pytest.raises(ValueError, match="minibatches = 7 does not divide the 30 steps"):
        replace(TINY, minibatches=7)


def test_without_sb3_contrib_the_message_names_the_extra(monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name == "sb3_contrib":
            raise ModuleNotFoundError("No module named 'sb3_contrib'", name="sb3_contrib")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UserError, match=r"pip install 'metarl-suite\[recurrent\]'"):
        rl2.recurrent_ppo()


def measured(**changes):
    fields = {
        "environment": "metarl/Rail-v0", "options": {}, "horizon": 50, "split": "held-out",
        "tasks": tuple({"place": 0.5 * m} for m in range(4)), "units": {}, "seed": 0, "trials": 9,
        "training": {"seed": 0, "environment_steps": 1_600_000}, "returns": np.arange(8.0).reshape(4, 2),
        "noise": np.zeros(2),
    }  # fmt: skip
    return RL2Record(**fields | changes)


def test_it_has_a_table_of_its_own_with_a_note():
    """Its steps are single episodes."""
    returns = {META: np.zeros((4, 2))}
    like = Record(
        run="", environment="metarl/Rail-v0", algorithm="promp", split="held-out", episodes=7, horizon=50,
        later_steps=0.5, seed=0, training=Training(seed=0, iterations=1, environment_steps=1), versions={},
        tasks=measured().tasks, units={}, returns=returns, deterministic=returns,
    )  # fmt: skip
    text = rl2_row([measured(), measured(returns=np.arange(8.0).reshape(4, 2) + 2)], like).splitlines()
    assert text[1] == (
        "| Rail-v0, 4 held-out tasks, 9 trials on each, 1.6 M environment steps | episode 1 | episode 2 | gain |"
    )
    assert text[3] == "| RL² | 4.0 [-8.7, 16.7] | 5.0 [-7.7, 17.7] | 1.0 [1.0, 1.0] |"
    assert "takes 7 episodes" in text[-1]
    with pytest.raises(UserError, match="the others on other ones"):
        rl2_row([measured(tasks=tuple({"place": 9.0} for _ in range(4)))], like)
