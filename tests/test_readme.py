"""What the READMEs show works as written."""

import importlib
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import envs  # noqa: F401  registers the families
import metarl
from metarl import commands
from metarl.algorithms import Algorithm
from metarl.algorithms.reptile import Reptile
from metarl.config.settings import fields_of, kinds, names_of

ROOT = Path(__file__).parents[1]
TEXTS = {
    path: (ROOT / path).read_text(encoding="utf-8")
    for path in (
        "README.md",
        "envs/README.md",
        "configs/README.md",
        "scripts/README.md",
        "metarl/README.md",
        "metarl/algorithms/README.md",
        "metarl/policies/README.md",
        ".github/CONTRIBUTING.md",
    )
}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
EXAMPLES = ("num_envs=800", "import TaskVecEnv", "metarl.load", "class PlaceTask", "class HiddenRod", "class MAMLSign")
"""What tells the Python examples apart; each is run by a test below."""

SMALL = shlex.split(
    "--iterations 1 --sampling.tasks 2 --sampling.episodes 2 --env.horizon 10 --evaluation.tasks 2 "
    "--evaluation.episodes 2 --evaluation.videos 0 --tracking.mode disabled"
)
RECURRENT = shlex.split(
    "--environment_steps 12 --trials 2 --episodes 2 --env.horizon 3 --minibatches 1 --evaluation.tasks 2 "
    "--evaluation.episodes 2 --tracking.mode disabled"
)
SMALLER = {"train": SMALL, "evaluate": ["--tasks", "2", "--episodes", "2"], "rl2": RECURRENT}
"""What makes a command of the READMEs short enough for a test."""

LONG = ("baseline", "benchmark", "breadth", "results", "sinusoid", "sweep")
"""Commands that take minutes: their flags are looked up in their help."""


def block(containing: str) -> str:
    """The Python code of the READMEs that contains a text."""
    (found,) = [code for code in python_blocks() if containing in code]
    return found


def python_blocks() -> list[str]:
    return [code for text in TEXTS.values() for language, code in FENCE.findall(text) if language == "python"]


def shell_lines() -> list[str]:
    """The calls of metarl in the READMEs' blocks, without comments."""
    lines = (line for text in TEXTS.values() for language, code in FENCE.findall(text) for line in code.splitlines())
    return sorted({shlex.join(shlex.split(line, comments=True)) for line in lines if line.startswith("metarl ")})


