"""Comparisons of runs whose returns say which algorithm, seed, task and step they are of."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from metarl import runs
from metarl.algorithms import in_short
from metarl.algorithms.maml_sgd import MAMLSGD
from metarl.algorithms.maml_trpo import MAMLTRPO
from metarl.algorithms.promp import ProMP
from metarl.algorithms.reptile import Reptile
from metarl.commands.results import markdown
from metarl.errors import UserError
from metarl.experiment import Environment, Evaluation, Experiment, Tracking
from metarl.experiment.tuning import Tuned
from metarl.figures import style
from metarl.inner import PPO, SGD
from metarl.results import comparison
from metarl.results.comparison import tables
from metarl.results.records import META, RANDOM, Record, Training, file_of
from metarl.statistics import estimate, interquartile_mean, plain, probability_of_improvement, worst_decile
from metarl.system.files import write_atomically

M, K = 5, 2
MAML = Experiment(env=Environment(id="envs:metarl/Rail-v0", horizon=50))
REPTILE = replace(MAML, algorithm=Reptile())


def returns(level, seed):
    """(M, K+1): entry (m, k) is level + 100 seed + 10 m + k."""
    return level + 100.0 * seed + 10.0 * np.arange(M)[:, None] + np.arange(K + 1)


@pytest.fixture
def evaluated(tmp_path, monkeypatch):
    """evaluated(name, experiment, level, …): a run directory with an evaluation; its path from here."""
    monkeypatch.chdir(tmp_path)

    def make(name, experiment=MAML, level=0.0, iterations=100, **changes):
        x = returns(level, experiment.seed)
        fields = {
            "run": name,
            "environment": experiment.env.id,
            "algorithm": experiment.algorithm.name,
            "split": "held-out",
            "episodes": 7,
            "horizon": experiment.env.horizon,
            "later_steps": 0.5,
            "seed": 4,
            "training": Training(
                seed=experiment.seed, iterations=iterations, environment_steps=1_000_000 * (1 + experiment.seed)
            ),
            "versions": {},
            "tasks": tuple({"place": 2.0 - 0.5 * m} for m in range(M)),
            "units": {"place": "m"},
            "returns": {META: x, RANDOM: x - 5000},
            "deterministic": {META: x + 0.5, RANDOM: x - 5000},
        }
        record = Record(**fields | changes)
        run_dir = tmp_path.relative_to(tmp_path) / name
        if not (run_dir / "config.yaml").exists():
            runs.create(run_dir, experiment)
        file_of(run_dir, record.split).write_text(json.dumps(record.to_json()))
        return run_dir

    return make


def seeds(evaluated, name, experiment, level, chosen=(0, 1, 2), **changes):
    return [evaluated(f"{name}-{s}", replace(experiment, seed=s), level, **changes) for s in chosen]


@pytest.fixture
def three_and_two(evaluated):
    """Three seeds of MAML, two of Reptile, which is better by 50."""
    return seeds(evaluated, "maml", MAML, 0) + seeds(evaluated, "reptile", REPTILE, 50, (0, 1))


# --------------------------------------------------------------------------------------------------- entries
def test_runs_that_differ_in_their_seed_alone_form_one_entry(three_and_two):
    shuffled = [three_and_two[i] for i in (2, 4, 0, 1, 3)]
    maml, reptile = comparison.load(shuffled)
    assert (maml.label, reptile.label) == ("maml_trpo", "reptile")
    assert (maml.seeds, reptile.seeds) == ([0, 1, 2], [0, 1])
    assert reptile.environment_steps == [1_000_000, 2_000_000]
    np.testing.assert_array_equal(maml.returns, np.stack([returns(0, s) for s in range(3)]))
    np.testing.assert_array_equal(reptile.deterministic, np.stack([returns(50.5, s) for s in range(2)]))
    assert comparison.to_json([maml, reptile]) == comparison.to_json(comparison.load(three_and_two))


def test_what_does_not_change_the_training_does_not_part_an_entry(evaluated):
    other = replace(
        MAML, seed=1, threads=2, tracking=Tracking(project="x"), evaluation=Evaluation(every=3), iterations=7
    )
    [entry] = comparison.load([evaluated("a"), evaluated("b", other)])
    assert entry.seeds == [0, 1]


@pytest.mark.parametrize(
    "change",
    [
        {"algorithm": MAMLTRPO(max_kl=0.02)},
        {"policy": replace(MAML.policy, hidden_sizes=(32,))},
        {"sampling": replace(MAML.sampling, tasks=7)},
    ],
)
def test_what_changes_the_training_does(evaluated, change):
    entries = comparison.load([evaluated("a"), evaluated("b", replace(MAML, seed=1, **change))])
    assert [entry.label for entry in entries] == ["a", "b"]


def test_a_run_that_was_evaluated_earlier_in_its_training_is_another_entry(evaluated):
    longer = evaluated("b", replace(MAML, seed=1), iterations=200)
    assert len(comparison.load([evaluated("a"), longer])) == 2


@pytest.mark.parametrize(
    ("algorithm", "label"),
    [
        (MAMLTRPO(), "maml_trpo"),
        (MAMLTRPO(first_order=True), "maml_trpo, first order"),
        (MAMLTRPO(inner=SGD(learned_step_sizes=True)), "maml_trpo, Meta-SGD"),
        (MAMLTRPO(inner=SGD(last_layer_only=True, loss="dice")), "maml_trpo, ANIL, dice"),
        (MAMLSGD(exploration_credit=1, inner=SGD(loss="reinforce")), "maml_sgd, E-MAML, reinforce"),
        (ProMP(), "promp"),
        (ProMP(inner=SGD(steps=2)), "promp, 2 steps"),
        (MAMLTRPO(inner=SGD(steps=0)), "maml_trpo, no adaptation"),
        (Reptile(), "reptile"),
        (Reptile(inner=SGD(steps=1)), "reptile, 1 step"),
        (Reptile(inner=PPO()), "reptile, ppo inside"),
    ],
)
def test_an_algorithm_in_short(algorithm, label):
    assert in_short(algorithm) == label


def test_an_ambiguous_label_is_the_folder_and_an_ambiguous_folder_the_path(evaluated):
    wide = replace(MAML, algorithm=MAMLTRPO(max_kl=0.02))
    named = [evaluated("x/plain"), evaluated("x/wide", wide), evaluated("x/reptile", REPTILE)]
    assert [entry.label for entry in comparison.load(named)] == ["plain", "wide", "reptile"]
    alike = [evaluated("first/run"), evaluated("second/run", wide)]
    assert [entry.label for entry in comparison.load(alike)] == ["first/run", "second/run"]


def test_labels_can_be_given(three_and_two):
    entries = comparison.load(three_and_two, labels=["ours", "theirs"])
    assert [(entry.label, len(entry.runs)) for entry in entries] == [("ours", 3), ("theirs", 2)]
    with pytest.raises(UserError, match=r"--labels a, b, c: 3 for 2 entries.*\n  maml-0, maml-1, maml-2\n  reptile-0"):
        comparison.load(three_and_two, labels=["a", "b", "c"])
    with pytest.raises(UserError, match="'a' is given twice"):
        comparison.load(three_and_two, labels=["a", "a"])


TUNED = Tuned(chosen={"step_size": 0.2, "later_steps": 1.0}, split="validation", tasks=3, candidates=({},) * 12)


def test_chosen_settings_are_in_the_table_and_in_the_numbers(evaluated, capsys):
    entries = comparison.load(seeds(evaluated, "maml", MAML, 0, tuned={META: TUNED}))
    console = Console(width=200)
    console.print(comparison.table(entries))
    told = capsys.readouterr().out
    assert "step size 0.2, later steps whole" in told
    assert "adapts with: what is best of the same candidates on 3 validation tasks" in told
    data = comparison.to_json(entries)
    assert data["tuned_on"] == "3 validation tasks"
    assert data["entries"][0]["tuned"] == [TUNED.chosen] * 3


def short(x):
    return {META: x, RANDOM: x}


@pytest.mark.parametrize(
    ("environment", "changes", "message"),
    [
        (
            {"id": "envs:metarl/Road-v0"},
            {},
            "env.id: 'metarl/Rail-v0' and 'metarl/Road-v0'\n  Compare runs of one family",
        ),
        ({"horizon": 60}, {}, "env.horizon: 50 and 60\n  Compare runs of one family"),
        ({"options": {"wide": True}}, {}, "env.options: {} and {'wide': True}\n  Compare runs of one family"),
        ({}, {"episodes": 9}, "episodes: 7 and 9\n"),
        ({}, {"later_steps": 1.0}, "step size of later steps: 0.5 and 1.0\n"),
        ({}, {"seed": 0}, "seed of the evaluation: 4 and 0\n"),
        ({}, {"tuned": {META: TUNED}}, "step size of later steps: 0.5 and 'chosen'\n"),
        (
            {},
            {"returns": short(np.zeros((M, 4))), "deterministic": short(np.zeros((M, 4)))},
            "adaptation steps: 2 and 3\n",
        ),
        (
            {},
            {"tasks": ({"place": 2.0},), "returns": short(np.zeros((1, 3))), "deterministic": short(np.zeros((1, 3)))},
            "number of test tasks: 5 and 1\n.*test task 1: {'place': 1.5} and None\n.*… and 1 more",
        ),
        (
            {},
            {"tasks": tuple({"place": 2.0 - 0.5 * m - (m == 3)} for m in range(M))},
            "test task 3: {'place': 0.5} and {'place': -0.5}\n",
        ),
    ],
)
def test_runs_that_were_tested_otherwise_are_refused_with_both_values(evaluated, environment, changes, message):
    env = replace(MAML.env, **environment)
    run_dirs = [evaluated("a"), evaluated("b", replace(MAML, env=env, seed=1), **changes)]
    with pytest.raises(UserError, match=f"(?s)a and b were not tested in the same way:\n  {message}") as error:
        comparison.load(run_dirs)
    again = "metarl evaluate b --split held-out --tasks 5 --steps 2 --episodes 7 --later-steps 0.5 --seed 4"
    assert (again in str(error.value)) == (not environment)


def test_the_module_that_registers_a_family_plays_no_part(evaluated):
    env = replace(MAML.env, id="elsewhere:metarl/Rail-v0")
    assert len(comparison.load([evaluated("a"), evaluated("b", replace(MAML, env=env))])) == 2


def test_a_run_without_an_evaluation_is_told_how_to_get_one(evaluated):
    run_dirs = [evaluated("a"), evaluated("b b", REPTILE)]
    file_of(run_dirs[1], "held-out").unlink()
    way = "metarl evaluate 'b b' --split held-out --tasks 5 --steps 2 --episodes 7 --later-steps 0.5 --seed 4"
    with pytest.raises(UserError, match=f"b b was not evaluated on held-out tasks.*\n  .*{way}"):
        comparison.load(run_dirs)
    with pytest.raises(UserError, match="metarl evaluate 'b b' --split held-out$"):
        comparison.load(run_dirs[::-1])
    with pytest.raises(UserError, match=r"on heldout tasks.*Did you mean 'evaluation-held-out.json'\?"):
        comparison.load(run_dirs, "heldout")


def test_a_folder_without_a_run(evaluated, tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        comparison.load([evaluated("a"), tmp_path / "nothing"])


def test_one_run_does_not_count_twice(evaluated, tmp_path):
    run_dir, copy = evaluated("a"), evaluated("copy")
    for twice in ([run_dir, run_dir], [run_dir, tmp_path / "a"], [run_dir, copy]):
        with pytest.raises(UserError, match=f"a and .*{twice[1].name} are the same run.*seed 0"):
            comparison.load(twice)


# ---------------------------------------------------------------------------------------------------- splits
def test_the_same_entries_on_another_split(evaluated, three_and_two):
    entries = comparison.load(three_and_two, labels=["ours", "theirs"])
    assert comparison.not_evaluated(entries, "out-of-range") == three_and_two
    beyond = {"split": "out-of-range", "tasks": tuple({"place": 3.0 + m} for m in range(M))}
    seeds(evaluated, "maml", MAML, -1000, **beyond)
    assert comparison.not_evaluated(entries, "out-of-range") == three_and_two[3:]
    seeds(evaluated, "reptile", REPTILE, -2000, (0, 1), **beyond)
    assert comparison.not_evaluated(entries, "out-of-range") == []
    maml, reptile = comparison.on_split(entries, "out-of-range")
    assert (maml.label, reptile.label) == ("ours", "theirs")
    assert (maml.seeds, reptile.seeds) == ([0, 1, 2], [0, 1])
    np.testing.assert_array_equal(reptile.returns, np.stack([returns(-2000, s) for s in (0, 1)]))


def test_another_split_has_to_be_evaluated_in_the_same_way_after_the_same_training(evaluated):
    run_dir = evaluated("a")
    entries = comparison.load([run_dir])
    with pytest.raises(UserError, match="not evaluated on out-of-range"):
        comparison.on_split(entries, "out-of-range")
    evaluated("a", split="out-of-range", iterations=200)
    with pytest.raises(UserError, match="held-out tasks after 100 .* on out-of-range tasks after 200"):
        comparison.on_split(entries, "out-of-range")
    evaluated("a", split="out-of-range", episodes=3)
    with pytest.raises(UserError, match="episodes: 7 and 3"):
        comparison.on_split(entries, "out-of-range")


# --------------------------------------------------------------------------------------------------- results
def printed(entries, width=200):
    console = Console(width=width, file=io.StringIO())
    console.print(comparison.table(entries))
    return console.file.getvalue()


def rows(text):
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]


def test_the_table_has_a_row_for_each_entry_in_both_parts(three_and_two):
    entries = comparison.load(three_and_two, labels=["our [1] way", "theirs"])
    text = printed(entries)
    found = rows(text)
    assert found[0] == ["Rail-v0, 5 held-out tasks, 7 episodes a step"]
    assert ["seeds", "steps", "after 0 steps", "after 1 step", "after 2 steps"] in found
    x, y = np.stack([returns(0, s) for s in range(3)]), np.stack([returns(50, s) for s in range(2)])
    for label, z, trained in (("our [1] way", x, "2 M"), ("theirs", y, "1.5 M")):
        means = [str(estimate(z[..., k])) for k in range(K + 1)]
        assert [label, str(len(z)), trained, *means] in found
        last = [str(estimate(z[..., K], f)) for f in (interquartile_mean, worst_decile)]
        assert [label, *last, "2.0 [2.0, 2.0]", str(estimate(z[..., K] + 0.5))] in found
    compared = found[found.index(["return after 2 steps, compared with our [1] way"]) :]
    better = probability_of_improvement(y[..., K], x[..., K]).text(2)
    assert ["theirs", "50.0 [50.0, 50.0]", better] in compared  # seeds 0 and 1, by which both differ by 50
    assert "beside a mean: 95% interval over seeds" in text


def test_the_share_of_the_gap_to_the_oracle(evaluated):
    """It sees its task: all else of its protocol is that of the others. Before adaptation it is 80 above."""
    sees = replace(MAML, env=replace(MAML.env, options={"goal_visible": True}))
    entries = comparison.load([evaluated("a"), evaluated("b", REPTILE, 10), evaluated("oracle", sees, 80)])
    shares = [[row["gap_to_oracle"] for row in tables.summary(entry, entries[0], entries[2])] for entry in entries]
    assert shares == [[0, 1 / 80, 2 / 80], [0, 1 / 70, 2 / 70], [None] * 3]
    found = rows(printed(entries))
    assert ["reptile", "10.0 (tasks ±0.0)", "1.00", "3%"] in found
    assert comparison.to_json(entries)["oracle"] == "oracle"
    assert tables.gap_to_oracle(entries[0].returns + 200, entries[2], 1) is None
    assert "oracle" not in printed(entries[:2])


def test_differences_are_paired_by_the_seeds_that_both_have(evaluated):
    """Seeds differ by 100, and the algorithms by 50 on the same seed."""
    runs = seeds(evaluated, "a", MAML, 0, (0, 1, 2)) + seeds(evaluated, "b", REPTILE, 50, (1, 2, 5))
    maml, reptile = comparison.load(runs)
    assert str(tables.summary(reptile, maml)[1]["difference"]) == "50.0 [50.0, 50.0]"
    assert comparison.to_json([maml, reptile])["entries"][1]["paired_seeds"] == [1, 2]
    other = comparison.load(runs[:1] + runs[5:])
    assert tables.summary(other[1], other[0])[1]["difference"] is None


def test_the_noise_of_evaluation_is_that_of_the_run_with_the_most(evaluated):
    noise = [{META: np.array([0.1, 0.2, x]), RANDOM: np.zeros(3)} for x in (0.24, 0.31)]
    entries = comparison.load([evaluated("a", noise=noise[0]), evaluated("b", REPTILE, noise=noise[1])])
    assert "noise of evaluation: 7 test episodes a task leave a standard error of 0.31" in printed(entries)
    assert "noise" not in printed(comparison.load([evaluated("c")]))


def test_reptile_is_better_in_four_of_six_pairs(three_and_two):
    """Runs are at 0, 100, 200 and at 50, 150, whatever the task."""
    maml, reptile = comparison.load(three_and_two)
    for row in tables.summary(reptile, maml):
        assert row["probability_of_improvement"].value == pytest.approx((1 + 2) / 6)
    assert tables.summary(maml, maml)[0]["probability_of_improvement"] is None


@pytest.mark.parametrize(
    ("chosen", "text"),
    [
        (((0, 1), (0, 1)), "beside a mean: 95% interval over seeds"),
        (((3,), (5,)), "beside a mean: spread over tasks (standard deviation), one seed"),
        (((0,), (0, 1)), "95% interval over seeds; of one seed the spread over tasks (standard deviation)"),
    ],
)
def test_the_table_says_what_its_intervals_are_over(evaluated, chosen, text):
    run_dirs = seeds(evaluated, "a", MAML, 0, chosen[0]) + seeds(evaluated, "b", REPTILE, 0, chosen[1])
    assert text in printed(comparison.load(run_dirs))


@pytest.mark.parametrize(
    ("steps", "words"),
    [(0, "0"), (999, "999"), (999_400, "999 k"), (999_600, "1 M"), (4_800_000, "4.8 M"), (999_600_000, "1 G")],
)
def test_a_number_of_steps_in_words(steps, words):
    assert tables.in_words(steps) == words


def test_a_single_entry_is_compared_with_nothing(evaluated):
    assert "better than" not in printed(comparison.load([evaluated("a")]))


def test_intervals_stand_below_their_values_where_lines_would_be_too_long(evaluated):
    x = 1000.0 * returns(0, 0)
    both = {META: x, RANDOM: x}
    entries = comparison.load([evaluated("a", returns=both, deterministic=both)], labels=["a label of some length"])
    text = printed(entries)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= tables.WIDTH
    for k in range(K + 1):
        value, _, interval = str(estimate(x[:, k])).partition(" ")
        lines = text.splitlines()
        [at] = [i for i, line in enumerate(lines) if line.startswith("a label") and f" {value}" in line][:1]
        assert interval in lines[at + 1]


def test_a_narrow_terminal_shows_every_number(three_and_two):
    words = printed(comparison.load(three_and_two), width=80)
    assert "…" not in words
    assert max(map(len, words.splitlines())) <= 80


def test_a_comparison_is_strict_json(three_and_two):
    entries = comparison.load(three_and_two)
    data = comparison.to_json(entries)
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert (data["format"], data["version"]) == ("metarl-comparison", 1)
    assert (data["environment"], data["split"], data["reference"]) == ("envs:metarl/Rail-v0", "held-out", "maml_trpo")
    assert data["tasks"] == [{"place": p} for p in (2.0, 1.5, 1.0, 0.5, 0.0)]
    maml, reptile = data["entries"]
    assert reptile["runs"] == ["reptile-0", "reptile-1"]
    assert (reptile["seeds"], reptile["environment_steps"]) == ([0, 1], [1_000_000, 2_000_000])
    assert reptile["intervals_over"] == "seeds"
    assert reptile["settings"]["algorithm"]["name"] == "reptile"
    assert [row["mean"]["value"] for row in maml["summary"]] == [120, 121, 122]
    assert [row["deterministic"]["mean"]["value"] for row in reptile["summary"]] == [120.5, 121.5, 122.5]
    assert reptile["summary"] == plain(tables.summary(entries[1], entries[0]))


# -------------------------------------------------------------------------------------------------- pictures
@pytest.fixture
def drawn(monkeypatch):
    """Name -> figure that was saved, to look into."""
    seen, figures, save = {}, [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda f, *args, **kw: (figures.append(f), save(f, *args, **kw)))

    def write(path, content):
        seen[path.stem] = figures[-1]
        write_atomically(path, content)

    monkeypatch.setattr(style, "write_atomically", write)
    return seen


def test_the_pictures_show_what_the_numbers_say(evaluated, three_and_two, drawn, tmp_path):
    entries = comparison.load(three_and_two)
    beyond = {"split": "out-of-range", "tasks": tuple({"place": 3.0 + m} for m in range(M))}
    seeds(evaluated, "maml", MAML, -1000, **beyond)
    seeds(evaluated, "reptile", REPTILE, -2000, (0, 1), **beyond)
    paths = comparison.draw(entries, tmp_path / "new", comparison.on_split(entries, "out-of-range"))
    assert [path.name for path in paths] == ["adaptation.png", "profile.png", "tasks.png", "splits.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)

    def lines(name):
        [axes] = drawn[name].axes
        return [line.get_xydata() for line in axes.lines]

    np.testing.assert_array_equal(lines("adaptation")[0], [[0, 120], [1, 121], [2, 122]])
    np.testing.assert_array_equal(lines("tasks")[0][:, 0], [0, 0.5, 1, 1.5, 2])
    np.testing.assert_array_equal(lines("tasks")[1][:, 1], [142, 132, 122, 112, 102])  # in the order of places
    (returns_, shares), x = lines("profile")[0].T, entries[0].returns[..., -1]
    np.testing.assert_allclose(shares, [(x > threshold).mean() for threshold in returns_])
    assert (shares[0], shares[-1]) == (1, 0)
    means = [line[0, 0] for line in lines("splits") if len(line) == 1]
    assert means == [122, -878, 122, -1928]  # a mean over 3 and 2 seeds


def test_tasks_of_several_numbers_have_no_picture_of_their_own(evaluated, tmp_path):
    tasks = tuple({"goal": [1.0, float(m)]} for m in range(M))
    entries = comparison.load([evaluated("a", tasks=tasks, units={"goal": "m"})])
    assert [path.name for path in comparison.draw(entries, tmp_path)] == ["adaptation.png", "profile.png"]


def test_pictures_of_another_comparison_do_not_stay_beside_the_new_ones(evaluated, tmp_path):
    folder = tmp_path / "out"
    comparison.draw(comparison.load([evaluated("line")]), folder)
    (folder / "mine.png").write_bytes(b"")
    tasks = tuple({"goal": [1.0, float(m)]} for m in range(M))
    plane = comparison.load([evaluated("plane", tasks=tasks, units={"goal": "m"})])
    comparison.draw(plane, folder)  # no numbers of a comparison lie there: its tasks.png may be anyone's
    assert (folder / "tasks.png").exists()
    numbers = folder / "comparison.json"
    numbers.write_text("{}")
    assert {*folder.iterdir()} - {folder / "tasks.png"} == {
        *comparison.draw(plane, folder),
        folder / "mine.png",
        numbers,
    }
    assert not (folder / "tasks.png").exists()


def test_returns_that_are_undefined_leave_gaps(evaluated, drawn, tmp_path):
    x = returns(0, 0)
    x[3, 1:] = np.nan
    run_dir = evaluated("a", returns={META: x, RANDOM: x}, deterministic={META: x, RANDOM: x})
    entries = comparison.load([run_dir])
    comparison.draw(entries, tmp_path)
    [curve] = drawn["tasks"].axes[0].lines
    assert np.isnan(curve.get_ydata()).tolist() == [False, True, False, False, False]
    assert drawn["adaptation"].axes[0].lines[0].get_ydata()[1] == np.mean([1, 11, 21, 41])
    data = comparison.to_json(entries)
    assert json.loads(json.dumps(data, allow_nan=False)) == data


# -------------------------------------------------------------------------------------------- tables in Markdown
def test_the_table_of_results_says_how_each_row_adapts_and_what_stands_beside_its_means(evaluated):
    """Rows of two seeds at 0, 1, 2, 3 + 10 m + 100 seed, a random initialization 5000 below, an oracle 50 above."""
    sees = replace(MAML, env=replace(MAML.env, options={"goal_visible": True}))
    folders = []
    for name, experiment, level in (("promp", MAML, 0.0), ("oracle", sees, 50.0)):
        for seed in (0, 1):
            x = level + 100.0 * seed + 10.0 * np.arange(M)[:, None] + np.arange(4)
            both = {META: x, RANDOM: x - 5000}
            noise = {META: np.full(4, 0.24), RANDOM: np.zeros(4)}
            own = replace(experiment, seed=seed)
            changes = {"returns": both, "deterministic": both, "noise": noise, "tuned": {META: TUNED, RANDOM: TUNED}}
            folders.append(evaluated(f"{name}-{seed}", own, **changes))
    entries = comparison.load(folders, labels=["promp", "oracle"])
    head, _, promp, oracle, random, _, notes = markdown(entries).split("\n")
    assert head == (
        "| Rail-v0, 1.0 M environment steps, 5 held-out tasks, 2 seeds | adapts with | 0 steps | 1 step | 2 steps | "
        "3 steps | gain after one step | of the gap to the oracle after one step |"
    )
    adapts = "step size 0.2, later steps whole"
    means = "70.0 | 71 [-564, 706] | 72.0 | 73.0 | 1.0 [1.0, 1.0]"
    assert promp == f"| `promp` | {adapts} | {means} | 2% |"
    assert oracle.endswith("| 1.0 [1.0, 1.0] |  |")
    assert random.startswith(f"| random initialization | {adapts} | -4930.0 |")
    assert notes == (
        "Beside means: 95% interval over seeds. Each row adapts with what is best of the same candidates on "
        "3 validation tasks. The oracle sees its task; the gap to it is (after - before) / (oracle - before). "
        "Noise of evaluation: 7 test episodes a task leave a standard error of 0.24."
    )
