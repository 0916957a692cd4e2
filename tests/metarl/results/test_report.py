"""The report as a page: what it says, that nothing in it leads outside, and that it is read as text what is text."""

import io
import json
import re
import shutil
import subprocess
import warnings
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from metarl import config, runs
from metarl.errors import UserError
from metarl.experiment import Environment, Evaluation, Experiment
from metarl.experiment.builders import fixed_tasks, make_vector_env
from metarl.figures.adaptation import adaptation_curve
from metarl.figures.style import svg
from metarl.results.records import META, RANDOM, Record, Training, file_of
from metarl.results.report import formatting, sections, videos
from metarl.results.report.algorithm_names import algorithm_name, algorithm_settings
from metarl.results.report.page import build
from metarl.results.report.run_data import RunData, read, tasks_of
from metarl.results.report.svg import embed
from metarl.results.report.videos import Video, Videos
from metarl.runs.directory import State
from metarl.statistics import Estimate, estimate, plain

ROOT = Path(__file__).parents[3]
NASTY = "<script>alert(1)</script>"
EXPERIMENT = Experiment(
    env=Environment(id="envs:metarl/PointNav-v0", horizon=20), evaluation=Evaluation(tasks=5, episodes=2), iterations=7
)
RETURNS = {
    META: np.array([[-31.5, -12.5], [-32.5, -13.5], [-33.5, -34.5], [-35.5, -14.5], [np.nan, np.nan]]),
    RANDOM: np.array([[-41.5, -40.5], [-42.5, -41.5], [-43.5, -42.5], [-45.5, -44.5], [-46.5, -45.5]]),
}
DETERMINISTIC = {name: x + 10.25 for name, x in RETURNS.items()}
BASELINES = {
    "format": "metarl-baselines",
    "version": 1,
    "curves": {
        META: {"steps": [0, 40], "mean": [-33, -13], "low": [-35, -15], "high": [-31, -11]},
        f"{NASTY} $\\bad$": {"steps": [40, 40960], "mean": [-40, -23.25], "low": [-42, -24], "high": [-38, -22]},
    },
    "table": [
        {"label": META, "steps_to_90_percent": 40},
        {"label": f"{NASTY} $\\bad$", "steps_to_90_percent": None},
    ],
    "remarks": [f"from 10-steps to -6.2 [-8.1, 4.5] {NASTY}"],
}


