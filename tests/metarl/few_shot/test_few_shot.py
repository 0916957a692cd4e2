"""Few-shot regression as the numeric oracle of the loops: known gradients, and known behaviour of what is learned."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from metarl.algorithms.maml_sgd import MAMLSGD
from metarl.algorithms.reptile import Reptile
from metarl.errors import NonFinite
from metarl.few_shot.regression import Examples, RegressionMLP, Sinusoids
from metarl.few_shot.training import GRID, TEST_TASKS, FewShot, HeldOut, collect, first_params, train
from metarl.inner import PPO, SGD
from metarl.parameters import flatten
from metarl.seeding import Purpose, stream

NETWORK = RegressionMLP(hidden_sizes=(5, 4))


def doubled(params):
    return {name: p.double() for name, p in params.items()}


def as_double(batch):
    return Examples(batch.inputs.double(), batch.targets.double())


def test_the_meta_gradient_is_that_of_plain_autograd():
    """theta - beta grad sum_i L_i(theta - alpha grad L_i(theta)), through two steps."""
    inner = SGD(steps=2, step_size=0.05)
    experiment = FewShot(algorithm=MAMLSGD(inner=inner, optimizer="sgd", step_size=0.1), tasks=6, points=4)
    theta = doubled(first_params(experiment, NETWORK))
    experience = collect(experiment, NETWORK, first_params(experiment, NETWORK), 0)
    support, query = tuple(map(as_double, experience.support)), as_double(experience.query)
    updated, *_ = experiment.algorithm.update(NETWORK, theta, {}, replace(experience, support=support, query=query))

    at = {name: p.clone().requires_grad_() for name, p in theta.items()}
    total = 0.0
    for m in range(6):
        adapted = at
        for batch in support:
            x, y = batch.inputs[m], batch.targets[m]
            hidden = torch.relu(torch.relu(x @ adapted["w0"] + adapted["b0"]) @ adapted["w1"] + adapted["b1"])
            loss = ((hidden @ adapted["w2"] + adapted["b2"] - y) ** 2).mean()
            grads = torch.autograd.grad(loss, list(adapted.values()), create_graph=True)
            adapted = {name: p - 0.05 * g for (name, p), g in zip(adapted.items(), grads, strict=True)}
        x, y = query.inputs[m], query.targets[m]
        hidden = torch.relu(torch.relu(x @ adapted["w0"] + adapted["b0"]) @ adapted["w1"] + adapted["b1"])
        total = total + ((hidden @ adapted["w2"] + adapted["b2"] - y) ** 2).mean()
    total.backward()
    for name, p in at.items():
        torch.testing.assert_close(updated[name], theta[name] - 0.1 * p.grad, rtol=1e-9, atol=1e-12)


def test_what_is_collected_belongs_to_the_sinusoids_of_its_iteration():
    experiment = FewShot(algorithm=MAMLSGD(inner=SGD(steps=2)), tasks=7, points=5, seed=3)
    experience = collect(experiment, NETWORK, first_params(experiment, NETWORK), 4)
    tasks = Sinusoids.sample(7, stream(3, Purpose.TRAINING, 4))
    assert len(experience.support) == 2
    seen = [*experience.support, experience.query]
    for batch in seen:
        assert batch.inputs.shape == (7, 5, 1)
        torch.testing.assert_close(batch.targets, tasks.at(batch.inputs).targets)
    assert not torch.equal(seen[0].inputs, seen[1].inputs)
    assert not torch.equal(seen[1].inputs, seen[2].inputs)
    without_query = collect(replace(experiment, algorithm=Reptile()), NETWORK, first_params(experiment, NETWORK), 4)
    assert without_query.query is None


def test_sinusoids_are_within_their_ranges():
    tasks = Sinusoids.sample(2000, np.random.default_rng(0))
    for values, (low, high) in ((tasks.amplitude, (0.1, 5.0)), (tasks.phase, (0.0, np.pi))):
        assert low <= values.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < values.max() <= high
    one = Sinusoids(torch.tensor([2.0]), torch.tensor([0.5])).at(torch.tensor([[[0.25], [1.0]]]))
    torch.testing.assert_close(one.targets.ravel(), 2 * torch.sin(torch.tensor([0.75, 1.5])))


def test_the_test_counts_errors_on_the_whole_curve_after_each_step():
    test, inner = HeldOut.draw(points=10), SGD(step_size=0.01)
    params = first_params(FewShot(), NETWORK)
    errors = test.errors(NETWORK, inner, params, 3)
    assert errors.shape == (TEST_TASKS, 4)
    assert test.whole.inputs.shape == (TEST_TASKS, GRID, 1)
    own = {name: p.unsqueeze(0) for name, p in params.items()}
    few = test.few.tasks(slice(5, 6))
    for _ in range(3):
        own = inner.step(NETWORK, own, few)
    whole = test.whole.tasks(slice(5, 6))
    expected = (NETWORK.predict(own, whole.inputs) - whole.targets).square().mean()
    assert errors[5, 3] == pytest.approx(expected.item(), rel=1e-4)
    again = HeldOut.draw(points=10)
    assert torch.equal(again.few.inputs, test.few.inputs)


OUTER = {"optimizer": "adam", "step_size": 5e-3}
ALGORITHMS = {
    "maml": MAMLSGD(inner=SGD(step_size=0.01), **OUTER),
    "fomaml": MAMLSGD(inner=SGD(step_size=0.01), first_order=True, **OUTER),
    "meta-sgd": MAMLSGD(inner=SGD(step_size=0.01, learned_step_sizes=True), **OUTER),
    "anil": MAMLSGD(inner=SGD(step_size=0.1, last_layer_only=True), **OUTER),
    "reptile": Reptile(inner=SGD(steps=5, step_size=0.01), **OUTER),
}


def errors_of(algorithm):
    """After 0 to 3 gradient steps, (4,), of a network that was trained for a few seconds."""
    experiment, network = FewShot(algorithm=algorithm, tasks=10, iterations=800), RegressionMLP()
    return HeldOut.draw(experiment.points).errors(network, experiment.inner, train(experiment, network), 3).mean(0)


@pytest.fixture(scope="module")
def joint():
    """Of a network trained on all sinusoids at once."""
    return errors_of(MAMLSGD(inner=SGD(steps=0, step_size=0.01), **OUTER))


@pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=ALGORITHMS)
def test_what_is_meta_learned_adapts_far_better_than_what_is_learned_jointly(joint, algorithm):
    errors = errors_of(algorithm)
    assert errors[3] < 0.6 * joint[3]
    assert errors[3] < 0.4 * errors[0]
    assert errors[1] < 0.6 * errors[0]


def test_training_is_a_function_of_the_seed_and_reports_each_iteration():
    experiment, seen = FewShot(tasks=3, iterations=4), []
    params = train(experiment, NETWORK, lambda iteration, at: seen.append((iteration, flatten(at))))
    assert [iteration for iteration, _ in seen] == [1, 2, 3, 4]
    assert torch.equal(seen[-1][1], flatten(params))
    assert torch.equal(flatten(train(experiment, NETWORK)), flatten(params))
    assert not torch.equal(flatten(train(replace(experiment, seed=1), NETWORK)), flatten(params))


def test_learners_that_need_episodes_are_refused():
    with pytest.raises(ValueError, match="'ppo' learns from episodes, and regression has none"):
        FewShot(algorithm=Reptile(inner=PPO()))


def test_settings_that_mean_nothing_in_regression_are_refused():
    with pytest.raises(ValueError, match="regression has one loss only"):
        FewShot(algorithm=MAMLSGD(inner=SGD(loss="dice")))
    with pytest.raises(ValueError, match="no layer below it"):
        FewShot(algorithm=MAMLSGD(inner=SGD(last_layer_only=True)), hidden_sizes=())


def test_training_that_diverges_is_stopped():
    with pytest.raises(NonFinite, match="iteration"):
        train(FewShot(algorithm=Reptile(inner=SGD(steps=5, step_size=100)), iterations=50), RegressionMLP((40, 40)))


def test_malformed_examples_are_refused():
    with pytest.raises(ValueError, match=r"\(M, P, I\)"):
        Examples(torch.zeros(2, 3, 1), torch.zeros(2, 4, 1))


def test_a_meta_gradient_that_is_not_finite_names_its_tasks():
    experiment = FewShot(algorithm=MAMLSGD(inner=SGD(step_size=1e6, steps=5)), tasks=4)
    params = first_params(experiment, NETWORK)
    with pytest.raises(NonFinite, match="task 0 is not finite in .*w0"):
        experiment.algorithm.update(NETWORK, params, {}, collect(experiment, NETWORK, params, 0))
