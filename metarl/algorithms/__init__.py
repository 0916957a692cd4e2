"""The table of algorithms: each is frozen settings and `update(policy, params, support, query)`."""

from metarl.algorithms.maml import MAML

Algorithm = MAML
