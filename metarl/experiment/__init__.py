"""An experiment: its settings, the environment and policy made from them, the inner loop of an iteration, the test."""

from metarl.experiment.settings import Environment, Evaluation, Experiment, Policy, Sampling, Tracking

__all__ = ["Environment", "Evaluation", "Experiment", "Policy", "Sampling", "Tracking"]
