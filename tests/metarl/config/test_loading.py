"""Configs from YAML files and flags: what comes out, and what each mistake is told."""

import errno
import io
import math
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import gymnasium
import hypothesis
import pytest
import tyro
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from metarl import config
from metarl.config import strict_yaml
from metarl.config.settings import settings
from metarl.errors import RunFailed, UserError, exits_cleanly, nearest

LAUGHS = "a: &a [ha, ha, ha, ha, ha, ha, ha, ha]\n" + "".join(
    f"{key}: &{key} [{', '.join([f'*{before}'] * 8)}]\n" for before, key in zip("abcdefghi", "bcdefghij", strict=True)
)
"""Four hundred bytes that stand for a billion words."""


@settings
class Trust:
    """An outer step within a trust region."""

    name: Literal["trust"] = "trust"
    delta: float = Field(0.01, gt=0)
    """Radius [nat]."""
    iterations: int = Field(10, ge=1)


@settings
class Drift:
    """An outer step towards the adapted parameters."""

    name: Literal["drift"] = "drift"
    step: float = 0.1
    decay: bool = False

    def __post_init__(self) -> None:
        if self.decay and self.step > 1:
            raise ValueError(f"step is {self.step}, above 1, where decay is off only")


@settings
class Check:
    """A check."""

    every: int = Field(5, ge=1)
    tasks: int = 40


@settings
class Run:
    """One run."""

    env: str = "half-cheetah"
    """Which robot."""
    algorithm: Annotated[Trust | Drift, Field(discriminator="name")] = Trust(delta=0.05)
    """How the outer loop steps."""
    test: Check = Check(every=7)
    extra: Check | None = None
    hidden: tuple[int, ...] = Field((64, 64), min_length=1)
    bounds: tuple[float, float] = (-1.0, 1.0)
    clip: float | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    seed: int = Field(0, ge=0)


@settings
class Strict:
    """A config with a setting that has no default."""

    env: str
    run: Run = Run()


def load(tmp_path: Path, text: str, cls: Any = Run) -> Any:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return config.load(path, cls)


def problems(data: dict[str, Any], cls: type = Run) -> list[str]:
    with pytest.raises(UserError) as caught:
        config.from_dict(data, cls)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


@pytest.mark.parametrize("data", [{"algorithm": {"name": "drif"}}, {"algorithm": "drif"}, {"algorithm": {"name": 3}}])
def test_an_unknown_kind_is_told_all_with_a_line_each(data):
    first, *others = problems(data)
    assert first in (
        "algorithm.name = 'drif': no such name. Did you mean 'drift'? There are",
        "algorithm.name = '3': no such name. There are",
    )
    assert others == [
        f"trust: {Trust.__doc__}",
        f"drift: {Drift.__doc__}",
        "How the outer loop steps.",
    ]


# What a file means

TEXT = """
seed: 3
hidden: [100]
test: {tasks: 2}
algorithm: {iterations: 4}
extra:
  every: 2
"""


@pytest.mark.parametrize("text", ["", "# nothing but a remark\n", "---\n", "{}"])
def test_an_empty_file_is_the_defaults(tmp_path, text):
    assert load(tmp_path, text) == Run()


def test_a_file_is_a_difference_from_the_defaults(tmp_path):
    run = load(tmp_path, TEXT)
    assert run == Run(
        seed=3,
        hidden=(100,),
        test=Check(every=7, tasks=2),
        algorithm=Trust(delta=0.05, iterations=4),
        extra=Check(every=2),
    )


def test_another_kind_starts_from_its_own_defaults(tmp_path):
    assert load(tmp_path, "algorithm: {name: drift, step: 2}") == Run(algorithm=Drift(step=2.0))
    assert load(tmp_path, "algorithm: drift") == Run(algorithm=Drift())
    assert load(tmp_path, "algorithm: trust") == Run()


def test_the_same_kind_keeps_the_default_of_its_field(tmp_path):
    run = load(tmp_path, "algorithm: {name: trust, iterations: 3}")
    assert run.algorithm == Trust(delta=0.05, iterations=3)


