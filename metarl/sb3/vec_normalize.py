"""The statistics of observations that `VecNormalize.save` writes, read without running code from the file."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metarl.errors import UserError, no_such_file
from metarl.policy_gradient import normalizer
from metarl.system.files import DESCRIBED
from metarl.types import Params

_ARRAYS = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
}
"""The classes that a pickle needs for arrays of numbers. Any other class that it names is replaced by `_Inert`."""


class _Inert:
    """Takes the place of an object of any class: it keeps the attributes, and runs no code."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


class _Unpickler(pickle.Unpickler):
    """Reads arrays and plain data, and an `_Inert` for everything else."""

    def find_class(self, module: str, name: str) -> Any:
        return super().find_class(module, name) if (module, name) in _ARRAYS else _Inert


def read_statistics(path: Path, observation_size: int) -> Params:
    """The statistics (O,) in a file that `VecNormalize.save` wrote; see `statistics_of`.

    Errors: UserError if the file is missing or damaged, or its observations have another size.
    """
    if not path.is_file():
        raise no_such_file("statistics of VecNormalize", path, "*.pkl")
    try:
        if path.stat().st_size > DESCRIBED:
            raise ValueError(f"it has {path.stat().st_size:,} bytes, and at most {DESCRIBED:,} are read")
        saved = _Unpickler(io.BytesIO(path.read_bytes())).load()
        return statistics_of(saved, observation_size)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except Exception as error:  # pickle promises no type of exception for a damaged file
        raise UserError(
            f"{path} cannot be read as statistics of VecNormalize ({type(error).__name__}: {error}). "
            "Use a file that VecNormalize.save() wrote."
        ) from error


def statistics_of(env: Any, observation_size: int) -> Params:
    """Mean, standard deviation sqrt(variance + epsilon) and count of a `VecNormalize`, as `normalizer` names them.

    Empty if it does not normalize observations. Errors: UserError if they are not finite, or of another size.
    """
    if not env.norm_obs:
        return {}
    rms = env.obs_rms
    if isinstance(rms, dict):
        raise UserError("the statistics are those of a dictionary of observations, and our policy takes one vector.")
    mean, variance = (np.asarray(array, np.float64) for array in (rms.mean, rms.var))
    if mean.shape != (observation_size,) or variance.shape != mean.shape:
        raise UserError(f"the statistics are of {mean.shape} numbers, and the policy takes {observation_size}.")
    std, count = np.sqrt(variance + float(env.epsilon)), float(rms.count)
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all() and count >= 0):
        raise UserError("the statistics are not finite, or a variance is negative.")
    return {
        normalizer.MEAN: torch.from_numpy(mean).float(),
        normalizer.STD: torch.from_numpy(std).float(),
        normalizer.COUNT: torch.tensor(min(count, normalizer.LARGEST_COUNT)),
    }
