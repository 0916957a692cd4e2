"""The outer step of TRPO (Schulman et al. 2015), on flat vectors. It knows nothing of tasks or adaptation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from metarl.timing import Stopwatch


def conjugate_gradient(
    product: Callable[[Tensor], Tensor], b: Tensor, iterations: int, tolerance: float = 1e-10
) -> tuple[Tensor, Tensor]:
    """Solve A x = b for a symmetric positive definite A that is known by its products with vectors.

    Args:
        product: v -> A v, (P,) -> (P,).
        b: (P,).
        iterations: at most this many products.
        tolerance: stop once the squared residual falls below it, relative to that of b.

    Returns:
        x, and A x, which is b less the residual and costs no further product.
    """
    x = torch.zeros_like(b)
    residual, direction = b.clone(), b.clone()
    squared, target = residual @ residual, tolerance * (b @ b)
    for _ in range(iterations):
        if squared <= target:
            break
        image = product(direction)
        length = squared / (direction @ image)
        x, residual = x + length * direction, residual - length * image
        previous, squared = squared, residual @ residual
        direction = residual + (squared / previous) * direction
    return x, b - residual


def trust_region_step(
    gradient: Tensor,
    curvature: Callable[[Tensor], Tensor],
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
    """Maximise a surrogate within mean KL <= max_kl: natural gradient by CG, then a backtracking line search.

    Args:
        gradient: of the surrogate at zero step, (P,).
        curvature: v -> H v, the Hessian of the mean KL at zero step times a vector (P,).
        evaluate: step (P,) -> exact surrogate and mean KL after it.
        surrogate: its value at zero step.
        stopwatch: takes the time of the phases curvature and line_search.
        max_kl: delta, the radius of the trust region.
        cg_iterations, cg_damping: of the conjugate gradient; the damping is added to the diagonal of H.
        backtrack_ratio, max_backtracks: the k-th trial step is backtrack_ratio**k times the longest one.

    Returns:
        The step (P,), exactly zero where no trial improves the surrogate within the trust region, and what the line
        search found.
    """

    def damped(v: Tensor) -> Tensor:
        return curvature(v) + cg_damping * v

    with stopwatch("curvature"):
        direction, image = conjugate_gradient(damped, gradient, cg_iterations)
        longest = direction * torch.sqrt(2 * max_kl / (direction @ image).clamp(min=1e-20))
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
    """The longest of backtrack_ratio**k * longest, k < max_backtracks, that improves the surrogate within max_kl.

    Returns:
        The step (P,), exactly zero where none does, and what was found.
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
