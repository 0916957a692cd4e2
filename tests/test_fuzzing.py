"""A thousand damaged configs and a thousand damaged files of a run each end well or in one message, within 10 s.

`CHANGES` are made to data, `EDITS` to lines of text, and `BYTES` to any file; configs have further ones. What a case is
follows from its seed and number, which a failure names:

    python -m pytest -m slow tests/test_fuzzing.py    # 2000 cases: about five minutes of processor time
"""

import functools
import io
import json
import os
import shutil
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metarl import config, runs
from metarl.commands import baseline, compare, evaluate, report, train
from metarl.config import shipped, strict_yaml
from metarl.errors import exits_cleanly
from metarl.experiment import Experiment
from metarl.training import prepare

SEEDS, CASES = range(8), 125
LINES, LETTERS = 20, 1000
"""Of the longest message, and of its longest line."""
SECONDS = 10
"""Of processor time, for one case: where others use the machine too, their time does not count."""

Rng = np.random.Generator
Change = Callable[[Any, Rng], None]

NUMBERS = [0, 1, -1, 0.5, -0.0, 5e-324, 1e38, 1e308, -1e308, 10**9, 2**31, 2**63 - 1, 2**63, 10**20, 10**400]
NUMBERS += [float(word) for word in ("nan", "inf", "-inf")]
TEXTS = ["", " ", "~", "on", "１", "1_0", "0x10", "010", "1:30", "1e5", "../..", "envs", ".:x", "{}", "%s%n", "[red]x"]
TEXTS += ["é" * 300, "\u202e\u200b", "\ud800", "\x00", "\x1b[31m", "x" * 40_000, "\U0001f916", "a\nb", "- a", "'"]
OTHERS = [None, True, [], {}, [[0], [1]], ["a", "b"], [1, [2, [3]]], {"a": 1}, {"name": "x"}, {"": {"": None}}]
VALUES = [*NUMBERS, *TEXTS, *OTHERS]


def pick(rng: Rng, items: Any) -> Any:
    return items[int(rng.integers(len(items)))]


def places(data: Any, kind: Any = object) -> list[tuple[Any, Any]]:
    """Every (mapping or list, key) in the data at which a value of this kind stands."""
    keys = data.keys() if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()
    here = [(data, key) for key in keys if isinstance(data[key], kind)]
    return here + [place for key in keys for place in places(data[key], kind)]


# Changes to data, in place


def a_value_of_another_kind(data: Any, rng: Rng) -> None:
    section, key = pick(rng, places(data))
    section[key] = pick(rng, VALUES)


def an_extreme_number(data: Any, rng: Rng) -> None:
    section, key = pick(rng, places(data, int | float))
    section[key] = pick(rng, NUMBERS)


def an_odd_text(data: Any, rng: Rng) -> None:
    section, key = pick(rng, places(data, str))
    section[key] = pick(rng, [*TEXTS, section[key].upper(), section[key][:-1], section[key] * 2])


def a_text_for_a_list(data: Any, rng: Rng) -> None:
    section, key = pick(rng, places(data, list))
    section[key] = ", ".join(map(str, section[key]))


def another_length(data: Any, rng: Rng) -> None:
    section, key = pick(rng, places(data, list))
    section[key] = pick(rng, [section[key][1:], section[key] * 2, section[key] * 1000, []])


def a_missing_key(data: Any, rng: Rng) -> None:
    section, key = pick(rng, places(data))
    del section[key]


def a_further_key(data: Any, rng: Rng) -> None:
    section = pick(rng, [data, *(s[key] for s, key in places(data, dict))])
    section[pick(rng, [*TEXTS, "lr", "stesp"])] = pick(rng, VALUES)


def a_thousand_further_keys(data: Any, rng: Rng) -> None:
    section = pick(rng, [data, *(s[key] for s, key in places(data, dict))])
    section.update({f"key_{n}": n for n in range(1000)})


