import dataclasses

import pytest
import torch

from metarl.types import Batch, Gaussian, Trajectories

M, E, T, O, A = 2, 3, 5, 4, 2  # noqa: E741


def trajectories(**replaced):
    fields = {
        "observations": torch.zeros(M, E, T + 1, O),
        "actions": torch.zeros(M, E, T, A),
        "rewards": torch.zeros(M, E, T),
        "discounts": torch.ones(M, E, T),
        "valid": torch.ones(M, E, T),
        "policy": Gaussian(torch.zeros(M, E, T, A), torch.zeros(M, A)),
    }
    return Trajectories(**fields | replaced)


def numbered_batch():
    """Every entry says where it lies: task * 100 + episode * 10 + step."""
    m, e, t = torch.meshgrid(torch.arange(M), torch.arange(E), torch.arange(T), indexing="ij")
    place = (100 * m + 10 * e + t).float()
    mean = place.unsqueeze(-1).expand(M, E, T, A)
    policy = Gaussian(mean, 100 * torch.arange(M).float().unsqueeze(-1).expand(M, A))
    observations = place.unsqueeze(-1).expand(M, E, T, O)
    return Batch(observations, mean, place, torch.ones(M, E, T), place, policy, torch.arange(float(M)))


@pytest.mark.parametrize(
    ("field", "shape"),
    [
        ("observations", (M, E, T, O)),
        ("actions", (M, E, T + 1, A)),
        ("rewards", (M, E)),
        ("discounts", (M, E, T, 1)),
        ("valid", (E, M, T)),
    ],
)
def test_malformed_trajectories_are_refused(field, shape):
    with pytest.raises(ValueError, match=rf"Trajectories\.{field} has shape") as error:
        trajectories(**{field: torch.zeros(shape)})
    assert str(shape) in str(error.value)


@pytest.mark.parametrize(
    "policy",
    [
        Gaussian(torch.zeros(M, E, T, A + 1), torch.zeros(M, A + 1)),
        Gaussian(torch.zeros(M, E, T, A), torch.zeros(A)),
        Gaussian(torch.zeros(M, E, T, A), torch.zeros(M + 1, A)),
    ],
)
def test_a_distribution_over_other_actions_is_refused(policy):
    with pytest.raises(ValueError, match=r"Gaussian\.(mean|log_std) has shape"):
        trajectories(policy=policy)
    with pytest.raises(ValueError, match=r"Gaussian\.(mean|log_std) has shape"):
        dataclasses.replace(numbered_batch(), policy=policy)


@pytest.mark.parametrize("field", ["observations", "actions", "advantages", "valid", "log_probs"])
def test_malformed_batch_is_refused(field):
    batch = numbered_batch()
    with pytest.raises(ValueError, match=r"Batch\.\w+ has shape .* with T = "):
        dataclasses.replace(batch, **{field: getattr(batch, field)[:, :, 1:]})


def test_returns_and_environment_steps_count_valid_steps_only():
    rewards = torch.arange(M * E * T).view(M, E, T).float()
    valid = torch.ones(M, E, T)
    valid[0, 1, 2:] = 0  # a short episode: steps 5 and 6 count
    valid[1, 2] = 0  # left out altogether
    episodes = trajectories(rewards=rewards, valid=valid)
    expected = [[10.0, 11.0, 60.0], [85.0, 110.0, torch.nan]]
    torch.testing.assert_close(episodes.returns, torch.tensor(expected), equal_nan=True)
    assert episodes.environment_steps == M * E * T - 3 - 5


def test_tasks_and_every_take_the_same_part_of_all_fields():
    part = numbered_batch().tasks(slice(1, 2)).every(2)
    place = torch.tensor([[[100.0, 102, 104], [110, 112, 114], [120, 122, 124]]])
    assert part.num_tasks == 1
    for field in (part.advantages, part.log_probs):
        torch.testing.assert_close(field, place)
    for field in (part.observations, part.actions, part.policy.mean):
        torch.testing.assert_close(field[..., 0], place)
    torch.testing.assert_close(part.policy.log_std, torch.full((1, A), 100.0))
