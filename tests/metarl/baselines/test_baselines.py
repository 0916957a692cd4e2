"""The numbers of a comparison with baselines, computed by hand, and what takes part in one."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from metarl import runs
from metarl.algorithms.maml_trpo import MAMLTRPO
from metarl.algorithms.reptile import Reptile
from metarl.baselines import (
    PPOResult,
    SampleEfficiency,
    gather,
    mean_metrics,
    minibatches,
    points,
    ppo_candidates,
    ppo_jobs,
    prepare,
    rl2,
)
from metarl.baselines.rl2 import RL2Record
from metarl.baselines.setup import ORACLE, PPO_META, PPO_PRETRAINED, PPO_SCRATCH, PRETRAINED, advice, reward_scale
from metarl.errors import RunFailed, UserError
from metarl.experiment import Environment, Evaluation, Experiment, Policy
from metarl.experiment.builders import initial_params, make_policy, make_vector_env
from metarl.experiment.tuning import Tuned, adaptation_candidates
from metarl.inner.sb3 import SB3PPO
from metarl.inner.sgd import SGD
from metarl.policy_gradient import normalizer
from metarl.results import baseline_record
from metarl.results.records import META, RANDOM
from metarl.runs.directory import State

EACH = 100


def measured(*means, spread=2.0):
    """Two tasks, as far from the mean on either side; a test after every rollout."""
    x = np.array(means, dtype=float)
    return EACH * np.arange(len(x)), np.stack([x - spread, x + spread])


def results(scratch=(-50, -40, -30, -10), meta=(-40, -20), oracle=(-12.0, -8.0), **more):
    methods = {META: measured(*meta), RANDOM: measured(-50, -48), PPO_SCRATCH: measured(*scratch), **more}
    return SampleEfficiency(methods, None if oracle is None else np.array(oracle), EACH)


# ------------------------------------------------------------------------------------ 90% of the oracle
def test_90_percent_is_of_the_way_from_the_random_initialization_to_the_oracle():
    assert results().threshold == pytest.approx(-50 + 0.9 * 40)
    assert results(oracle=(40.0, 60.0)).threshold == pytest.approx(-50 + 0.9 * 100)
    assert results(oracle=None).threshold is None
    assert results(oracle=(-60.0, -50.0)).threshold is None


def test_steps_to_90_percent_are_those_at_the_first_test_that_reached_it():
    found = results(scratch=(-50, -14, -40, -10), meta=(-40, -14.1))
    column = "steps to 90% of the oracle"
    assert {row["label"]: row[column] for row in found.rows} == {META: None, RANDOM: None, PPO_SCRATCH: EACH}
    assert found.steps_to(PPO_SCRATCH, -10) == 3 * EACH
    assert found.steps_to(META, -40) == 0
    assert column not in results(oracle=None).rows[0]


def test_rows_have_the_return_after_the_data_of_one_adaptation_step():
    row = results().rows[-1]
    assert row["label"] == PPO_SCRATCH
    assert (row["return after 100 steps"], row["return at the end"], row["steps at the end"]) == (-40, -10, 300)


def test_a_task_that_was_left_out_is_not_counted():
    methods = dict(results().methods)
    methods[PPO_SCRATCH][1][0, 3] = np.nan
    assert results().steps_to(PPO_SCRATCH, -8) is None
    assert SampleEfficiency(methods, np.array([np.nan, -10.0]), EACH).steps_to(PPO_SCRATCH, -8) == 3 * EACH
    assert SampleEfficiency(methods, np.array([np.nan, -10.0]), EACH).threshold == pytest.approx(-14)


# ------------------------------------------------------------------------------------------- overtaking
@pytest.mark.parametrize(
    ("scratch", "overtakes"),
    [
        ((-50, -40, -30, -10), 3 * EACH),
        ((-50, -40, -19, -10), 2 * EACH),
        ((-50, -19, -21, -10), 3 * EACH),  # from there on it stays above
        ((-50, -40, -30, -20), None),  # as good is not better
        ((-50, -19, -10, -21), None),
        ((-30, -10, -10, -10), 0),
    ],
)
def test_where_ppo_overtakes(scratch, overtakes):
    found = results(scratch=scratch)
    assert found.overtakes(PPO_SCRATCH) == overtakes
    assert found.overtaking == ((PPO_SCRATCH, overtakes) if overtakes else None)
    verb = {None: "does not overtake", 0: "is above"}.get(overtakes, "overtakes")
    assert found.remarks[0].startswith(f"PPO from scratch {verb} the meta-learned policy")


def test_overtaking_in_words():
    assert results().remarks[0] == (
        "PPO from scratch overtakes the meta-learned policy after 300 steps on the new task, 3 times those of one "
        "adaptation step: its return there is -10.0 (tasks ±2.8), the difference 10.0 (tasks ±0.0). "
        "The meta-learned policy adapts for the first 100 of them."
    )
    assert "within 300 steps on the new task" in results(scratch=(-50, -40, -30, -25)).remarks[0]


def test_a_difference_within_the_noise_is_no_overtaking():
    steps, noisy = EACH * np.arange(2), np.stack([np.full(6, -50.0), [-40.0, -30, -20, -10, 0, -15]], axis=1)
    found = SampleEfficiency({META: (steps, np.full((6, 2), -20.0)), PPO_SCRATCH: (steps, noisy)}, None, EACH)
    assert noisy[:, 1].mean() > -20
    assert found.overtakes(PPO_SCRATCH) is None


def test_the_meta_learned_policy_is_taken_after_as_many_steps_and_then_after_its_last():
    """At its first test PPO has the better return, but not that of as many steps."""
    steps, returns = measured(-50, -39, -19)
    found = results(meta=(-40, -20, -15), **{PPO_SCRATCH: (3 * steps, returns)})
    assert found.overtakes(PPO_SCRATCH) is None
    assert results(meta=(-40, -38, -20), **{PPO_SCRATCH: (3 * steps, returns)}).overtakes(PPO_SCRATCH) == 6 * EACH


def test_remarks_say_what_90_percent_is_or_why_there_is_none():
    assert "mean return of -14.0: that of the random initialization, -50.0" in results().remarks[1]
    assert "oracle's mean return, -55.0, is not above" in results(oracle=(-60.0, -50.0)).remarks[1]
    assert len(results(oracle=None).remarks) == 1


# ------------------------------------------------------------------------------------------- the record
def test_the_file_is_what_the_page_reads(tmp_path):
    found = results()
    (tmp_path / "baseline.json").write_text(json.dumps(found.to_json({"split": "held-out"}), allow_nan=False))
    read = baseline_record.read(tmp_path / "baseline.json")
    assert list(read.curves) == [META, RANDOM, PPO_SCRATCH, ORACLE]
    steps, curve = read.curves[PPO_SCRATCH]
    assert (steps.tolist(), [e.value for e in curve]) == ([0, 100, 200, 300], [-50, -40, -30, -10])
    assert curve[0].spread == pytest.approx(2 * np.sqrt(2))
    assert read.overtaking == (PPO_SCRATCH, 300)
    assert read.curves[ORACLE][0].tolist() == [0, 300]
    assert read.table == found.rows
    assert read.remarks == found.remarks
    data = json.loads((tmp_path / "baseline.json").read_text())
    assert data["returns"][META] == [[-42, -22], [-38, -18]]
    assert data["split"] == "held-out"


def test_what_is_undefined_is_null_in_the_file():
    methods = dict(results().methods)
    methods[META][1][:, 1] = np.nan
    data = json.loads(json.dumps(SampleEfficiency(methods, None, EACH).to_json({}), allow_nan=False))
    assert data["curves"][META]["mean"] == [-40, None]
    assert data["table"][0]["return at the end"] is None


def test_metrics_are_means_over_the_tasks_that_have_them():
    rows = [[(10, {"sb3/rollout/x": 1.0, "sb3/time/fps": 7.0}), (20, {"sb3/rollout/x": 3.0, "sb3/train/y": 5.0})]]
    rows.append([(10, {"sb3/rollout/x": 2.0}), (20, {"sb3/rollout/x": None, "sb3/train/y": 6.0})])
    learned = [PPOResult(np.zeros(1), own) for own in rows]
    assert mean_metrics(PPO_META, learned) == {
        10: {"sb3/from_meta_learned/rollout/x": 1.5},
        20: {"sb3/from_meta_learned/rollout/x": 3.0, "sb3/from_meta_learned/train/y": 5.5},
    }


# ----------------------------------------------------------------------------------------- how PPO learns
def test_test_points():
    assert points(50) == (0, 1, 2, 3, 5, 10, 20, 50)
    assert points(4) == (0, 1, 2, 3, 4)
    assert points(1) == (0, 1)


def test_minibatches_share_a_rollout_evenly():
    assert minibatches(2000) == 40
    assert minibatches(128) == 2
    assert minibatches(67) == 1


def test_rewards_are_scaled_to_discounted_returns_of_one():
    assert reward_scale([np.array([-20.0, 20.0]), np.array([5.0])], horizon=10, gamma=1.0) == 0.05
    assert reward_scale([np.array([-20.0, np.nan])], horizon=10, gamma=0.5) == 0.3  # 1 / (2 * 1.998)
    assert reward_scale([np.zeros(3)], horizon=10, gamma=0.9) == 1.0


# ------------------------------------------------------------------------------------------ who takes part
ADAPTS = Experiment(
    env=Environment(id="envs:metarl/PointNav-v0", horizon=5),
    policy=Policy(hidden_sizes=(4,)),
    evaluation=Evaluation(tasks=3, episodes=2),
)
JOINT = replace(ADAPTS, algorithm=MAMLTRPO(inner=SGD(steps=0)))
SEES = replace(JOINT, env=replace(ADAPTS.env, options={"goal_visible": True}))


def saved(folder, experiment, seed=0):
    params = initial_params(
        make_policy(experiment, make_vector_env(experiment.env, 1, 1)), replace(experiment, seed=seed)
    )
    runs.create(folder, experiment)
    runs.save(folder, experiment, State(0, 0, params, algorithm_state={}, test_tasks=[]))
    return folder


@pytest.fixture
def adapts(tmp_path):
    return saved(tmp_path / "adapts", ADAPTS)


def test_every_learner_starts_from_parameters_of_its_own(adapts, tmp_path):
    setup = prepare(adapts, pretrained=saved(tmp_path / "joint", JOINT, seed=1), tasks=2)
    assert list(setup.starts) == [PPO_SCRATCH, PPO_META, PPO_PRETRAINED]
    first = setup.starts[PPO_SCRATCH]
    assert (setup.starts[PPO_META]["w0"] == first["w0"]).all()  # nothing was trained here
    assert not (setup.starts[PPO_PRETRAINED]["w0"] == first["w0"]).all()
    assert (setup.starts[PPO_PRETRAINED]["value.w0"] == first["value.w0"]).all()


def test_ppo_goes_on_without_a_latent_variable_that_only_the_meta_learned_policy_has(tmp_path):
    """It starts from a policy that acts alike, and a pretrained policy needs no latent variable to be compared."""
    folder = saved(tmp_path / "a", replace(ADAPTS, policy=replace(ADAPTS.policy, latent_size=2)))
    run = runs.load(folder, runs.read_experiment(folder))
    moved = {name: p + 0.1 for name, p in run.params.items()}
    runs.save(folder, runs.read_experiment(folder), replace(run, params=moved))
    setup = prepare(folder, pretrained=saved(tmp_path / "joint", JOINT), tasks=2, steps=1)
    observations = torch.randn(1, 5, 2, generator=torch.Generator().manual_seed(0))
    start = {name: p for name, p in setup.starts[PPO_META].items() if not name.startswith("value.")}
    torch.testing.assert_close(setup.ppo_policy.command(start, observations), setup.policy.command(moved, observations))
    assert {name: returns.shape for name, returns in setup.adapt({}).items()} == dict.fromkeys(
        (META, RANDOM, PRETRAINED), (2, 2)
    )
    job, _ = ppo_jobs(setup, PPO_META, SB3PPO(steps=1, minibatches=1), {})
    job.run()
    assert job.read().returns.shape == (2,)


def test_step_sizes_stay_behind_and_a_critic_comes_along(tmp_path):
    sizes = prepare(saved(tmp_path / "a", replace(ADAPTS, algorithm=MAMLTRPO(inner=SGD(learned_step_sizes=True)))))
    assert len(sizes.run.state.params) > len(sizes.policy.names)
    assert {name for name in sizes.starts[PPO_META] if not name.startswith("value.")} == {
        *sizes.policy.names,
        *normalizer.NAMES,
    }
    critic = prepare(saved(tmp_path / "b", replace(ADAPTS, algorithm=Reptile(inner=SB3PPO(minibatches=1)))), seed=5)
    learned = critic.run.state.params["value.w0"]
    assert (critic.starts[PPO_META]["value.w0"] == learned).all()
    assert not (critic._with_critic({k: learned for k in critic.policy.names})["value.w0"] == learned).all()


def test_a_result_is_found_again_only_where_all_is_the_same(adapts):
    def files(rollouts=2, chosen=None, **changes):
        setup, ppo = prepare(adapts, tasks=2, **changes), SB3PPO(steps=rollouts, minibatches=1)
        return [job.file for label in setup.starts for job in ppo_jobs(setup, label, ppo, chosen or {})]

    own = files()
    assert len(set(own)) == 4
    assert files() == own
    chosen = files(chosen={"action_scale": 0.3}), files(chosen={"learning_rate": 0.1})
    for other in (files(3), files(seed=1), files(episodes=3), files(split="out-of-range"), *chosen):
        assert not {*own} & {*other}
    folder = adapts.rename(adapts.with_name("old"))
    saved(adapts, ADAPTS, seed=1)
    assert folder.exists()
    assert [file in own for file in files()] == [True, True, False, False]  # from scratch, from the meta-learned


@pytest.mark.parametrize("content", ["", "[]", '{"returns": [1]}', '{"returns": [1, Infinity, 2], "metrics": []}'])
def test_a_damaged_result_is_one_message_that_names_the_file(adapts, content):
    [job] = ppo_jobs(prepare(adapts, tasks=1), PPO_META, SB3PPO(steps=2, minibatches=1), {})
    job.file.parent.mkdir()
    job.file.write_text('{"returns": [1, null, 3], "metrics": [[10, {"sb3/x": 1.0}]]}')
    assert job.read().metrics == [(10, {"sb3/x": 1.0})]
    job.file.write_text(content)
    with pytest.raises(UserError, match=f"{job.file.name} is damaged .*Remove it"):
        job.read()


def test_ppo_has_as_many_candidates_as_adaptation(adapts, tmp_path):
    """Where it starts from a trained policy, the action scale is given, and so is what a flag names."""
    setup = prepare(adapts, pretrained=saved(tmp_path / "joint", JOINT, seed=1), tasks=2, tune=3)
    scratch = ppo_candidates(setup, PPO_SCRATCH)
    assert len({*map(str, scratch)}) == len(adaptation_candidates(ADAPTS, 3)) == 12
    assert {candidate["action_scale"] for candidate in ppo_candidates(setup, PPO_PRETRAINED)} == {0.1}
    assert ppo_candidates(setup, PPO_SCRATCH, 0.01, 0.5) == [{"action_scale": 0.5, "learning_rate": 0.01}]
    assert len(ppo_candidates(setup, PPO_META, 0.01, 0.5)) == 1
    untuned = prepare(adapts, tasks=2)
    assert ppo_candidates(untuned, PPO_SCRATCH) == [{"action_scale": 0.1, "learning_rate": 1e-3}]
    assert untuned.tune() == {}


def test_candidates_learn_validation_tasks_in_files_of_their_own(adapts):
    setup, ppo = prepare(adapts, tasks=2, tune=3), SB3PPO(steps=2, minibatches=1)
    assert (setup.tuned_split, len(setup.tuned_on)) == ("validation", 3)
    assert not {*setup.tuned_on} & {*setup.tasks}
    jobs = ppo_jobs(setup, PPO_SCRATCH, ppo, {"action_scale": 0.3, "learning_rate": 0.02}, setup.tuned_on)
    assert [job.task for job in jobs] == setup.tuned_on
    assert {(job.policy.action_scale, job.ppo.learning_rate) for job in jobs} == {(0.3, 0.02)}
    assert {job.file.parent.name for job in jobs} == {"candidates"}


def test_a_candidate_that_diverges_has_no_returns_and_the_others_go_on(adapts):
    setup, ppo = prepare(adapts, tasks=1, tune=1), SB3PPO(steps=2, minibatches=1)
    [job] = ppo_jobs(setup, PPO_SCRATCH, ppo, {}, setup.tuned_on)
    lost = replace(job, params=job.params | {"w0": np.full_like(job.params["w0"], np.nan)})
    lost.run()
    assert np.isnan(lost.read().returns).all()
    with pytest.raises(RunFailed, match="A smaller --learning-rate may help"):
        replace(lost, candidate=False).run()


def test_what_was_chosen_is_in_the_file_and_in_words():
    tuned = {PPO_SCRATCH: Tuned(chosen={"action_scale": 0.3}, split="validation", tasks=4, candidates=({},) * 12)}
    found = replace(results(), tuned=tuned)
    assert found.remarks[1] == (
        "Chosen on 4 validation tasks, with the number of candidates: PPO from scratch: action scale 0.3 (of 12)."
    )
    assert found.to_json({})["tuned"][PPO_SCRATCH]["chosen"] == {"action_scale": 0.3}


def test_twenty_tasks_or_as_many_as_there_are(adapts, tmp_path):
    assert len(prepare(adapts).tasks) == 20
    two = Experiment(env=Environment(id="envs:metarl/HalfCheetahDir-v0"), evaluation=Evaluation(split="train", tasks=2))
    assert len(prepare(saved(tmp_path / "two", two)).tasks) == 2
    with pytest.raises(UserError, match="21 train tasks were asked for, but only 2"):
        prepare(tmp_path / "two", tasks=21)


@pytest.mark.parametrize(
    ("flag", "experiment", "message"),
    [
        (
            "pretrained",
            ADAPTS,
            "was trained to adapt: algorithm.inner.steps = 1, expected 0. metarl train point_nav/pre",
        ),
        ("pretrained", SEES, "(?s)cannot be compared.*env.options.goal_visible is True"),
        ("pretrained", replace(JOINT, env=replace(JOINT.env, horizon=6)), "env.horizon is 6, in .*adapts 5"),
        ("pretrained", replace(JOINT, policy=Policy(hidden_sizes=(5,))), "policy.hidden_sizes is"),
        ("oracle", JOINT, "does not see its task: env.options.goal_visible is False. metarl train point_nav/oracle"),
        ("oracle", replace(SEES, algorithm=ADAPTS.algorithm), "was trained to adapt"),
        ("oracle", replace(SEES, env=replace(SEES.env, id="envs:metarl/ReacherGoal-v0")), "env.id is 'envs:metarl/Re"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(adapts, tmp_path, flag, experiment, message):
    with pytest.raises(UserError, match=message):
        prepare(adapts, **{flag: saved(tmp_path / "other", experiment)})


def test_an_oracle_of_other_tasks_is_refused(tmp_path):
    vel = Environment(id="envs:metarl/HalfCheetahVel-v0", horizon=5)
    other = replace(vel, options={"goal_visible": True, "velocity_range": [0.0, 3.0]})
    folders = [saved(tmp_path / "run", replace(ADAPTS, env=vel)), saved(tmp_path / "other", replace(SEES, env=other))]
    with pytest.raises(UserError, match=r"env.options.velocity_range is \[0.0, 3.0\], in .*run '\(absent\)'"):
        prepare(folders[0], oracle=folders[1])


def recurrent(folder, tasks, **changes):
    fields = {
        "environment": "envs:metarl/PointNav-v0", "options": {}, "horizon": 5, "split": "held-out",
        "tasks": tuple(tasks), "units": {}, "seed": 0, "trials": 9, "noise": np.zeros(3),
        "training": {"seed": 0, "environment_steps": 700}, "returns": np.array([[-9.0, -5, -4], [-7, -5, -2]]),
    }  # fmt: skip
    folder.mkdir()
    (folder / rl2.FILE).write_text(json.dumps(RL2Record(**fields | changes).to_json()))
    return folder


def test_rl2_takes_part_with_the_episodes_of_its_trials(adapts, tmp_path):
    tasks = prepare(adapts, tasks=2).as_data
    setup = prepare(adapts, tasks=2, recurrent=recurrent(tmp_path / "rl2", tasks))
    found = gather(setup, {META: np.zeros((2, 2)), RANDOM: np.zeros((2, 2))}, None, {}, (0,), {})
    steps, returns = found.methods["RL²"]
    assert steps.tolist() == [0, 5, 10]  # of the task, before each episode
    assert returns.mean(0).tolist() == [-8, -5, -3]
    assert setup.trained_before.endswith("RL² 700")
    row = next(row for row in found.rows if row["label"] == "RL²")
    assert row["return at the end"] == -3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"horizon": 6}, "env.horizon differ: 6 and 5"),
        ({"split": "validation"}, "the split differ: 'validation' and 'held-out'"),
        ({"options": {"radius": 2.0}}, "env.options differ"),
        ({"environment": "envs:metarl/ReacherGoal-v0"}, "env.id differ: 'ReacherGoal-v0' and 'PointNav-v0'"),
    ],
)
def test_rl2_of_another_protocol_is_refused(adapts, tmp_path, changes, message):
    folder = recurrent(tmp_path / "rl2", prepare(adapts, tasks=2).as_data, **changes)
    with pytest.raises(UserError, match=message):
        prepare(adapts, tasks=2, recurrent=folder)
    with pytest.raises(UserError, match="the number of test tasks differ: 2 and 3"):
        prepare(adapts, tasks=3, recurrent=recurrent(tmp_path / "other", prepare(adapts, tasks=2).as_data))


def test_an_oracle_may_have_a_policy_of_its_own(adapts, tmp_path):
    oracle = saved(tmp_path / "oracle", replace(SEES, policy=Policy(hidden_sizes=(6,))))
    returns = prepare(adapts, oracle=oracle, tasks=3).ask_oracle()
    assert returns.shape == (3,)
    assert (returns < 0).all()


@pytest.mark.parametrize(("experiment", "flag"), [(JOINT, "--pretrained"), (SEES, "--oracle")])
def test_what_does_not_adapt_takes_part_by_another_flag(tmp_path, experiment, flag):
    with pytest.raises(UserError, match=f"give it as {flag}"):
        prepare(saved(tmp_path / "run", experiment))


def test_advice_names_the_config_of_the_family():
    cheetah = replace(ADAPTS, env=Environment(id="envs:metarl/HalfCheetahVel-v0"))
    assert advice(cheetah, "oracle").startswith("metarl train half_cheetah_vel/oracle trains one")
    other = replace(ADAPTS, env=Environment(id="envs:metarl/Walker2dVel-v0"))
    assert advice(other, "pretrained").startswith("the config point_nav/pretrained is an example")
