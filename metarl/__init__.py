"""Meta-reinforcement learning: policies that adapt to a new task within a few policy-gradient steps."""

__version__ = "0.1.0"