class Reader(HTMLParser):
    """What a browser would make of a page; a tag that is closed out of order is an error."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.styles = "", ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "style":
            self.styles += data
        else:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def space():
    env = make_vector_env(EXPERIMENT.env, 1, 1)
    yield env
    env.close()


@pytest.fixture
def folder(tmp_path, space):
    """A run after 7 iterations, with its evaluation."""
    folder = tmp_path / "a run"
    runs.create(folder, EXPERIMENT)
    state = State(7, 5600, {"w0": torch.zeros(1)}, algorithm_state={}, test_tasks=[])
    runs.save(folder, EXPERIMENT, state)
    rows = [
        {"iteration": 0, "environment_steps": 0, "validation/return_1_steps": -30,
         "validation/return_1_steps_spread_over_tasks": 2.25},
        {"iteration": 0, "environment_steps": 0, "train/return_before": -40.0, "train/return_after": -35.0},
        {"iteration": 1, "environment_steps": 800, "train/return_before": -39.0, "train/return_after": None},
    ]  # fmt: skip
    (folder / runs.METRICS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_evaluation(folder, space)
    return folder


def write_evaluation(folder, space, split="held-out", iterations=7, **changes):
    record = Record(
        run=str(folder),
        environment=EXPERIMENT.env.id,
        algorithm="maml_trpo",
        split=split,
        episodes=2,
        horizon=20,
        later_steps=0.5,
        seed=3,
        training=Training(seed=0, iterations=iterations, environment_steps=800 * iterations),
        versions={"torch": "9.9"},
        tasks=tuple(map(space.task_space.to_dict, fixed_tasks(space, split, 5))),
        units=space.task_space.units,
        returns=RETURNS,
        deterministic=DETERMINISTIC,
    )
    file = file_of(folder, split, changes.get("checkpoint", "latest"))
    file.write_text(json.dumps(record.to_json() | changes))


def reader(run: RunData, space, made: Videos | None = None, aim: str = "go there") -> Reader:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a section that cannot be made is a warning
        return Reader(build(run, aim, tasks_of(run.record, space) if run.record else None, made))


def video() -> Video:
    picture = io.BytesIO()
    Image.new("RGB", (64, 32)).save(picture, "JPEG")
    return Video("hardest", 2, b"video", picture.getvalue())


# ------------------------------------------------------------------------------------- the page as a whole
def test_nothing_in_the_page_leads_outside(folder, space):
    (folder / "baseline.json").write_text(json.dumps(BASELINES))
    write_evaluation(folder, space, "out-of-range")
    page = reader(read(folder), space, Videos((video(),)))
    links = [
        value
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name.split(":")[-1] in ("src", "href", "poster", "srcset", "data", "action")
    ]
    assert len(links) > 20
    assert [link for link in links if not link.startswith(("data:", "#"))] == []
    styles = page.styles + "".join(attributes.get("style") or "" for _, attributes in page.tags)
    assert "@import" not in styles
    assert re.findall(r"url\((?!#)", styles) == []
    assert not {"script", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv")]
    assert policy.startswith("default-src 'none';")


def test_ids_are_unique_and_every_reference_has_its_target(folder, space):
    (folder / "baseline.json").write_text(json.dumps(BASELINES))
    page = reader(read(folder), space)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    every = " ".join(str(value) for _, attributes in page.tags for value in attributes.values())
    used = [a["href"][1:] for a in page.all("use")] + re.findall(r"url\(#([^)]+)\)", every)
    used += [a["aria-labelledby"] for a in page.all("section")]
    assert len(used) > 20
    assert set(used) <= set(ids)


def test_the_page_can_be_heard(folder, space):
    """Headings in order, a text for each picture, a head for each row and column, a name for what scrolls."""
    page = reader(read(folder), space, Videos((video(),)))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert max(np.diff(levels)) == 1
    pictures = page.all("svg") + page.all("video")
    assert len(pictures) == 5
    assert all(picture["aria-label"] for picture in pictures)
    assert all(picture["role"] == "img" for picture in page.all("svg"))
    assert {"col", "row", "rowgroup"} == {cell["scope"] for cell in page.all("th")}
    assert all(part["aria-label"] and part["tabindex"] == "0" for part in page.all("div") if part.get("role"))
    assert page.all("html") == [{"lang": "en"}]


def test_the_page_says_what_was_measured(folder, space):
    run = read(folder)
    page = reader(run, space)
    for row in np.round(RETURNS[META][:4], 1).tolist():
        for value in row:
            assert str(value).replace("-", "−") in page.text
    for task in tasks_of(run.record, space):
        assert task.label.replace("-", "−") in page.text
    gain = RETURNS[META][:4, 1] - RETURNS[META][:4, 0]
    ahead = RETURNS[META][:4, 1] - RETURNS[RANDOM][:4, 1]
    for x in (gain, ahead, RETURNS[META][:4, 0], RETURNS[RANDOM][:, 1]):
        assert formatting.format_estimate(estimate(x)) in re.sub(r"\s*\(tasks", " (tasks", page.text)
    assert "go there" in page.text
    assert "5,600 environment steps in 7 iterations, with seed 0" in " ".join(page.text.split())
    assert "3 of 5 are better after it" in page.text
    assert "−30.0 (tasks ±2.2)" in page.text  # the repeated test
    assert "9.9" in page.text


def test_how_long_training_took_is_shown_where_the_run_says_it(folder, space):
    assert "Seconds are those of training" not in reader(read(folder), space).text
    rows = [json.loads(line) for line in (folder / runs.METRICS).read_text().splitlines()]
    timed = [row | {"time/training_s": 12.5 + row["iteration"]} for row in rows]
    (folder / runs.METRICS).write_text("".join(json.dumps(row) + "\n" for row in timed))
    text = " ".join(reader(read(folder), space).text.split())
    assert "secondsreturn after 1 step 012.5−30.0 (tasks ±2.2)" in text  # cells have no gap between them


def test_the_same_run_has_the_same_page(folder, space):
    tasks = tasks_of(read(folder).record, space)
    assert build(read(folder), "", tasks) == build(read(folder), "", tasks)


def test_text_stays_text(folder, space, monkeypatch):
    (folder / "baseline.json").write_text(json.dumps(BASELINES))
    monkeypatch.setattr(RunData, "name", f"{NASTY} & $title")
    nasty = Videos(missing=f"No videos: {NASTY}")
    page = reader(read(folder), space, nasty, aim=f'{NASTY} " onload="alert(2)')
    assert page.all("script") == []
    assert [name for _, attributes in page.tags for name in attributes if name.startswith("on")] == []
    for shown in (f"{NASTY} & $title", f"No videos: {NASTY}", f'{NASTY} " onload="alert(2)', f"{NASTY} $\\bad$"):
        assert page.text.count(shown) >= 1
    assert f"{NASTY} & $title: PointNav, MAML-TRPO" in page.text  # the title


def test_before_there_is_an_evaluation_the_page_names_the_command(folder, space):
    (folder / "evaluation-held-out.json").unlink()
    page = reader(read(folder), space)
    assert "no evaluation yet" in page.text
    assert f"metarl evaluate '{folder}' --split held-out" in page.text.replace(" \\\n    ", " ")
    assert len(page.all("svg")) == 1  # the learning curve
    (folder / runs.METRICS).unlink()
    assert "No iteration has been logged yet" in reader(read(folder), space).text


def test_a_run_that_was_trained_further_is_told_from_its_evaluation(folder, space):
    assert "evaluate it again" not in reader(read(folder), space).text
    write_evaluation(folder, space, iterations=5)
    page = reader(read(folder), space)
    assert "The evaluation is of iteration 5, and the run is at iteration 7 by now" in page.text


def test_the_best_checkpoint_is_not_what_the_page_is_about(folder, space):
    write_evaluation(folder, space, checkpoint="best", iterations=3, returns=BETTER)
    page = reader(read(folder), space)
    assert "held-out-best" in page.text
    assert page.text.count("their tasks is biased upwards") == 1
    assert "The evaluation is of iteration" not in page.text
    assert formatting.format_estimate(estimate(RETURNS[META][:, 1])) in page.text
    file_of(folder, "held-out").unlink()
    assert read(folder).record is None


BETTER = {name: plain((x + 30).tolist()) for name, x in RETURNS.items()}


def test_baselines_of_a_run_that_was_trained_further_say_so(folder, space):
    trained = read(folder).state.environment_steps
    for before, told in ((trained, False), (trained - 10, True)):
        content = BASELINES | {"trained_before": {META: before, "oracle": 1}}
        (folder / "baseline.json").write_text(json.dumps(content))
        assert (f"and has taken {trained:,} by now" in reader(read(folder), space).text) is told


def test_the_size_without_videos(folder, space):
    (folder / "baseline.json").write_text(json.dumps(BASELINES))
    assert len(build(read(folder), "", tasks_of(read(folder).record, space))) < 200_000


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs the browser chromium")
def test_a_browser_has_nothing_to_complain_about(folder, space, tmp_path):
    """Its console is empty, and the policy against requests does not keep the page from its own styles."""
    run = read(folder)
    (tmp_path / "report.html").write_text(build(run, "", tasks_of(run.record, space), Videos((video(),))))
    quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    quiet += ["--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}"]
    seen = ["--enable-logging=stderr", "--window-size=1280,900", f"--screenshot={tmp_path / 'seen.png'}"]
    address = (tmp_path / "report.html").as_uri()
    run = subprocess.run(["chromium", *quiet, *seen, address], capture_output=True, text=True, timeout=120)
    assert (tmp_path / "seen.png").stat().st_size > 20_000, run.stderr
    assert "CONSOLE" not in run.stderr


# ------------------------------------------------------------------------------------------ reading a run
def test_both_policies_are_shown_side_by_side(folder, space):
    page = reader(read(folder), space)
    for policy, returns in (("stochastic", RETURNS), ("deterministic", DETERMINISTIC)):
        (drawn,) = [svg["aria-label"] for svg in page.all("svg") if f"the {policy} policy" in svg["aria-label"]]
        for name, x in returns.items():
            first, last = (formatting.format_estimate(estimate(x[:, k])) for k in (0, 1))
            assert f"{name} from {first} to {last}" in drawn
        for x in (returns[META][:, 1], returns[RANDOM][:, 1] - returns[RANDOM][:, 0]):
            assert formatting.format_estimate(estimate(x)) in page.text
    assert DETERMINISTIC[META][:4, 1].mean() == -8.5
    assert "−8.5 (tasks ±" in page.text


def test_the_evaluation_of_the_run_s_own_split_comes_first(folder, space):
    write_evaluation(folder, space, "iid")
    tuned = {META: {"chosen": {"step_size": 0.2}, "split": "validation", "tasks": 4, "candidates": []}}
    write_evaluation(folder, space, "train", tuned=tuned, seed=5, episodes=4)
    shutil.copy(file_of(folder, "iid"), folder / "evaluation-again.json")
    run = read(folder)
    assert run.record.split == "held-out"
    assert {name: other.split for name, other in run.others.items()} == {
        "again": "iid",
        "iid": "iid",
        "train": "train",
    }
    page = reader(run, space)
    assert "Other evaluations" in page.text
    assert "again (5 tasks, 1 step)" in page.text
    otherwise = "4 episodes, step size chosen on 4 validation tasks, seed 5"
    assert f"train (5 tasks, 1 step, {otherwise})" in page.text
    for file in ("held-out", "again"):
        file_of(folder, file).unlink()
    assert read(folder).record.split == "iid"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 1}, "is of version 1, without returns of the deterministic policy"),
        ({"format": "other"}, "its format is 'other'"),
        ({"tasks": None}, "tasks: "),
        ({"returns": {META: [[1.0]], RANDOM: [[1.0]]}}, "has shape (1, 1)"),
        ({name: {META: [[1.0, 2.0]] * 5} for name in ("returns", "deterministic")}, "no returns of 'random init'"),
    ],
)
def test_an_evaluation_that_cannot_be_read_is_named(folder, space, changes, message):
    write_evaluation(folder, space, **changes)
    with pytest.raises(UserError, match=r"evaluation-held-out\.json") as refused:
        read(folder)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{torn", "cannot be read"),
        ("[]", "cannot be read"),
        (json.dumps(BASELINES | {"version": 2}), "version 2, expected 'metarl-baselines' version 1"),
        (json.dumps(BASELINES | {"curves": {"a": {"steps": [1]}}}), "it lacks 'mean'"),
        (
            json.dumps(BASELINES | {"curves": {"a": BASELINES["curves"][META] | {"steps": [1]}}}),
            "1 steps with 2 values",
        ),
        (json.dumps(BASELINES | {"table": [{"steps_to_90_percent": 1}]}), "it lacks 'label'"),
    ],
)
def test_baselines_that_cannot_be_read_are_named(folder, content, message):
    (folder / "baseline.json").write_text(content)
    with pytest.raises(UserError, match=r"baseline\.json.*metarl baseline") as refused:
        read(folder)
    assert message in str(refused.value)


DEEP = "[" * 10_000 + "]" * 10_000


@pytest.mark.parametrize("damage", [DEEP, "Infinity", "1" + "0" * 400, "[[null]]", '"text"'])
@pytest.mark.parametrize("file", ["evaluation-held-out.json", "baseline.json"])
def test_a_value_that_no_file_should_have_is_one_message_that_names_the_file(folder, file, damage):
    """In place of the whole file, and of a number deep inside."""
    (folder / "baseline.json").write_text(json.dumps(BASELINES))
    data = json.loads((folder / file).read_text())
    (data["returns"][META] if "returns" in data else data["curves"][META]["mean"])[1] = "HERE"
    for content in (damage, json.dumps(data).replace('"HERE"', damage)):
        (folder / file).write_text(content)
        with pytest.raises(UserError, match=rf"{re.escape(file)} (is|cannot)") as refused:
            read(folder)
        assert re.search("Evaluate the run again|metarl baseline|its format is", str(refused.value))
        assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("damage", [DEEP, "Infinity", "1" + "0" * 400, "[1]", '"text"', None])
@pytest.mark.parametrize("column", ["validation/return_1_steps", "train/return_before", "environment_steps"])
def test_a_row_of_metrics_that_cannot_be_drawn_is_left_out(folder, space, column, damage):
    rows = [json.loads(line) for line in (folder / runs.METRICS).read_text().splitlines()]
    for row in rows[:2]:
        if damage is None:
            row.pop(column, None)
        elif column in row:
            row[column] = "HERE"
    lines = [json.dumps(row).replace('"HERE"', damage or "") for row in rows]
    (folder / runs.METRICS).write_text("\n".join([damage or "3", *lines]) + "\n")
    reader(read(folder), space)  # every section could be made


def test_a_section_that_cannot_be_made_leaves_the_others(folder, space, monkeypatch):
    monkeypatch.setattr(sections, "tasks", lambda *_: {"drawing": 1 / 0})
    with pytest.warns(UserWarning, match="no section 'tasks' in the page: ZeroDivisionError"):
        page = Reader(build(read(folder), "", tasks_of(read(folder).record, space)))
    assert "This part cannot be shown (ZeroDivisionError: division by zero)" in page.text
    assert {"learning", "adaptation", "reproduce"} <= {part["id"] for part in page.all("section")}


@pytest.mark.parametrize("changes", [{"units": {"goal": "$x^$"}}, {"tasks": [{"goal": "north"}] * 5}])
def test_units_and_values_of_tasks_are_only_text(folder, space, changes):
    tasks = tasks_of(read(folder).record, space)
    write_evaluation(folder, space, **changes)
    page = Reader(build(read(folder), "", tasks))
    assert "This part cannot be shown" not in page.text
    if "tasks" in changes:
        with pytest.raises(UserError, match="other held-out tasks"):
            tasks_of(read(folder).record, space)
    else:
        assert "goal x [$x^$]" in page.text


def test_baselines_are_shown_where_they_are(folder, space):
    assert "Baselines" not in reader(read(folder), space).text
    (folder / "baseline.json").write_text(json.dumps(BASELINES))
    page = reader(read(folder), space)
    assert "not reached" in page.text
    assert f"from 10-steps to −6.2 [−8.1, 4.5] {NASTY}" in page.text
    assert "−23.2 at 40,960" in page.all("svg")[-1]["aria-label"]


def test_an_evaluation_on_other_tasks_is_refused(folder, space):
    file = file_of(folder, "held-out")
    data = json.loads(file.read_text())
    data["tasks"][0]["goal"][0] += 0.1
    file.write_text(json.dumps(data))
    with pytest.raises(UserError, match=r"(?s)other held-out tasks than envs:metarl/PointNav-v0 has.*--episodes 2"):
        tasks_of(read(folder).record, space)


def test_a_run_that_does_not_know_its_versions_has_a_page(folder, space):
    assert set(runs.PACKAGES) < set(read(folder).versions)
    (folder / runs.ABOUT).write_text("{torn")
    assert read(folder).versions == {}
    assert "git checkout" not in reader(read(folder), space).text


def test_an_algorithm_without_episodes_after_its_last_step_says_so(folder, space):
    run = read(folder)
    assert "no episodes after" not in reader(run, space).text
    own = config.from_dict({"algorithm": "reptile"}, Experiment).algorithm
    assert "no episodes after" in reader(replace(run, experiment=replace(EXPERIMENT, algorithm=own)), space).text


# ------------------------------------------------------------------------------------------------- videos
def test_videos_are_of_tasks_chosen_by_their_return_after_adaptation():
    assert videos.chosen(np.array([3.0, 9.0, 1.0, 7.0, 5.0])) == {"easiest": 1, "median": 4, "hardest": 2}
    assert videos.chosen(np.array([3.0, np.nan, 1.0])) == {"easiest": 0, "hardest": 2}
    assert videos.chosen(np.array([np.nan, 4.0])) == {"easiest": 1}
    assert videos.chosen(np.array([np.nan])) == {}


def test_videos_beyond_the_budget_are_named():
    clips = [Video(level, 0, bytes(10), b"") for level in ("easiest", "median", "hardest")]
    files = {video.level: Path(f"{video.level}.mp4") for video in clips}
    assert videos.within(30, clips, files) == Videos(tuple(clips))
    assert videos.within(29, clips, files) == Videos(tuple(clips[:2]), "Too large for this page: hardest.mp4.")
    assert videos.within(9, clips, files).videos == ()


def test_a_video_is_decoded_only_when_it_is_played(folder, space):
    page = reader(read(folder), space, Videos((video(),)))
    (shown,) = page.all("video")
    assert (shown["preload"], shown["width"], shown["height"]) == ("none", "64", "32")
    assert shown["src"] == "data:video/mp4;base64,dmlkZW8="
    assert shown["poster"].startswith("data:image/jpeg;base64,")
    assert "controls" in shown


def test_a_run_that_was_trained_further_has_no_new_videos(folder, space):
    write_evaluation(folder, space, iterations=5)
    run = read(folder)
    made = videos.make(run, run.record, tasks_of(run.record, space))
    assert made.videos == ()
    assert "evaluate it again" in made.missing


# -------------------------------------------------------------------------------------- settings and words
@pytest.mark.parametrize(
    ("algorithm", "name", "told"),
    [
        ({}, "MAML-TRPO", "1 inner step of SGD, step size 0.1; outer step: KL at most 0.01"),
        ({"first_order": True, "max_kl": 0.2}, "first-order MAML-TRPO", "KL at most 0.2"),
        ({"name": "promp", "inner": {"steps": 2}}, "ProMP", "2 inner steps of SGD"),
        ({"name": "reptile", "inner": "ppo"}, "Reptile", "of PPO, learning rate 0.003, epochs 5; outer step: "),
        (
            {"name": "reptile", "inner": "sb3_a2c"},
            "Reptile",
            "3 inner steps of Stable-Baselines3's A2C, learning rate 0.0007",
        ),
    ],
)
def test_an_algorithm_is_named_as_papers_do(algorithm, name, told):
    experiment = config.from_dict({"algorithm": algorithm}, Experiment)
    assert algorithm_name(experiment) == name
    assert told in algorithm_settings(experiment)


def test_settings_are_compared_with_the_defaults_of_what_was_chosen():
    assert sections.differences(Experiment()) == {}
    chosen = {"algorithm": {"name": "reptile", "inner": {"name": "ppo", "epochs": 9}}, "seed": 4}
    assert sections.differences(config.from_dict(chosen, Experiment)) == {
        "algorithm.name": ("maml_trpo", "reptile"),
        "algorithm.inner.name": ("sgd", "ppo"),
        "algorithm.inner.epochs": (5, 9),
        "seed": (0, 4),
    }


def test_settings_are_listed_with_their_defaults_and_as_a_whole(folder, space):
    page = reader(replace(read(folder), config=f"whole: {NASTY}"), space)
    text = page.text[page.text.index("settinghere") :]
    assert "env.idenvs:metarl/PointNav-v0envs:metarl/HalfCheetahVel-v0" in text
    assert f"whole: {NASTY}" in text


def test_the_commands_repeat_the_evaluation(folder, space):
    page = reader(read(folder), space)
    again = f"'{folder}-again'"
    assert f"metarl train '{folder}/config.yaml' --run-dir {again}" in page.text.replace(" \\\n    ", " ")
    flags = "--split held-out --tasks 5 --steps 1 --episodes 2 --later-steps 0.5 --seed 3"
    assert f"metarl evaluate {again} {flags}" in page.text.replace(" \\\n    ", " ")


def test_numbers_have_a_real_minus_and_no_negative_zero():
    assert formatting.format_estimate(Estimate(-1.26, -0.04, 0.04)) == "−1.3 [0.0, 0.0]"
    assert formatting.format_estimate(Estimate(-120.4, -130.0, -0.2)) == "−120 [−130, 0]"
    assert formatting.format_estimate(Estimate(-0.54, -10.05, -0.05)) == "−0.5 [−10.1, −0.1]"
    assert formatting.format_estimate(Estimate(np.nan, np.nan, np.nan)) == "–"
    assert formatting.format_count(-1234567) == "−1,234,567"
    assert [formatting.format_noun(n, "step") for n in (1, 2)] == ["1 step", "2 steps"]


def test_a_figure_in_a_page_has_the_page_s_colours_and_ids_of_its_own():
    flat = [Estimate(x, x, x) for x in (0.0, 1.0)]
    drawn = svg(adaptation_curve, {"<a>": flat}, "")
    assert drawn == svg(adaptation_curve, {"<a>": flat}, "")
    assert "&lt;a&gt;</text>" in drawn
    first, second = (embed(drawn, name, 'seen "so"') for name in ("one", "two"))
    ids = [set(re.findall(r' id="([^"]+)"', each)) for each in (first, second)]
    assert ids[0]
    assert ids[0].isdisjoint(ids[1])
    assert 'aria-label="seen &#34;so&#34;"' in first
    assert re.findall(r"#[0-9a-f]{6}\b(?!\))", re.sub(r'(id|href)="[^"]*"', "", first), re.IGNORECASE) == []
    assert not re.search(r"http|<style|<metadata", first)


def test_tasks_are_drawn_where_they_lie_or_numbered(folder, space):
    run = read(folder)
    assert "goal x [m]" in reader(run, space).text
    several = tuple({"goal": 0.1 * m, "mass": 1.0} for m in range(5))
    other = replace(run, evaluations={file_of(folder, "held-out"): replace(run.record, tasks=several)})
    assert "goal x [m]" not in Reader(build(other, "", tasks_of(run.record, space))).text