def swapped_values(data: Any, rng: Rng) -> None:
    (s, a), (t, b) = (pick(rng, places(data)) for _ in range(2))
    s[a], t[b] = t[b], s[a]


def deep_nesting(data: Any, rng: Rng) -> None:
    section, key = pick(rng, places(data))
    for _ in range(pick(rng, [5, 50])):
        section[key] = pick(rng, [[section[key]], {"a": section[key]}])


CHANGES: list[Change] = [
    a_value_of_another_kind,
    an_extreme_number,
    an_odd_text,
    a_text_for_a_list,
    another_length,
    a_missing_key,
    a_further_key,
    a_thousand_further_keys,
    swapped_values,
    deep_nesting,
]


def some(changes: list[Change], data: Any, rng: Rng, most: int = 1) -> list[str]:
    """Make at least one change to the data, and at most so many; what they are called."""
    done: list[str] = []
    while not done:
        for change in (pick(rng, changes) for _ in range(int(rng.integers(1, most + 1)))):
            try:
                change(data, rng)
                done.append(change.__name__)
            except (ValueError, IndexError, KeyError, TypeError, AttributeError):  # there is no place for it
                continue
    return done


# Edits to text, at line n

EDITS: dict[str, Callable[[list[bytes], int, Rng], list[bytes]]] = {
    "a line twice": lambda lines, n, rng: [*lines[:n], lines[n], *lines[n:]],
    "a line less": lambda lines, n, rng: [*lines[:n], *lines[n + 1 :]],
    "an odd line": lambda lines, n, rng: [*lines[:n], pick(rng, [b"", b"{}", b"[]", b"3", b"null"]), *lines[n:]],
    "an odd end": lambda lines, n, rng: [*lines[:n], lines[n] + pick(rng, ODD).encode(), *lines[n + 1 :]],
    "indented": lambda lines, n, rng: [*lines[:n], pick(rng, [b" ", b"\t", b"   "]) + lines[n], *lines[n + 1 :]],
    "backwards": lambda lines, n, rng: lines[::-1],
    "shuffled": lambda lines, n, rng: [lines[i] for i in rng.permutation(len(lines))],
    "repeated": lambda lines, n, rng: lines * pick(rng, [2, 3000]),
    "nested without end": lambda lines, n, rng: [*lines, b'"x": ' + pick(rng, [b"[", b"{a: "]) * pick(rng, [30, 9999])],
}
ODD = [
    "\x00",
    "\ufeff",
    "\u2028",
    "\x85",
    ":",
    "#",
    "]",
    "}",
    "'",
    '"',
    "|",
    ">",
    "@",
    "`",
    "%",
    "&",
    "*",
    "\r",
    "\xa0",
]
YAML_EDITS: dict[str, Callable[[list[bytes], int, Rng], list[bytes]]] = {
    **EDITS,
    "an alias": lambda lines, n, rng: [b"aliased: &a [1]", *lines[:n], b"x: *a", *lines[n:]],
    "a billion laughs": lambda lines, n, rng: (
        [*lines, b"l0: &l0 [ha]"] + [f"l{i + 1}: &l{i + 1} [{', '.join([f'*l{i}'] * 10)}]".encode() for i in range(10)]
    ),
    "a tag": lambda lines, n, rng: [
        *lines[:n],
        lines[n].replace(b": ", b": %b " % pick(rng, TAGS), 1),
        *lines[n + 1 :],
    ],
    "two documents": lambda lines, n, rng: [*lines[:n], pick(rng, [b"---", b"...", b"%YAML 9.9"]), *lines[n:]],
    "a merge key": lambda lines, n, rng: [*lines[:n], b"<<: {seed: 1}", *lines[n:]],
}
TAGS = [b"!!int", b"!!float", b"!!bool", b"!!map", b"!!seq", b"!!set", b"!!omap", b"!!binary", b"!!timestamp", b"!x"]
TAGS += [b"!!null", b"!!python/object/apply:os.abort", b"!!python/name:os.abort", b"!!merge"]