def test_a_free_mapping_is_replaced_as_a_whole():
    @settings
    class Free:
        options: dict[str, int] = Field(default_factory=lambda: {"a": 1})

    assert config.from_dict({"options": {"b": 2}}, Free).options == {"b": 2}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1.5E+3", 1500.0),
        (".5", 0.5),
        ("3.", 3.0),
        ("1_000_000", 1_000_000),
        ("-7", -7),
        ("1_000.5", 1000.5),
        ("1_0", "1_0"),
        ("1_0e3", "1_0e3"),
        ("0x10", "0x10"),
        ("010", "010"),
        ("1:30", "1:30"),
        ("on", "on"),
        ("no", "no"),
        ("2026-11-01", "2026-11-01"),
        ("'1'", "1"),
        ("True", True),
        ("~", None),
        ("", None),
        ("-.inf", -math.inf),
    ],
)
def test_words_are_read_as_they_look(text, value):
    found = strict_yaml.parse(f"x: {text}".encode(), "text")["x"]
    assert found == value
    assert type(found) is type(value)


# What each mistake is told


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({"sead": 1}, "sead: no such setting. Did you mean 'seed'?"),
        ({"environment": "x"}, "environment: no such setting. Did you mean 'env'?"),
        ({"test": {"evrey": 1}}, "test.evrey: no such setting. Did you mean 'every'?"),
        ({"extra": {"evrey": 1}}, "extra.evrey: no such setting. Did you mean 'every'?"),
        ({"algorithm": {"detla": 1}}, "algorithm.detla: no such setting. Did you mean 'delta'?"),
        ({"algorithm": {"name": "drift", "delta": 1}}, "algorithm.delta: no such setting. "),
        ({"algorithm": 3}, "algorithm = 3: should be a mapping"),
        ({"algorithm": None}, "algorithm = None: should be a mapping"),
        ({"test": [1]}, "test = [1]: should be a section"),
        ({"seed": "3"}, "seed = '3': should be a valid integer"),
        ({"seed": 3.0}, "seed = 3.0: should be a valid integer"),
        ({"seed": True}, "seed = True: should be a valid integer"),
        ({"seed": 2**63}, "seed = 9223372036854775808: should be an integer of at most 64 bits"),
        ({"options": {"a": [{"b": -(10**20)}]}}, "options.a = -100000000000000000000: should be an integer of"),
        ({"options": {"a": "\udcff"}}, r"options.a = '\udcff': is not UTF-8"),
        ({"options": {"\udcff": 1}}, r"options.\udcff = 1: is not UTF-8"),
        ({"seed": -1}, "seed = -1: should be greater than or equal to 0"),
        ({"env": 3}, "env = 3: should be a valid string"),
        ({"clip": "x"}, "clip = 'x': should be a valid number"),
        ({"clip": math.nan}, "clip = nan: should be a finite number"),
        ({"algorithm": {"delta": 0}}, "algorithm.delta = 0: should be greater than 0"),
        ({"hidden": 64}, "hidden = 64: should be a list"),
        ({"hidden": []}, "hidden = []: "),
        ({"hidden": [64, "x"]}, "hidden.1 = 'x': should be a valid integer"),
        ({"bounds": [1.0]}, "bounds.1: missing"),
        ({"options": 1}, "options = 1: should be a mapping"),
        ({"algorithm": {"name": "drift", "step": 2.0, "decay": True}}, "algorithm: step is 2.0, above 1"),
    ],
)
def test_each_mistake_has_its_line(data, line):
    (found,) = problems(data)
    assert found.startswith(line)


def test_all_mistakes_are_told_at_once():
    lines = problems({"seed": -1, "sed": 1, "test": {"every": 0, "x": 1}, "algorithm": {"delta": "a"}})
    assert len(lines) == 5


def test_a_setting_without_default_is_asked_for():
    assert problems({"run": {"seed": 3}}, Strict) == ["env: missing, and it has no default"]


