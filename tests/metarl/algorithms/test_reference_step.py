"""One MAML step against numbers from an independent implementation (float64, 3 tasks of 40 samples each)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.algorithms.meta_gradient import Adaptation, KLCurvature, adapt_and_linearize, meta_gradient
from metarl.inner.sgd import SGD
from metarl.parameters import expand, rows, select, unflatten
from metarl.policy_gradient.gaussian_mlp import GaussianMLP, log_prob
from metarl.types import Batch, Params

NAMES = ("w0", "b0", "w1", "b1", "w2", "b2", "log_std")
TASKS = 3


@pytest.fixture(scope="module")
def reference() -> dict[str, Tensor]:
    with np.load(Path(__file__).parent / "data" / "maml_step.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file}


POLICY = GaussianMLP(observation_size=5, action_size=2, hidden_sizes=(8, 8), min_std=0)


def theta(reference: dict[str, Tensor]) -> Params:
    return {name: reference[f"theta_{name}"] for name in NAMES}


def batch(reference: dict[str, Tensor], kind: str, params: Params) -> Batch:
    """The recorded samples as one episode per task, drawn by the policy with `params`, (M, ...)."""
    observations = reference[f"{kind}_observations"].unsqueeze(1)
    actions = reference[f"{kind}_actions"].unsqueeze(1)
    advantages = reference[f"{kind}_advantages"].unsqueeze(1)
    policy = POLICY.distribution(params, observations)
    return Batch(
        observations,
        actions,
        advantages,
        torch.ones_like(advantages),
        log_prob(policy, actions),
        policy,
        torch.zeros(TASKS),
    )


def sgd(reference: dict[str, Tensor], loss: str) -> SGD:
    return SGD(step_size=reference["inner_lr"].item(), loss=loss)


def adaptation(reference: dict[str, Tensor], loss: str, *, first_order: bool = False) -> Adaptation:
    params = theta(reference)
    support = [batch(reference, "support", expand(params, TASKS))]
    return adapt_and_linearize(sgd(reference, loss), POLICY, params, TASKS, support, first_order=first_order)


def gradient_after(adaptation: Adaptation, query: Batch) -> tuple[Tensor, Params]:
    return meta_gradient(POLICY, adaptation, lambda adapted: -POLICY.outer_losses(adapted, query))


def assert_equal(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("loss", ["ratio", "reinforce"])
def test_adapted_parameters(reference, loss):
    adapted = adaptation(reference, loss).adapted
    for name in NAMES:
        assert_equal(adapted[name], reference[f"adapted_{name}"])


@pytest.mark.parametrize("loss", ["ratio", "reinforce"])
def test_meta_gradient(reference, loss):
    adapted = adaptation(reference, loss)
    _, gradient = gradient_after(adapted, batch(reference, "query", adapted.adapted))
    assert_equal(rows(gradient).mean(0), reference[f"meta_gradient_{loss}"])


def test_first_order_gradient(reference):
    adapted = adaptation(reference, "ratio", first_order=True)
    _, gradient = gradient_after(adapted, batch(reference, "query", adapted.adapted))
    assert_equal(rows(gradient).mean(0), reference["first_order_gradient"])


@pytest.mark.parametrize("loss", ["ratio", "reinforce"])
def test_kl_hessian_product(reference, loss):
    adapted = adaptation(reference, loss)
    curvature = KLCurvature(POLICY, adapted, batch(reference, "query", adapted.adapted))
    vector = unflatten(reference["vector"], theta(reference))
    assert_equal(rows(curvature.product(vector)).mean(0), reference[f"kl_hessian_vector_{loss}"])


def test_tasks_are_independent(reference):
    """A task's adapted parameters and gradient are the same whether it is worked on alone or with the others."""
    params, together = theta(reference), adaptation(reference, "ratio")
    support, query = (
        batch(reference, "support", expand(params, TASKS)),
        batch(reference, "query", together.adapted),
    )
    _, expected = gradient_after(together, query)
    for m in range(TASKS):
        task = slice(m, m + 1)
        alone = adapt_and_linearize(sgd(reference, "ratio"), POLICY, params, 1, [support.tasks(task)])
        for name, value in select(together.adapted, task).items():
            assert_equal(alone.adapted[name], value)
        assert_equal(rows(gradient_after(alone, query.tasks(task))[1]), rows(expected)[task])