def edited(content: bytes, how: Callable[[list[bytes], int, Rng], list[bytes]], rng: Rng) -> bytes:
    lines = content.split(b"\n")
    return b"\n".join(how(lines, int(rng.integers(len(lines))), rng))


# Damage to any file, at byte i


def flipped(content: bytes, i: int, rng: Rng) -> bytes:
    changed = np.frombuffer(content, np.uint8).copy()
    changed[rng.integers(len(changed), size=pick(rng, [1, 1, 8, 100]))] ^= rng.integers(1, 256, dtype=np.uint8)
    return changed.tobytes()


BYTES: dict[str, Callable[[bytes, int, Rng], bytes]] = {
    "cut off": lambda content, i, rng: content[:i],
    "begins in the middle": lambda content, i, rng: content[i:],
    "flipped bytes": flipped,
    "a hole": lambda content, i, rng: content[:i] + content[i + pick(rng, [1, 10, 1000]) :],
    "NUL": lambda content, i, rng: content[:i] + bytes(pick(rng, [1, 4096])) + content[i:],
    "all NUL": lambda content, i, rng: bytes(len(content)),
    "nothing": lambda content, i, rng: b"",
    "twice": lambda content, i, rng: content * 2,
    "UTF-16": lambda content, i, rng: content.decode("latin-1").encode("utf-16"),
    "a byte order mark": lambda content, i, rng: b"\xef\xbb\xbf" + content,
    "no UTF-8": lambda content, i, rng: content[:i] + b"\xff\xe9" + content[i:],
    "noise": lambda content, i, rng: rng.bytes(pick(rng, [1, 100, 10_000])),
}

# How a case ends