def test_a_default_counts_below_a_section_too():
    assert config.from_dict({"env": "a", "run": {"test": {"tasks": 1}}}, Strict).run.test.every == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nenv: a\nseed: 2\n", "line 3: not valid YAML: the key 'seed' occurs twice"),
        ("test:\n  every: 1\n  every: 2\n", "line 3: .*'every' occurs twice"),
        ("env: [a\nseed: 1", "line 2: not valid YAML"),
        ("env: 'a", "line 1: not valid YAML"),
        ("\tenv: a", "line 1: not valid YAML"),
        ("1: a", "the key 1 is not a string"),
        ("? [a]\n: 1", "is not a string"),
        ("- a", "holds a list; a config is a mapping"),
        ("seed", "holds a str; a config is a mapping"),
        ("env: &a [*a]", "line 1: not valid YAML"),
        ("env: &a {b: *a}", "line 1: not valid YAML"),
        (LAUGHS, r"line 2: not valid YAML: the alias \*a is not read: write out what it stands for"),
        ("env: !!map [1]", "line 1: not valid YAML: the list or mapping is no map"),
        ("env: !!map a", "line 1: not valid YAML: 'a' is no map"),
        ("seed: !!bool maybe", "line 1: not valid YAML: 'maybe' is no bool"),
        ("seed: !!bool on", "line 1: not valid YAML: 'on' is no bool"),
        ("seed: !!int 1_0", "line 1: not valid YAML: '1_0' is no int"),
        ("seed: !!int 010", "line 1: not valid YAML: '010' is no int"),
        ("clip: !!float 1:30", "line 1: not valid YAML: '1:30' is no float"),
        (f"options: {{a: {'[' * 3000 + ']' * 3000}}}", "not valid YAML: it is nested too deeply"),
        ("seed: !!int ''", "line 1: not valid YAML: '' is no int"),
        ("seed: !!float ''", "line 1: not valid YAML: '' is no float"),
        (f"seed: !!int {'9' * 5000}", "line 1: not valid YAML: '9{98}… is no int"),
        ("env: !!python/object/apply:os.system ['id']", "line 1: not valid YAML: .*python/object/apply:os.system"),
        (f"{'k' * 900}: 1\n{'k' * 900}: 1\n", "line 2: not valid YAML: the key 'k{98}… occurs twice"),
        ("#" * (2**16 + 1), "has more than 65,536 bytes: no config is as large as that"),
        ("env: !!python/name:os.system", "line 1: not valid YAML"),
        ("env: !!timestamp 2026-01-01", "line 1: not valid YAML"),
        ("seed: !!int x", "not valid YAML"),
        ("seed: 1\n---\nseed: 2", "line 2: not valid YAML"),
        ("env: \x00", "not valid YAML"),
    ],
)
def test_what_is_no_yaml_is_told_with_its_line(tmp_path, text, message):
    with pytest.raises(UserError, match=f"run.yaml.*{message}"):
        load(tmp_path, text)


def test_thousands_of_mistakes_are_told_in_twenty_lines(tmp_path):
    with pytest.raises(UserError) as caught:
        load(tmp_path, "".join(f"setting_{i}: 1\n" for i in range(3000)))
    lines = str(caught.value).splitlines()
    assert len(lines) == 20
    assert lines[1].startswith("  setting_0: no such setting")
    assert lines[-1] == "  … and 2,982 lines more"


def test_long_keys_and_values_are_cut_to_a_line(tmp_path):
    with pytest.raises(UserError) as caught:
        load(tmp_path, f"seed: {'x' * 9000}\n? {'k' * 900}\n: 1\n")
    assert all(len(line) < 250 for line in str(caught.value).splitlines()[1:])


def test_bytes_that_are_no_text_are_refused(tmp_path):
    for content in (b"env: \xff\xfe\xfa", "seed: 3".encode("utf-16")):
        (tmp_path / "run.yaml").write_bytes(content)
        with pytest.raises(UserError, match="not valid YAML: 'utf-8' codec can't decode byte 0xff"):
            config.load(tmp_path / "run.yaml", Run)
    (tmp_path / "run.yaml").write_bytes("seed: 3".encode("utf-8-sig"))
    assert config.load(tmp_path / "run.yaml", Run).seed == 3


def test_a_missing_file_is_told_with_its_neighbours(tmp_path):
    (tmp_path / "ant-goal.yaml").touch()
    (tmp_path / "cheetah-velocity.yaml").touch()
    with pytest.raises(UserError, match=r"ant-gaol.yaml. Did you mean 'ant-goal.yaml'\?"):
        config.load(tmp_path / "ant-gaol.yaml", Run)
    with pytest.raises(UserError, match=r"There are: ant-goal.yaml, cheetah-velocity.yaml\."):
        config.load(tmp_path / "xyz.yaml", Run)
    with pytest.raises(UserError, match="the folder .* does not exist"):
        config.load(tmp_path / "nowhere" / "a.yaml", Run)


# Settings in Python


def test_settings_are_frozen_keyword_only_and_strict():
    with pytest.raises(ValidationError):
        Run(seed="3")
    with pytest.raises(ValidationError):
        Run(3)
    with pytest.raises(AttributeError):
        Run().seed = 3
    assert type(Run(clip=1).clip) is float


