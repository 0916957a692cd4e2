"""Reptile on quadratics, where everything is known in closed form, and its bookkeeping."""

import pytest
import torch

from metarl.algorithms.reptile import Reptile
from metarl.inner import PPO, SGD
from metarl.parameters import expand
from metarl.types import Experience

CURVATURE = torch.tensor([[1.0, 0.2], [0.5, 2.0], [0.1, 0.4]], dtype=torch.float64)  # (M, P): eigenvalues of each task
OPTIMA = torch.tensor([[3.0, -1.0], [1.0, 0.5], [-2.0, 2.0]], dtype=torch.float64)  # (M, P)
ALPHA = 0.3


class Quadratics:
    """Task i has the loss 1/2 sum_p h_ip (w_p - c_ip)^2."""

    names = head = ("w",)

    def inner_losses(self, params, batch, loss):
        return 0.5 * (batch.curvature * (params["w"] - batch.optima) ** 2).sum(-1)


class Tasks:
    """Nothing is sampled: the data of a task is its loss."""

    num_tasks, chunks = 3, [slice(0, 2), slice(2, 3)]

    def __init__(self, curvature=CURVATURE, optima=OPTIMA):
        self.curvature, self.optima = curvature, optima

    def tasks(self, chosen):
        return Tasks(self.curvature[chosen], self.optima[chosen])


def experienced(algorithm, theta, tasks=None):
    adapted = expand({"w": theta}, 3)
    for _ in range(algorithm.inner.steps):
        adapted = algorithm.inner.descend(Quadratics(), adapted, tasks or Tasks())
    return Experience((Tasks(),) * algorithm.inner.steps, adapted)


THETA = torch.tensor([0.7, -0.4], dtype=torch.float64)


@pytest.mark.parametrize("k", [1, 2, 7])
def test_an_update_in_closed_form(k):
    """k steps leave (1 - alpha h)^k of the way to a task's optimum; Reptile goes epsilon of the mean of the rest."""
    algorithm = Reptile(inner=SGD(steps=k, step_size=ALPHA), step_size=0.6)
    experience = experienced(algorithm, THETA)
    rest = (1 - ALPHA * CURVATURE) ** k
    torch.testing.assert_close(experience.adapted["w"], OPTIMA + rest * (THETA - OPTIMA))
    updated, _, metrics = algorithm.update(None, {"w": THETA}, {}, experience)
    expected = THETA + 0.6 * ((1 - rest) * (OPTIMA - THETA)).mean(0)
    torch.testing.assert_close(updated["w"], expected)
    assert metrics["distance"] == pytest.approx(((1 - rest) * (OPTIMA - THETA)).mean(0).norm().item())


@pytest.mark.parametrize("k", [1, 10])
def test_it_converges_to_its_own_fixed_point(k):
    """Where the mean of (1 - (1 - alpha h)^k)(c - theta) is 0: for one step that is the optimum of the summed loss."""
    algorithm = Reptile(inner=SGD(steps=k, step_size=ALPHA))
    params, state = {"w": THETA}, {}
    for _ in range(800):
        params, state, _ = algorithm.update(None, params, state, experienced(algorithm, params["w"]))
    weight = 1 - (1 - ALPHA * CURVATURE) ** k
    torch.testing.assert_close(params["w"], (weight * OPTIMA).sum(0) / weight.sum(0))


def test_a_single_task_is_the_serial_version():
    algorithm = Reptile(inner=SGD(steps=4, step_size=ALPHA), step_size=0.5)
    params = {"w": THETA}
    for m in range(3):
        one = slice(m, m + 1)
        adapted = expand(params, 1)
        for _ in range(4):
            adapted = algorithm.inner.step(Quadratics(), adapted, Tasks().tasks(one))
        params, *_ = algorithm.update(None, params, {}, Experience((), adapted))
    expected = THETA
    for h, c in zip(CURVATURE, OPTIMA, strict=True):
        expected = expected + 0.5 * (1 - (1 - ALPHA * h) ** 4) * (c - expected)
    torch.testing.assert_close(params["w"], expected)


def test_epsilon_is_annealed_linearly_and_then_stays():
    algorithm = Reptile(step_size=0.8, final_step_size=0.2, anneal_iterations=4)
    state, epsilons = {}, []
    for _ in range(6):
        _, state, metrics = algorithm.update(None, {"w": THETA}, state, Experience((), expand({"w": THETA}, 3)))
        epsilons.append(metrics["epsilon"])
    assert epsilons == pytest.approx([0.8, 0.65, 0.5, 0.35, 0.2, 0.2])


def test_annealed_to_zero_it_stands_still():
    algorithm = Reptile(anneal_iterations=1)
    _, state, _ = algorithm.update(None, {"w": THETA}, {}, experienced(algorithm, THETA))
    same, *_ = algorithm.update(None, {"w": THETA}, state, experienced(algorithm, THETA))
    assert same["w"] is THETA


def test_adam_takes_the_way_back_for_the_gradient():
    algorithm = Reptile(inner=SGD(steps=3, step_size=ALPHA), optimizer="adam", step_size=0.01)
    params, state = {"w": THETA}, {}
    expected = THETA.clone().requires_grad_()
    adam = torch.optim.Adam([expected], lr=0.01)
    for _ in range(4):
        experience = experienced(algorithm, params["w"])
        params, state, _ = algorithm.update(None, params, state, experience)
        expected.grad = expected.detach() - experience.adapted["w"].mean(0)
        adam.step()
    torch.testing.assert_close(params["w"], expected.detach(), rtol=1e-12, atol=0)


def test_where_no_task_moves_theta_stays():
    algorithm = Reptile()
    same, *_ = algorithm.update(None, {"w": THETA}, {}, Experience((), expand({"w": THETA}, 3)))
    assert torch.equal(same["w"], THETA)


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        (SGD(steps=2, loss="dice"), "second derivative"),
        (SGD(steps=2, learned_step_sizes=True), "learned_step_sizes"),
        (SGD(steps=2, last_layer_only=True), "other layers would never be trained"),
        (SGD(steps=0), "steps = 0"),
        (PPO(steps=0), "steps = 0"),
    ],
)
def test_what_makes_no_sense_is_refused(inner, message):
    with pytest.raises(ValueError, match=message):
        Reptile(inner=inner)