def problem_of(case: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> tuple[bool, str]:
    """Whether it ends in a message, and what is wrong with its end."""
    try:
        with processor_time(SECONDS):
            case()
        return False, ""
    except SystemExit as stop:
        message = capsys.readouterr().err
        lines = message.splitlines()
        fits = len(lines) <= LINES and max(map(len, lines), default=0) <= LETTERS
        told = stop.code in (1, 2) and "error: " in message
        return True, "" if fits and told else message[:5000]
    except Exception as error:
        return True, f"{type(error).__name__}: {error}"[:5000]


@contextmanager
def processor_time(seconds: float) -> Generator[None]:
    """Raise TimeoutError after so much of it."""

    def end(signum: int, frame: Any) -> None:
        raise TimeoutError(f"more than {seconds} s of processor time")

    before = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


# Configs: a shipped one, made small, with up to three changes and often an edit

SMALL: dict[str, Any] = {
    "env": {"horizon": 5},
    "sampling": {"tasks": 2, "episodes": 2},
    "evaluation": {"tasks": 2, "episodes": 2, "videos": 0},
    "tracking": {"mode": "disabled"},
    "threads": 1,
}
OPTIONS = ["num_envs", "nthread", "max_episode_steps", "id", "self", "family", "render_mode", "task", "kwargs", "x"]
OPTIONS += ["velocity_range", "directions", "goal_visible", "control_cost", "survive", "limit", "radius"]
FAMILIES = ["AntDir", "HalfCheetahParams", "PointNav", "envs:metarl/PusherGoal-v0", "CartPole-v1", "envs.robots:x"]
FAMILIES += ["envs:", ":", "a b:c", "envs:metarl/PointNav-v9", "os:x", "__main__:x"]
ALGORITHMS = ["maml_trpo", "maml_sgd", "maml_ppo", "promp", "reptile", "e_maml", "sgd", None]


def other_options(data: Any, rng: Rng) -> None:
    numbers = [pick(rng, NUMBERS), pick(rng, NUMBERS)]
    names = {pick(rng, OPTIONS) for _ in range(pick(rng, [1, 1, 2]))}
    data["env"]["options"] = {name: pick(rng, [*VALUES, [0, 1], numbers]) for name in names}


def another_family(data: Any, rng: Rng) -> None:
    data["env"]["id"] = pick(rng, FAMILIES)


def another_algorithm(data: Any, rng: Rng) -> None:
    inner = pick(rng, ["sgd", "ppo", "sb3_ppo", "sb3_a2c", {"name": "sgd", "steps": pick(rng, NUMBERS)}, None])
    data["algorithm"] = pick(rng, [{"name": pick(rng, ALGORITHMS), "inner": inner}, pick(rng, ALGORITHMS)])


def text_of(name: str) -> bytes:
    """A shipped config with all settings written out, ready to train in milliseconds."""
    data = strict_yaml.read(shipped.find(name))
    sections = {key: {**data.get(key, {}), **value} for key, value in SMALL.items() if isinstance(value, dict)}
    experiment = config.from_dict({**data, **SMALL, **sections}, Experiment)
    return strict_yaml.text(config.to_dict(experiment)).encode()


def damaged_config(content: bytes, rng: Rng) -> tuple[bytes, list[str]]:
    """The text of a config that is wrong, or at least odd, and what was done to it."""
    data = strict_yaml.parse(content, "a config")
    done = some([*CHANGES, other_options, another_family, another_algorithm], data, rng, most=3)
    content = strict_yaml.text(data).encode()
    if rng.random() < 1 / 3:
        done.append(pick(rng, list(YAML_EDITS)))
        content = edited(content, YAML_EDITS[done[-1]], rng)
    return content, done


@exits_cleanly
def get_ready(file: Path) -> None:
    """All that `metarl train` does before it writes anything."""
    experiment, _ = train.chosen(train.Options(config=str(file)), [])
    prepare(experiment)
    runs.check_tracking(experiment.tracking)


@pytest.fixture(scope="module")
def configs() -> list[bytes]:
    return [text_of(name) for name in shipped.names() if not name.startswith(("sweeps/", "sinusoid/"))]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", SEEDS)
def test_damaged_configs(seed, configs, tmp_path, capsys):
    file, ends, problems = tmp_path / "config.yaml", [], []
    for case in range(CASES):
        rng = np.random.default_rng([seed, case])
        content, done = damaged_config(pick(rng, configs), rng)
        file.write_bytes(content)
        in_message, problem = problem_of(functools.partial(get_ready, file), capsys)
        ends.append(in_message)
        if problem:
            problems.append(f"case {case}, {', '.join(done)}: {problem}")
    assert not problems, "\n\n".join(problems)
    assert CASES / 2 < sum(ends) < CASES  # some are right all the same


# Files: one of a run's, with one change, edit or damage, read by one command

TINY = """
env: {id: "envs:metarl/PointNav-v0", horizon: 5}
policy: {hidden_sizes: [4]}
sampling: {tasks: 2, episodes: 2}
evaluation: {tasks: 3, episodes: 2, videos: 0}
tracking: {mode: disabled}
iterations: 1
threads: 1
"""
TEST = ("--tasks", "3", "--steps", "1", "--episodes", "2", "--replace")
READERS: dict[str, Callable[[Path], None]] = {
    "evaluate": lambda run: evaluate.main([str(run), *TEST]),
    "evaluate best": lambda run: evaluate.main([str(run), *TEST, "--checkpoint", "best"]),
    "report": lambda run: report.main([str(run)]),
    "compare": lambda run: compare.main([str(run), str(run.parent / "other")]),
    "resume": lambda run: train.main(["--run-dir", str(run), "--resume", "--iterations", "2"]),
}
FILES = {
    "config.yaml": ("evaluate", "report", "compare", "resume"),
    "run.json": ("report", "resume"),
    "metrics.jsonl": ("report", "resume"),
    "evaluation-held-out.json": ("evaluate", "report", "compare"),
    "checkpoint.pt": ("evaluate", "report", "resume"),
    "best.pt": ("evaluate best", "resume"),
    "baseline.json": ("report",),
}
"""The commands that read a file."""


def another_tensor(data: Any, rng: Rng) -> None:
    section, key = pick(rng, places(data, torch.Tensor))
    x = section[key]
    others = [x * float("nan"), x * 1e38, x[..., None], x.flatten()[:1], x.int(), x > 0, x.to(torch.complex64)]
    section[key] = pick(rng, [*others, x.double(), x.tolist(), torch.zeros(0), torch.zeros(1).expand(10**12)])


def with_other_json(line: bytes, rng: Rng) -> tuple[bytes, str]:
    data, deep = json.loads(line), "a place that is nested deeply"
    if rng.random() < 1 / 10:
        section, key = pick(rng, places(data))
        section[key] = deep
        return json.dumps(data).replace(json.dumps(deep), "[" * 10_000 + "]" * 10_000).encode(), deep
    (done,) = some(CHANGES, data, rng)
    return json.dumps(data).encode(), done


def with_other_state(content: bytes, rng: Rng) -> tuple[bytes, str]:
    data, file = torch.load(io.BytesIO(content), weights_only=True), io.BytesIO()
    (done,) = some([*CHANGES, another_tensor, another_tensor], data, rng)
    torch.save(data, file)
    return file.getvalue(), done


def damaged_file(name: str, content: bytes, rng: Rng) -> tuple[bytes, str]:
    """The file with one damage, and what that is."""
    kind = pick(rng, ["bytes", "data"] if name.endswith(".pt") else ["bytes", "lines", "data"])
    if kind == "bytes":
        how = pick(rng, list(BYTES))
        return BYTES[how](content, int(rng.integers(len(content))), rng), how
    if kind == "lines":
        how = pick(rng, list(EDITS))
        return edited(content, EDITS[how], rng), how
    if name.endswith(".pt"):
        return with_other_state(content, rng)
    if name.endswith(".yaml"):
        content, done = damaged_config(content, rng)
        return content, ", ".join(done)
    lines = content.splitlines() if name.endswith(".jsonl") else [content]
    n = int(rng.integers(len(lines)))
    lines[n], done = with_other_json(lines[n], rng)
    return b"\n".join(lines), done


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two runs that were evaluated; one of them was compared with PPO and reported, with its videos."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "tiny.yaml").write_text(TINY)
    for name, seed in (("run", "0"), ("other", "1")):
        train.main([str(folder / "tiny.yaml"), "--run-dir", str(folder / name), "--seed", seed])
        evaluate.main([str(folder / name), *TEST])
    short = ("--tasks", "2", "--rollouts", "1", "--steps", "1", "--workers", "1", "--tune", "0")
    baseline.main([str(folder / "run"), *short])
    report.main([str(folder / "run")])
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", SEEDS)
def test_damaged_files(seed, trained, tmp_path, capsys):
    ends, problems = [], []
    for case in range(CASES):
        rng = np.random.default_rng([seed, case])
        name = pick(rng, list(FILES))
        reader, folder = pick(rng, FILES[name]), tmp_path / str(case)
        shutil.copytree(trained, folder)
        file = folder / "run" / name
        content, done = damaged_file(name, file.read_bytes(), rng)
        file.write_bytes(content)
        os.utime(file, (0, 0))  # videos stay newer than the evaluation, and are not made again
        in_message, problem = problem_of(functools.partial(READERS[reader], folder / "run"), capsys)
        ends.append(in_message)
        if problem:
            problems.append(f"case {case}, {name}, {done}, {reader}: {problem}")
        shutil.rmtree(folder)
    assert not problems, "\n\n".join(problems)
    assert CASES / 4 < sum(ends) < CASES  # some damage does no harm
