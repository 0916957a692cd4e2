"""Trials of several episodes, on an environment whose numbers say which simulation, task and step they are of."""

from typing import ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, VectorEnv

from metarl.errors import UserError
from metarl.sb3.trial_env import TrialVecEnv

N, T, K = 2, 3, 2


class Clock(VectorEnv):
    """Observes (time, number of resets); rewards by 100 task + 10 simulation + time; simulation 1 falls at `falls`."""

    metadata: ClassVar = {"autoreset_mode": AutoresetMode.DISABLED}
    num_envs = N
    single_observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    single_action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, falls=99):
        self.tasks, self.falls = (), falls
        self.time, self.begun = np.zeros(N), np.zeros(N)

    def set_tasks(self, tasks):
        self.tasks = tuple(tasks)

    def reset(self, *, seed=None, options=None):
        mask = (options or {}).get("reset_mask", np.ones(N, bool))
        self.time[mask], self.begun[mask] = 0, self.begun[mask] + 1
        return self.observed(), {}

    def step(self, actions):
        self.actions = actions
        self.time += 1
        fell = (self.time == self.falls) & (np.arange(N) == 1)
        reward = 100.0 * np.array(self.tasks) + 10 * np.arange(N) + self.time
        return self.observed(), reward, fell, self.time == T, {"diverged": np.zeros(N, bool)}

    def observed(self):
        return np.column_stack([self.time, self.begun])


def played(steps, falls=99, action=2.0):
    """Observations after the reset and after each step, with rewards, dones and infos; tasks are 1, 2, 3, …"""
    drawn = iter(range(1, 99))
    env = Clock(falls)
    trials = TrialVecEnv(env, K, lambda n: [next(drawn) for _ in range(n)], action_scale=0.1)
    rows = [(trials.reset(), None, None, None)]
    rows += [trials.step(np.full((N, 1), action)) for _ in range(steps)]
    return env, trials, rows


def test_what_is_observed_and_when_a_trial_ends():
    """(time, resets, previous action, previous reward, new episode): memory goes on into the second episode."""
    env, trials, rows = played(2 * T)
    assert trials.observation_space.shape == (5,)
    assert [row[0][0].tolist() for row in rows] == [
        [0, 1, 0, 0, 0],
        [1, 1, pytest.approx(0.2), 101, 0],
        [2, 1, pytest.approx(0.2), 102, 0],
        [0, 2, pytest.approx(0.2), 103, 1],
        [1, 2, pytest.approx(0.2), 101, 0],
        [2, 2, pytest.approx(0.2), 102, 0],
        [0, 3, 0, 0, 0],  # a new trial: nothing of the last one is left
    ]
    assert [row[2].tolist() for row in rows[1:]] == [[False] * 2] * 5 + [[True] * 2]
    assert rows[1][1].tolist() == [101, 211]  # the rewards of the environment, of tasks 1 and 2
    assert env.tasks == (3, 4)
    assert played(1, action=50.0)[2][1][0][0, 2] == 1  # the robot's action is clipped


def test_the_infos_of_a_trial_that_ended():
    *_, rows = played(2 * T)
    assert [row[3] for row in rows[1:-1]] == [[{}, {}]] * 5
    for n, info in enumerate(rows[-1][3]):
        own = 3 * (100 * (n + 1) + 10 * n) + 6
        assert info["returns"].tolist() == [own, own]
        assert (info["episode"]["r"], info["episode"]["l"]) == (2 * own, 2 * T)
        assert info["TimeLimit.truncated"] is True
        assert info["terminal_observation"][:2].tolist() == [T, 2]


def test_a_simulation_that_falls_starts_its_next_episode_alone():
    """It ends its trial after four steps; then its task changes, and the other goes on with its own."""
    env, _, rows = played(4, falls=2)
    assert [row[0][1, [0, 1, 4]].tolist() for row in rows] == [[0, 1, 0], [1, 1, 0], [0, 2, 1], [1, 2, 0], [0, 3, 0]]
    assert [row[2].tolist() for row in rows[1:]] == [[False, False]] * 3 + [[False, True]]
    assert rows[-1][3][1]["TimeLimit.truncated"] is False
    assert rows[-1][3][1]["returns"].tolist() == [423, 423]
    assert env.tasks == (1, 3)


def test_a_trial_has_at_least_one_episode():
    with pytest.raises(UserError, match="episodes = 0: a trial has at least one"):
        TrialVecEnv(Clock(), 0, lambda n: [0] * n)
