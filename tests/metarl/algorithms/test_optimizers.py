import pytest
import torch

from metarl.algorithms import optimizers
from metarl.runs import checkpoints


def quadratic(params):
    """The gradient of 1/2 (w - 3)^2 + (b + 1)^2."""
    return {"w": params["w"] - 3, "b": 2 * (params["b"] + 1)}


START = {"w": torch.tensor([1.0, 2.0]), "b": torch.tensor([[0.5]])}


def test_sgd_is_the_formula():
    moved, state = optimizers.step("sgd", START, quadratic(START), {}, 0.1)
    torch.testing.assert_close(moved["w"], torch.tensor([1.2, 2.1]))
    torch.testing.assert_close(moved["b"], torch.tensor([[0.2]]))
    assert START["w"].tolist() == [1.0, 2.0]
    assert optimizers.step("sgd", moved, quadratic(moved), state, 0.1)[0]["w"][0] == pytest.approx(1.38)


def test_adam_is_torchs_own_over_many_steps():
    params, state = START, {}
    expected = {name: p.clone().requires_grad_() for name, p in START.items()}
    adam = torch.optim.Adam(expected.values(), lr=0.05)
    for _ in range(5):
        params, state = optimizers.step("adam", params, quadratic(params), state, 0.05)
        for name, g in quadratic(expected).items():
            expected[name].grad = g.detach()
        adam.step()
    for name, p in expected.items():
        assert torch.equal(params[name], p.detach())
        assert not params[name].requires_grad


def test_a_step_leaves_the_state_it_was_given(tmp_path):
    """Two steps from one state are equal, also after the state went through a checkpoint."""
    params, state = optimizers.step("adam", START, quadratic(START), {}, 0.05)
    checkpoints.save(tmp_path / "state.pt", {"adam": state})
    once, _ = optimizers.step("adam", params, quadratic(params), state, 0.05)
    again, _ = optimizers.step("adam", params, quadratic(params), state, 0.05)
    loaded = checkpoints.load(tmp_path / "state.pt")["adam"]
    resumed, _ = optimizers.step("adam", params, quadratic(params), loaded, 0.05)
    for name, p in once.items():
        assert torch.equal(p, again[name])
        assert torch.equal(p, resumed[name])


def test_the_learning_rate_may_change_from_step_to_step():
    params, state = optimizers.step("adam", START, quadratic(START), {}, 0.05)
    slow, _ = optimizers.step("adam", params, quadratic(params), state, 0.01)
    fast, _ = optimizers.step("adam", params, quadratic(params), state, 0.02)
    torch.testing.assert_close(2 * (slow["w"] - params["w"]), fast["w"] - params["w"])


@pytest.mark.parametrize("kept", [lambda state: state, lambda state: {"iteration": 3, "optimizer": state}])
def test_the_state_of_an_optimizer_belongs_to_its_parameters(kept):
    for kind in ("sgd", "adam"):
        _, state = optimizers.step(kind, START, quadratic(START), {}, 0.05)
        optimizers.check_state(kept(state), START)
    for wrong in ({**state, 7: state[0]}, {0: state[0]}, {0: state[1], 1: state[0]}, {0: {}, 1: {}}):
        with pytest.raises(ValueError, match="not that of its parameters"):
            optimizers.check_state(kept(wrong), START)


@pytest.mark.parametrize("entry", ["exp_avg", "exp_avg_sq", "step"])
def test_moments_of_another_type_or_shape_are_refused(entry):
    _, state = optimizers.step("adam", START, quadratic(START), {}, 0.05)
    right = state[0][entry]
    for wrong in (right.int(), right.double(), right[..., None], right.tolist(), None):
        with pytest.raises(ValueError, match="not that of its parameters"):
            optimizers.check_state({"adam": {**state, 0: {**state[0], entry: wrong}}}, START)