# Flags


def test_flags_change_what_was_loaded():
    base = Run(seed=1, test=Check(tasks=3), algorithm=Drift(step=0.5))
    args = "--seed 3 --algorithm.step=-2 --hidden 8 9 --bounds -2 1e-1 --clip 0.5"
    assert config.override(base, args.split()) == Run(
        seed=3,
        test=Check(tasks=3),
        algorithm=Drift(step=-2.0),
        hidden=(8, 9),
        bounds=(-2.0, 0.1),
        clip=0.5,
    )


@pytest.mark.parametrize("text", ["true", "True", "false", "False"])
def test_true_and_false_are_written_as_in_yaml_or_python(text):
    assert config.override(Run(), ["--algorithm", "drift", "--algorithm.decay", text]).algorithm.decay is (
        text[0] in "tT"
    )


@pytest.mark.parametrize("text", ["8 9", "8,9", "[8, 9]", "8, 9"])
def test_a_list_is_read_however_it_is_written(text):
    words = text.split() if text == "8 9" else [text]
    assert config.override(Run(), ["--hidden", *words]).hidden == (8, 9)
    assert config.override(Run(), [f"--hidden={words[0]}", *words[1:]]).hidden == (8, 9)


def test_hyphens_and_underscores_are_the_same():
    for flag in ("--first-step", "--first_step"):

        @settings
        class Walk:
            first_step: int = 1

        assert config.override(Walk(), [flag, "3"]) == Walk(first_step=3)


def test_a_kind_is_chosen_by_its_name():
    base = Run(algorithm=Trust(delta=0.3))
    for flag in ("--algorithm", "--algorithm.name"):
        assert config.override(base, [flag, "drift", "--algorithm.step", "2"]).algorithm == Drift(step=2.0)
    assert config.override(base, ["--algorithm=trust"]) == base


def test_numbers_in_thousands_are_numbers():
    assert config.override(Run(), ["--seed", "1_000_000"]).seed == 1_000_000


def test_no_message_is_longer_than_a_screen(capsys):
    @exits_cleanly
    def main() -> None:
        config.from_dict({f"key{n}": "x" * 10_000 for n in range(5000)}, Run)

    with pytest.raises(SystemExit):
        main()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 20
    assert lines[-1].endswith("lines more")
    assert max(map(len, lines)) < 400


def test_a_line_of_a_message_is_cut(capsys):
    @exits_cleanly
    def command():
        raise UserError(f"velocity_range = {[0.0, 3.0] * 1000}: too long\nsecond line")

    with pytest.raises(SystemExit):
        command()
    first, second = capsys.readouterr().err.splitlines()
    assert len(first) < 1000
    assert first.endswith("…")
    assert second == "second line"


