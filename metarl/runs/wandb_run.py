"""Start a run of Weights & Biases (W&B). It never asks for anything, and where W&B fails there is only a warning."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from pydantic import ValidationError

from metarl.errors import UserError, nearest
from metarl.runs.metrics import TRAINING_S

if TYPE_CHECKING:
    import wandb

Mode = Literal["auto", "online", "offline", "disabled"]
OLD_MODES = {"dryrun": "offline", "run": "online"}
"""Old names of modes, which W&B still accepts in WANDB_MODE."""
Axis = Literal["environment_steps", "iteration"]

INIT_TIMEOUT = 20.0  # [s] after which an unreachable server is given up
FINISH_TIMEOUT = 300.0  # [s] for uploading the rest at the end; what is left stays on disk for `wandb sync`


def requested_mode(mode: str) -> Mode:
    """`mode`; for `auto` the value of WANDB_MODE, where it is set. Errors: UserError where it is no mode."""
    source, wanted, modes = "mode", mode, get_args(Mode)
    if os.environ.get("WANDB_MODE") == "":  # W&B refuses an empty one
        del os.environ["WANDB_MODE"]
    if mode == "auto" and os.environ.get("WANDB_MODE"):
        source, wanted, modes = "WANDB_MODE", os.environ["WANDB_MODE"], modes[1:]  # W&B knows no `auto`
        wanted = OLD_MODES.get(wanted, wanted)
    if wanted not in modes:
        raise UserError(f"{source} is {wanted!r}.{nearest(wanted, modes)}")
    return cast(Mode, wanted)


def check_variables() -> None:
    """Raise UserError for an environment variable that W&B refuses: it would not start, whatever the settings say."""
    try:
        import wandb
    except Exception:  # `start` warns of it
        return
    try:
        wandb.Settings().update_from_env_vars(dict(os.environ))
    except (ValidationError, wandb.Error) as error:
        rows = error.errors() if isinstance(error, ValidationError) else []
        refused = "; ".join(f"{row['loc'][0]}: {row['msg']}" for row in rows) or str(error)
        raise UserError(
            f"W&B refuses its environment variables: {refused}. Correct them, or choose --tracking.mode disabled."
        ) from error


def start(mode: Mode, arguments: Mapping[str, Any], axis: Axis) -> wandb.Run | None:
    """A new W&B run: online if `mode` asks for it and there is a login and a network, otherwise offline.

    Args:
        arguments: of `wandb.init`.
        axis: the metric on the x axis of all plots.

    Returns:
        The run; None, with a RuntimeWarning, where W&B cannot start even offline, and where `mode` is `disabled`.
    """
    if mode == "disabled":
        return None
    # Tables and artifacts of an offline run are needed until it is uploaded. W&B would copy them into the home
    # directory, which may be small or read-only.
    os.environ.setdefault("WANDB_DATA_DIR", str(arguments["dir"] / "wandb" / "data"))
    online = mode != "offline" and _logged_in()
    if mode == "online" and not online:
        warn("there is no W&B login (`wandb login` makes one); the run is recorded offline")
    if online:
        try:
            return _init("online", arguments, axis)
        except Exception as error:
            warn(f"W&B did not start online ({in_one_line(error)}); the run is recorded offline")
            _forget_failed_start()
    try:
        return _init("offline", arguments, axis)
    except Exception as error:
        warn(f"W&B did not start ({in_one_line(error)}); metrics are written to metrics.jsonl only")
        return None


def warn(message: str) -> None:
    """A RuntimeWarning at the line that called the tracker."""
    warnings.warn(message, RuntimeWarning, stacklevel=3)


def in_one_line(error: Exception) -> str:
    """Type and message of an error."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _logged_in() -> bool:
    """Whether W&B has credentials (in the environment, netrc or its settings). A broken file of them is a warning."""
    try:
        import wandb

        return wandb.login(prompt=False, verify=False)
    except Exception as error:
        warn(f"no usable W&B login ({in_one_line(error)})")
        return False


def _init(mode: Literal["online", "offline"], arguments: Mapping[str, Any], axis: Axis) -> wandb.Run:
    """`wandb.init` for a run that is separate from other runs of this process. Errors: any that W&B raises."""
    import wandb

    settings = wandb.Settings(
        console="off",
        x_disable_stats=True,
        init_timeout=INIT_TIMEOUT,
        finish_timeout=FINISH_TIMEOUT,
        reinit="create_new",
        quiet=True,
        silent=mode == "offline",  # online, W&B prints the address of the run
    )
    # Offline, `resume` would only cause a warning.
    resume = "allow" if mode == "online" else None
    run = wandb.init(mode=mode, resume=resume, settings=settings, **arguments)
    run.define_metric("iteration")
    run.define_metric("environment_steps")
    run.define_metric(TRAINING_S)
    # Algorithms differ in the environment steps of an iteration, and W&B's own step counts calls of `log`. So runs
    # compare on environment steps. Every row also has its iteration and seconds, to which each plot can be switched.
    run.define_metric("*", step_metric=axis)
    return run


def _forget_failed_start() -> None:
    """Restart W&B's service, which would refuse the run's id as "in use" after a failed start."""
    import wandb

    try:
        wandb.teardown()
    except Exception as error:
        warn(f"W&B did not shut down ({in_one_line(error)})")