def links() -> list[tuple[str, str]]:
    """(README, what it links to inside the repository)."""
    pairs = [(path, link) for path, text in TEXTS.items() for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    return [(path, link) for path, link in pairs if not link.startswith("http")]


def anchors(text: str) -> set[str]:
    """What GitHub calls the headings of a text."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# ------------------------------------------------------------------------------------------------ Python
def run(*command: object, folder: Path, **environment: str) -> str:
    process = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", **environment},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_every_python_example_is_run_below():
    found = [[example for example in EXAMPLES if example in code] for code in python_blocks()]
    assert sorted(found) == sorted([example] for example in EXAMPLES)


def test_the_environments_alone(tmp_path):
    (tmp_path / "alone.py").write_text(block("num_envs=800"))
    run("alone.py", folder=tmp_path)


def test_an_algorithm_of_stable_baselines_trains_on_the_vector_environment(tmp_path):
    (tmp_path / "learn.py").write_text(block("import TaskVecEnv"))
    run("-W", "error::UserWarning", "learn.py", folder=tmp_path)


def test_a_policy_adapts_to_a_new_task(tmp_path):
    (tmp_path / "adapt.py").write_text(
        block("metarl.load") + "assert env.action_space.contains(action)\nprint(adapted)\n"
    )
    assert "adaptation steps 2" in run("adapt.py", folder=tmp_path)


def test_a_family_of_ones_own_trains(tmp_path):
    """By the commands that the READMEs show."""
    (tmp_path / "cart.py").write_text(block("class PlaceTask"))
    train = "PYTHONPATH=. metarl train point_nav/maml_trpo --env.id cart:mine/Cart-v0"
    evaluate = "METARL_ALLOW_IMPORT=cart PYTHONPATH=. metarl evaluate runs/NAME"
    assert [path for path, text in TEXTS.items() if f"\n{train}\n" in text] == ["README.md", "envs/README.md"]
    assert f"\n{evaluate}\n" in TEXTS["envs/README.md"]
    small = [*SMALL, "--evaluation.videos", 1, "--run-dir", "runs/NAME"]
    output = run("-m", *train.split()[1:], *small, folder=tmp_path)
    assert "validation tasks at iteration 1" in output
    assert list((tmp_path / "runs" / "NAME" / "videos").glob("*.mp4"))
    output = run("-m", *evaluate.split()[2:], *SMALLER["evaluate"], folder=tmp_path, METARL_ALLOW_IMPORT="cart")
    assert "held-out" in output


def test_an_environment_of_gymnasium_trains(tmp_path):
    """It is evaluated on held-out tasks and reported."""
    (tmp_path / "pendulum.py").write_text(block("class HiddenRod"))
    train = "PYTHONPATH=. metarl train point_nav/maml_trpo --env.id pendulum:mine/Pendulum-v0"
    assert f"\n{train}\n" in TEXTS["envs/README.md"]
    small = [*SMALL, "--iterations", 3, "--threads", 2, "--run-dir", "runs/NAME"]
    assert "iteration 3/3" in run("-m", *train.split()[1:], *small, folder=tmp_path)
    of_run = {"folder": tmp_path, "METARL_ALLOW_IMPORT": "pendulum"}
    assert "held-out" in run("-m", "metarl", "evaluate", "runs/NAME", *SMALLER["evaluate"], **of_run)
    run("-m", "metarl", "report", "runs/NAME", **of_run)
    assert "swing up a rod of hidden mass" in (tmp_path / "runs" / "NAME" / "report.html").read_text()


def test_an_algorithm_of_ones_own_trains(tmp_path):
    """One file and one union, in a copy of the package."""
    for part in ("metarl", "envs", "configs"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    algorithms = tmp_path / "metarl" / "algorithms"
    (algorithms / "maml_sign.py").write_text(block("class MAMLSign"))
    union = (algorithms / "__init__.py").read_text()
    changed = union.replace("Annotated[MAMLTRPO |", "Annotated[MAMLSign | MAMLTRPO |")
    assert changed != union
    (algorithms / "__init__.py").write_text(f"from metarl.algorithms.maml_sign import MAMLSign\n{changed}")
    (tmp_path / "own.yaml").write_text("env: {id: 'envs:metarl/PointNav-v0'}\nalgorithm: maml_sign\n")
    own = ("--algorithm.step_size", 0.01, "--run-dir", "run")
    output = run("-m", "metarl", "train", "own.yaml", *own, *SMALL, folder=tmp_path)
    assert "validation tasks at iteration 1" in output


# ------------------------------------------------------------------------------------------------- shell
@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs that the READMEs name, small ones, and with a model of Stable-Baselines3."""
    path = tmp_path_factory.mktemp("readme")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        for name, seed in (("NAME", 0), ("A-seed0", 0), ("A-seed1", 1)):
            call("train", "demo", *SMALL, "--run-dir", f"runs/{name}", "--seed", str(seed))
        call("train", "half_cheetah_vel/maml_trpo", *SMALL, "--run-dir", "runs/B-seed0")
        for name in ("A-seed0", "A-seed1", "B-seed0"):
            call("evaluate", f"runs/{name}", *SMALLER["evaluate"])
        metarl.load("runs/NAME").export_sb3("ppo.zip")
        env = gymnasium.make("envs:metarl/HalfCheetahVel-v0")
        VecNormalize(DummyVecEnv([lambda: env])).save("vecnormalize.pkl")
    return path


def call(name: str, *args: str) -> None:
    """Run a command of metarl in this process."""
    importlib.import_module(f"metarl.commands.{name}").main(list(args))


@pytest.mark.parametrize("line", shell_lines())
def test_commands_work_as_written(line, folder, monkeypatch, capsys):
    name, *args = shlex.split(line)[1:]
    monkeypatch.chdir(folder)
    if name in LONG or "--viewer" in args:
        with pytest.raises(SystemExit):
            call(name, "--help")
        shown = capsys.readouterr().out
        assert [flag for flag in args if flag.startswith("--") and flag not in shown] == []
        assert [arg for arg in args if arg.endswith(".yaml") and not (ROOT / arg).is_file()] == []
    elif "--resume" in args:
        call(name, *args, "--iterations", "2")
    else:
        call(name, *args, *SMALLER.get(name, []))


@pytest.mark.parametrize("span", sorted({s for text in TEXTS.values() for s in re.findall(r"`metarl (\w.*?)`", text)}))
def test_commands_within_the_text_exist(span):
    name, *args = span.split()
    assert name in commands.COMMANDS or name == "COMMAND"
    configs = [arg for arg in args if name == "train" and "/" in arg]
    assert [config for config in configs if not (ROOT / "configs" / f"{config}.yaml").is_file()] == []


def test_every_command_has_a_row():
    rows = re.findall(r"^\| `metarl (\w+)` \|", TEXTS["scripts/README.md"], re.MULTILINE)
    assert sorted(rows) == sorted(commands.COMMANDS)


# ------------------------------------------------------------------------------------- tables, files, links
def test_every_family_has_a_row():
    rows = re.findall(r"^\| (\w+) \| .* \| \d+ / \d+ \|", TEXTS["envs/README.md"], re.MULTILINE)
    own = [spec.name for spec in gymnasium.registry.values() if spec.namespace == "metarl"]
    assert sorted(rows) == sorted(own)


@pytest.mark.parametrize("kind", [*kinds(Algorithm), *kinds(fields_of(Reptile)["inner"].annotation)])
def test_every_algorithm_and_inner_loop_has_a_row(kind):
    (name,) = names_of(kind)
    assert re.search(rf"^\| .*`{name}`.* \|$", TEXTS["metarl/algorithms/README.md"], re.MULTILINE)


def test_the_layers_are_those_that_the_test_of_imports_holds():
    rows = re.findall(r"^\| \[(\w+)(?:/|\.py)\]\(", TEXTS["metarl/README.md"], re.MULTILINE)
    layers = runpy.run_path(str(ROOT / "tests" / "test_layers.py"))["LAYERS"]
    assert rows == [layer for layer in layers if layer != "__main__"]


def paths() -> set[str]:
    return {
        path
        for text in TEXTS.values()
        for path in re.findall(r"`((?:metarl|envs|scripts|configs|tests|\.ci|\.github)/[\w/.]+)`", text)
    }


@pytest.mark.parametrize("path", sorted(paths() - {"scripts/NAME.py"}))
def test_files_that_are_named_exist(path):
    assert (ROOT / path).exists()


def test_the_wheel_has_its_name():
    named = {name for text in TEXTS.values() for name in re.findall(r"metarl_suite-([\d.]+)-py3", text)}
    assert named == {metarl.__version__}


@pytest.mark.parametrize(("path", "link"), links())
def test_links_lead_somewhere(path, link):
    target, _, anchor = link.partition("#")
    file = (ROOT / path).parent / target if target else ROOT / path
    assert file.exists()
    assert not anchor or anchor in anchors(file.read_text(encoding="utf-8"))
