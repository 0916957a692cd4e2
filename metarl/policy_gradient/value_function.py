"""A value function, linear in features of observation and time, fitted anew to each task's episodes.

It is the linear feature baseline of Duan et al. 2016.
"""

from __future__ import annotations

import torch
from torch import Tensor

from metarl.errors import NonFinite

_OBSERVATION_LIMIT = 10.0


def features(observations: Tensor) -> Tensor:
    """[o, o^2, t, t^2, t^3, 1], with o clipped to [-10, 10] and the time t in hundreds of steps.

    Args:
        observations: (M, E, T, O).

    Returns:
        (M, E, T, 2 O + 4) in float64.
    """
    M, E, T, _ = observations.shape
    clipped = observations.double().clamp(-_OBSERVATION_LIMIT, _OBSERVATION_LIMIT)
    time = torch.arange(T, dtype=torch.float64, device=observations.device).view(1, 1, T, 1).expand(M, E, T, 1) / 100
    return torch.cat([clipped, clipped**2, time, time**2, time**3, torch.ones_like(time)], -1)


def fit(features: Tensor, targets: Tensor, valid: Tensor, ridge: float = 1e-5) -> Tensor:
    """Ridge regression for all tasks at once; a task's ridge grows tenfold until its system is solvable.

    Args:
        features: (M, E, T, F) float64.
        targets: (M, E, T).
        valid: (M, E, T), 0 for steps that are left out.
        ridge: added to the diagonal of the normal equations.

    Returns:
        (M, F) coefficients.

    Errors: NonFinite if features or targets are not finite.
    """
    X = (features * valid.unsqueeze(-1)).flatten(1, 2)  # (M, E*T, F)
    gram, moment = X.mT @ X, X.mT @ targets.double().flatten(1, 2).unsqueeze(-1)
    identity = torch.eye(X.shape[-1], dtype=X.dtype, device=X.device)
    diagonal = torch.full((len(X), 1, 1), ridge, dtype=X.dtype, device=X.device)
    for _ in range(10):
        factor, failed = torch.linalg.cholesky_ex(gram + diagonal * identity)
        if not failed.any() and torch.isfinite(moment).all():
            return torch.cholesky_solve(moment, factor).squeeze(-1)
        diagonal = torch.where(failed.view(-1, 1, 1) > 0, 10 * diagonal, diagonal)
    raise NonFinite("the value function has no solution: observations or rewards are not finite")


def predict(features: Tensor, coefficients: Tensor) -> Tensor:
    """Values (M, E, T) from features (M, E, T, F) and coefficients (M, F)."""
    return torch.einsum("metf,mf->met", features, coefficients)