@settings
class Options:
    """Of a command."""

    where: tyro.conf.Positional[Path]
    """A folder."""
    steps: int = Field(3, ge=1)
    """K"""
    later_steps: float | None = None
    """Step size (default: half)."""
    each: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Repeated."""
    quiet: bool = False
    """Whether nothing is said"""


def test_a_terminal_that_is_not_utf_8_gets_the_same_message(monkeypatch):
    told = []
    for encoding in ("utf-8", "ascii"):
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
        with pytest.raises(UserError) as caught:
            config.override(Run(), ["--seed", "x"])
        told.append(str(caught.value))
    assert told == ["Error parsing --seed: 'x' is no whole number"] * 2


def test_an_empty_path_is_refused():
    """As from a variable of the shell that is not set: Python would take it for the current folder."""

    @settings
    class Options:
        run_dir: Path | None = None

    assert config.options(Options, ["--run-dir", "."], command="walk", description=None) == Options(run_dir=Path("."))
    for args in (["--run-dir", ""], ["--run-dir="]):
        with pytest.raises(UserError, match="Error parsing --run-dir: '' is no file or folder"):
            config.options(Options, args, command="walk", description=None)


def test_a_command_s_options():
    args = ["here", "--steps", "2", "--later_steps=0.5", "--each", "a", "--each", "b", "--quiet"]
    found = config.options(Options, args, command="walk", description=None)
    assert found == Options(where=Path("here"), steps=2, later_steps=0.5, each=("a", "b"), quiet=True)
    known, rest = config.known_options(Options, ["here", "--test.tasks", "4", "--quiet", "--seed=3"])
    assert known == Options(where=Path("here"), quiet=True)
    assert rest == ["--test.tasks", "4", "--seed=3"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "Missing from metarl walk: PATH A folder"),
        (["here", "--stepz", "2"], r"--stepz: no such flag. Did you mean '--steps'\?"),
        (["here", "--steps", "0"], "steps = 0: should be greater than or equal to 1"),
        (["here", "there"], "'there' belongs to no flag"),
    ],
)
def test_a_wrong_option_is_told(args, message):
    with pytest.raises(UserError, match=message):
        config.options(Options, args, command="walk", description=None)


def test_no_flags_change_nothing():
    base = Run(seed=1, options={"a": [1]}, extra=Check(), clip=0.5)
    assert config.override(base, []) == base
    assert config.override(base, ["--clip", "None", "--extra.every", "2"]) == Run(
        seed=1, options={"a": [1]}, extra=Check(every=2)
    )


def test_booleans_are_written_out():
    assert config.override(Run(algorithm=Drift()), ["--algorithm.decay", "True"]).algorithm == Drift(decay=True)


def test_a_free_mapping_is_a_yaml_flag():
    run = config.override(Run(options={"a": 1}), ["--options", "{range: [0, 1e-1], mode: on}"])
    assert run.options == {"range": [0, 0.1], "mode": "on"}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--sead", "3"], r"--sead: no such flag. Did you mean '--seed'\?"),
        (["--sead=3"], r"--sead: no such flag. Did you mean '--seed'\?"),
        (["--algorithm.detla", "3"], r"--algorithm.detla: no such flag. Did you mean '--algorithm.delta'\?"),
        (
            ["--algorithm", "drfit"],
            r"algorithm.name = 'drfit': no such name. Did you mean 'drift'\? There are\n    trust: .*\n    drift: ",
        ),
        (["--algorithm"], "--algorithm needs the name of a kind"),
        (["--test.tsks", "3"], r"Did you mean '--test.tasks'\?"),
        (["--tasks", "3"], r"--tasks: no such flag. Did you mean --test.tasks\?"),
        (["--algorithm.lr", "3"], "--algorithm.lr: no such flag. Here it is --algorithm.delta."),
        (["--lr", "3"], "--lr: no such flag. Here it is --algorithm.delta."),
        (["--device", "cuda"], "--device: no such flag. There is only the CPU."),
        (["--seed", "１"], "--seed: '１' is no whole number"),
        (["--seed", "1_0"], "--seed: '1_0' is no whole number"),
        (["--algorithm", "drift", "--algorithm.decay", "yes"], "decay: 'yes' is neither true nor false"),
        (["--clip", "0x1"], r"--clip: '0x1' is no number"),
        (["--extra.every", "2"], "--extra.every: no such flag"),
        (["--seed", "-1"], "the command line:\n  seed = -1: should be greater than or equal to 0"),
        (["--seed", "x"], "--seed.*'x'"),
        (["--seed", "1.5"], "--seed.*'1.5'"),
        (["--seed"], "--seed"),
        (["--hidden", "a"], "--hidden"),
        (["--options", "3"], "the value of options holds a int"),
        (["--options", "{a"], "the value of options, line 1: not valid YAML"),
        (["stray"], "'stray' belongs to no flag"),
    ],
)
def test_a_wrong_flag_is_told(args, message, capsys):
    with pytest.raises(UserError, match=message):
        config.override(Run(), args, hints={"lr": "delta step", "device": "There is only the CPU."})
    assert capsys.readouterr() == ("", "")


def test_wrong_values_in_several_flags_are_told_at_once():
    with pytest.raises(UserError) as caught:
        config.override(Run(), ["--algorithm.delta", "0", "--seed", "-1"])
    assert {line.split(":")[0] for line in str(caught.value).splitlines()[1:]} == {
        "  algorithm.delta = 0.0",
        "  seed = -1",
    }


def test_help_shows_every_setting_with_its_docstring_and_value(capsys):
    with pytest.raises(SystemExit) as stop:
        config.override(Run(seed=12345), ["--help"], prog="train.py", description="Train.")
    shown = capsys.readouterr().out
    assert stop.value.code == 0
    for text in (
        "train.py",
        "Train.",
        "Which robot.",
        "Radius [nat].",
        "12345",
        "--algorithm.delta",
        "--hidden",
    ):
        assert text in shown


# Plain data and back

INTEGERS = st.integers(-(2**63), 2**63 - 1)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
WORDS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | INTEGERS | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
ALGORITHMS = st.builds(Trust, delta=st.floats(1e-300, 1e300)) | st.builds(Drift, step=NUMBERS)
RUNS = st.builds(
    Run,
    env=WORDS,
    algorithm=ALGORITHMS,
    extra=st.none() | st.builds(Check, tasks=INTEGERS),
    hidden=st.lists(INTEGERS, min_size=1, max_size=3).map(tuple),
    bounds=st.tuples(NUMBERS, NUMBERS),
    clip=st.none() | NUMBERS,
    options=st.dictionaries(WORDS, VALUES, max_size=3),
)


@hypothesis.given(run=RUNS)
@hypothesis.settings(max_examples=150, deadline=None)
def test_a_config_survives_its_file(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run.yaml"
    config.save(run, path)
    assert config.load(path, Run) == run
    assert config.from_dict(config.to_dict(run), Run) == run
    assert config.difference(run, run) == {}


@pytest.mark.parametrize("word", ["on", "1e3", "1", "1.", "null", "~", "", "true", "1:30", "- a", "#", "a: b"])
def test_a_word_that_looks_like_something_else_stays_a_word(word):
    assert strict_yaml.parse(strict_yaml.text({"x": word}).encode(), "text") == {"x": word}


def test_a_saved_config_names_every_setting(tmp_path):
    config.save(Run(), tmp_path / "run.yaml")
    text = (tmp_path / "run.yaml").read_text()
    assert "hidden: [64, 64]" in text
    assert strict_yaml.parse(text.encode(), "text") == config.to_dict(Run())


def test_a_difference_names_dotted_keys_and_both_values():
    a = Run(seed=1, algorithm=Trust(delta=1.0), options={"x": 1})
    b = config.to_dict(Run(seed=2, algorithm=Drift(), options={}))
    assert config.difference(a, b) == {
        "seed": (1, 2),
        "algorithm.name": ("trust", "drift"),
        "algorithm.delta": (1.0, config.ABSENT),
        "algorithm.iterations": (10, config.ABSENT),
        "algorithm.step": (config.ABSENT, 0.1),
        "algorithm.decay": (config.ABSENT, False),
        "options.x": (1, config.ABSENT),
        "options": (config.ABSENT, {}),
    }


# How a script ends


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (UserError("no such robot"), 2, "error: no such robot\n"),
        (gymnasium.error.NameNotFound("no env"), 2, "error: no env\n"),
        (RunFailed("it blew up"), 1, "error: it blew up\n"),
        (UserError("red\x1b[31m:\0\n  θ\u2028"), 2, "error: red\\x1b[31m:\\x00\n  θ\\u2028\n"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 1, "error: /x: Permission denied\n"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 1, "error: No space left on device\n"),
        (MemoryError("9 TB"), 1, "error: there is not enough memory: 9 TB. Choose smaller sizes.\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
    ],
)
def test_a_script_ends_with_one_line(error, status, message, capsys):
    @exits_cleanly
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == status
    assert capsys.readouterr().err == message


@pytest.mark.parametrize("error", [ValueError("bug"), OSError(errno.EBADF, "bug"), ConnectionError("peer")])
def test_other_errors_keep_their_traceback(error):
    @exits_cleanly
    def main() -> None:
        raise error

    with pytest.raises(type(error)):
        main()


def test_a_script_that_ends_well_returns_its_value():
    assert exits_cleanly(lambda x: x + 1)(2) == 3


def test_the_nearest_name_is_offered_or_else_all():
    assert nearest("MAMl", ["maml", "reptile"]) == " Did you mean 'maml'?"
    assert nearest("xyz", ["maml", "reptile"]) == " There are: maml, reptile."
    assert nearest("xyz", []) == ""
    assert nearest("xyz", map(str, range(20))).endswith("17, 18, 19.")
    assert nearest("xyz", map(str, range(20)), "`all` lists them.") == " `all` lists them."
    assert nearest("xyz", ["maml", "reptile"], "`all` lists them.") == " There are: maml, reptile."


def test_a_path_that_is_not_utf_8_is_named():
    with pytest.raises(UserError, match=r"env = 'n\\udcff': is not UTF-8. Give the file or folder another name"):
        config.from_dict({"env": os.fsdecode(b"n\xff")}, Run)
