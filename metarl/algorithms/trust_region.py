"""The step of TRPO (Schulman et al. 2015, appendix C) on flat vectors (P,), for any surrogate and KL."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from metarl.system.timing import Stopwatch


def conjugate_gradient(
    product: Callable[[Tensor], Tensor], b: Tensor, iterations: int, tolerance: float = 1e-10
) -> tuple[Tensor, Tensor]:
    """Solve A x = b for a symmetric positive definite A that is given by its products with vectors.

    Args:
        product: v -> A v, from (P,) to (P,).
        b: (P,).
        iterations: the largest number of products.
        tolerance: stop once |b - A x|^2 <= tolerance |b|^2.

    Returns:
        x (P,), and A x (P,), which is b - residual and costs no further product.
    """
    x = torch.zeros_like(b)
    residual, direction = b.clone(), b.clone()
    squared, target = residual @ residual, tolerance * (b @ b)
    for _ in range(iterations):
        if squared <= target:
            break
        a_direction = product(direction)
        length = squared / (direction @ a_direction)
        x, residual = x + length * direction, residual - length * a_direction
        previous, squared = squared, residual @ residual
        direction = residual + (squared / previous) * direction
    return x, b - residual


def trust_region_step(
    gradient: Tensor,
    hvp: Callable[[Tensor], Tensor],
    evaluate: Callable[[Tensor], tuple[Tensor, Tensor]],
    surrogate: Tensor,
    stopwatch: Stopwatch,
    *,
    max_kl: float,
    cg_iterations: int,
    cg_damping: float,
    backtrack_ratio: float,
    max_backtracks: int,
) -> tuple[Tensor, dict[str, float]]:
    """Maximise a surrogate within mean KL <= max_kl: natural gradient H^-1 g by CG, then a backtracking line search.

    Args:
        gradient: of the surrogate at the step zero, (P,).
        hvp: v -> H v, with H the Hessian of the mean KL at the step zero.
        evaluate: step (P,) -> the exact surrogate and mean KL after it.
        surrogate: its value at the step zero.
        stopwatch: measures the time of the phases curvature and line_search.
        max_kl: delta, the radius of the trust region.
        cg_iterations: the largest number of products with H.
        cg_damping: added to the diagonal of H.
        backtrack_ratio: see `line_search`.
        max_backtracks: see `line_search`.

    Returns:
        The step (P,), exactly zero if no trial step is accepted, and metrics of the line search.
    """

    def damped(v: Tensor) -> Tensor:
        return hvp(v) + cg_damping * v

    with stopwatch("curvature"):
        direction, h_direction = conjugate_gradient(damped, gradient, cg_iterations)
        longest = direction * torch.sqrt(2 * max_kl / (direction @ h_direction).clamp(min=1e-20))
    with stopwatch("line_search"):
        return line_search(evaluate, surrogate, longest, max_kl, backtrack_ratio, max_backtracks)


def line_search(
    evaluate: Callable[[Tensor], tuple[Tensor, Tensor]],
    surrogate: Tensor,
    longest: Tensor,
    max_kl: float,
    backtrack_ratio: float,
    max_backtracks: int,
) -> tuple[Tensor, dict[str, float]]:
    """The first of the steps backtrack_ratio**k * longest, k = 0, 1, …, that improves the surrogate within max_kl.

    Returns:
        The step (P,), exactly zero if none of max_backtracks steps does, and metrics.
    """
    for k in range(max_backtracks):
        step = backtrack_ratio**k * longest
        after, kl = evaluate(step)
        if after > surrogate and kl <= max_kl:
            return step, {
                "accepted": 1.0,
                "kl": kl.item(),
                "improvement": (after - surrogate).item(),
                "backtracks": k,
            }
    return torch.zeros_like(longest), {
        "accepted": 0.0,
        "kl": 0.0,
        "improvement": 0.0,
        "backtracks": max_backtracks,
    }
