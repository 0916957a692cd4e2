"""What the settings of a run may name: registered environments of modules that may be imported, and options."""

import sys

import gymnasium
import pytest
from gymnasium.envs.registration import EnvSpec

from metarl.errors import UserError
from metarl.sampling.registry import ALLOWED, check_options, find, import_module_of


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The name of a package that registers Mine-v0 and, when it is imported, leaves a canary in the folder."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text(
        f"import gymnasium, pathlib\npathlib.Path({str(tmp_path / 'canary')!r}).touch()\n"
        "gymnasium.register('Mine-v0', entry_point='nowhere:nothing', kwargs={'gravity': 1})\n"
    )
    (tmp_path / "mine" / "more.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv(ALLOWED, raising=False)
    yield "mine"
    for name in ("mine", "mine.more"):
        sys.modules.pop(name, None)
    gymnasium.registry.pop("Mine-v0", None)


def test_a_module_that_nobody_allowed_is_not_imported(mine, tmp_path):
    with pytest.raises(UserError, match=rf"module mine is not imported.*{ALLOWED}=mine"):
        find("mine:Mine-v0")
    with pytest.raises(UserError, match="module mine.more is not imported"):
        find("mine.more:Mine-v0")
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("allowed", ["mine", "other, mine"])
@pytest.mark.parametrize("module", ["mine", "mine.more"])
def test_a_module_that_the_user_allows_is_imported(mine, monkeypatch, allowed, module):
    monkeypatch.setenv(ALLOWED, allowed)
    assert find(f"{module}:Mine-v0").id == "Mine-v0"


@pytest.mark.parametrize("allowed", ["min", "mine.more", "*", ""])
def test_another_name_allows_nothing(mine, monkeypatch, allowed, tmp_path):
    monkeypatch.setenv(ALLOWED, allowed)
    with pytest.raises(UserError, match="not imported"):
        find("mine:Mine-v0")
    assert not (tmp_path / "canary").exists()


def test_what_the_user_chose_is_imported_and_found_from_then_on(mine):
    import_module_of("mine:Mine-v0")
    assert find("mine:Mine-v0") is find("Mine-v0")


def test_own_families_need_no_leave():
    assert find("envs:metarl/PointNav-v0").id == "metarl/PointNav-v0"


@pytest.mark.parametrize(
    "env_id", [".:x", "..:x", ":x", "a:b:c", "a b:c", "1a:x", "a.:x", "a/b:x", "envs:", "", "a:b c"]
)
def test_malformed_ids_are_refused(env_id):
    with pytest.raises(UserError, match="expected MODULE:NAME, such as envs:metarl/HalfCheetahVel-v0"):
        find(env_id)


def test_a_module_that_does_not_exist_is_named(monkeypatch):
    monkeypatch.setenv(ALLOWED, "nowhere")
    with pytest.raises(UserError, match="No module named 'nowhere'.*PYTHONPATH"):
        find("nowhere:X-v0")


@pytest.mark.parametrize(
    "name", ["family", "self", "cls", "render_mode", "vectorization_mode", "vector_kwargs", "wrappers", "spec"]
)
def test_arguments_of_what_builds_an_environment_are_no_options(name):
    with pytest.raises(UserError, match=rf"env\.options\.{name} is no parameter of a family: leave it out"):
        check_options({name: 1})


@pytest.mark.parametrize(
    ("name", "instead"),
    [("num_envs", "sampling.tasks"), ("nthread", "threads"), ("max_episode_steps", "env.horizon"), ("id", "env.id")],
)
def test_what_a_setting_stands_for_is_no_option(name, instead):
    with pytest.raises(UserError, match=rf"env\.options\.{name} .*set {instead}"):
        check_options({name: 1})


def test_what_a_registration_fixes_is_no_option():
    spec = EnvSpec("Mine-v0", kwargs={"gravity": 1})
    check_options({"wind": 2}, spec)
    with pytest.raises(UserError, match=r"env\.options\.gravity: Mine-v0 is registered with a fixed value"):
        check_options({"gravity": 2}, spec)
