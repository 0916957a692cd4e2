"""Few-shot regression of sinusoids (Finn et al. 2017): meta-train a network, then adapt it to a new sinusoid.

    metarl sinusoid [--algorithm maml|fomaml|reptile] [--algorithm.inner.step-size 0.02] [--FLAG VALUE …]

It takes about a minute. A second network is pretrained on all sinusoids without adaptation. Both are compared after 0
to 10 gradient steps on ten points of sinusoids that neither was trained on. --no-pretrained leaves the second network
out.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from metarl import config, runs
from metarl.algorithms import in_short
from metarl.algorithms.maml_sgd import MAMLSGD
from metarl.config import shipped
from metarl.config.settings import settings
from metarl.errors import UserError, exits_cleanly, nearest
from metarl.few_shot.regression import RegressionMLP
from metarl.few_shot.training import FewShot, HeldOut, check_memory, train
from metarl.figures import regression as figures
from metarl.inner.sgd import SGD
from metarl.runs.console import shown
from metarl.runs.tracking import Tracker
from metarl.statistics import over_tasks
from metarl.system.threads import set_threads
from metarl.types import Params

CONFIGS = shipped.FOLDER / "sinusoid"
STEPS = 10
PRETRAINED_STEP_SIZES = (0.001, 0.003, 0.01, 0.02)
"""The pretrained network adapts with the one that gives it the smallest error on the test tasks themselves."""


@settings
class Options:
    """The options that are no settings of the experiment."""

    algorithm: str = "maml"
    """maml, fomaml or reptile"""
    run_dir: Path | None = None
    """Folder for the run (default: a new one in runs)."""
    pretrained: bool = True
    """Also pretrain a network on all sinusoids, for comparison"""


@exits_cleanly
def main(args: Sequence[str] | None = None) -> None:
    """Train both networks, test them, print the table, draw the figure."""
    arguments, flags = config.known_options(Options, args)
    experiment = settings_of(arguments, flags)
    check_memory(experiment)
    runs.check_tracking(experiment.tracking)
    set_threads(1)  # the networks are small
    run_dir = arguments.run_dir or runs.new_dir(f"sinusoid-{arguments.algorithm}-seed{experiment.seed}")
    runs.refuse_used(run_dir)
    network, test = RegressionMLP(experiment.hidden_sizes), HeldOut.draw(experiment.points)
    with open_tracker(experiment, run_dir) as tracker, Progress(transient=True) as progress:

        def tested(iteration: int, params: Params) -> None:
            if iteration % experiment.test_every == 0 or iteration == experiment.iterations:
                errors = test.errors(network, experiment.inner, params, STEPS).mean(0)
                metrics = {f"test/error_after_{k}_steps": errors[k] for k in (0, 1, STEPS)}
                tracker.log(metrics, iteration=iteration)

        params = trained(experiment, network, progress, arguments.algorithm, tested)
        methods = {arguments.algorithm: (experiment.inner, params)}
        if arguments.pretrained:
            joint = replace(experiment, algorithm=MAMLSGD(inner=SGD(steps=0)))
            pretrained = trained(joint, network, progress, "pretrained", lambda iteration, params: None)
            methods["pretrained"] = (best_inner(test, network, pretrained), pretrained)
        errors = {name: test.errors(network, *method, STEPS) for name, method in methods.items()}
        tracker.summary({"error_after_10_steps": errors[arguments.algorithm][:, STEPS].mean()})
        picture = run_dir / "sinusoid.png"
        draw(picture, test, network, methods, errors)
        tracker.media("figures/sinusoid", picture, "before and after adaptation", iteration=experiment.iterations)
    Console().print(table(errors, methods))
    print(f"picture   {shown(picture)}")


def settings_of(options: Options, flags: Sequence[str]) -> FewShot:
    """The settings of the shipped config sinusoid/ALGORITHM, changed by flags."""
    known = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
    if options.algorithm not in known:
        raise UserError(f"--algorithm {options.algorithm}: no such config.{nearest(options.algorithm, known)}")
    base = config.load(CONFIGS / f"{options.algorithm}.yaml", FewShot)
    return config.override(base, flags, prog="metarl sinusoid", description=__doc__, options=Options)


def open_tracker(experiment: FewShot, run_dir: Path) -> Tracker:
    """Create the run directory, and a tracker that writes to W&B and metrics.jsonl."""
    runs.create(run_dir, experiment)
    tracking, algorithm = experiment.tracking, in_short(experiment.algorithm)
    names = runs.names(
        tracking,
        group=f"sinusoid/{algorithm}",
        name=runs.named(run_dir, experiment.seed),
        tags=("sinusoid", *algorithm.split(", ")),
    )
    about, run_id = config.to_dict(experiment), runs.read_id(run_dir)
    return Tracker.open(run_dir, about, mode=tracking.mode, run_id=run_id, axis="iteration", **asdict(names))


def trained(
    experiment: FewShot,
    network: RegressionMLP,
    progress: Progress,
    name: str,
    after_each: Callable[[int, Params], None],
) -> Params:
    """Meta-train a network, with a progress bar; its parameters."""
    bar = progress.add_task(name, total=experiment.iterations)

    def advance(iteration: int, params: Params) -> None:
        progress.advance(bar)
        after_each(iteration, params)

    return train(experiment, network, advance)


def best_inner(test: HeldOut, network: RegressionMLP, params: Params) -> SGD:
    """SGD with the step size that gives the smallest test error: an advantage that the meta-learned network lacks."""
    inners = [SGD(step_size=size) for size in PRETRAINED_STEP_SIZES]
    last = [np.nan_to_num(test.errors(network, inner, params, STEPS)[:, STEPS].mean(), nan=np.inf) for inner in inners]
    return inners[int(np.argmin(last))]


def table(errors: dict[str, NDArray[np.floating]], methods: dict[str, tuple[SGD, Params]]) -> Table:
    """Mean squared error of one network with its 95% interval over sinusoids, a row for each number of steps."""
    count = len(next(iter(errors.values())))
    made = Table(title=f"mean squared error on {count} sinusoids [95% interval over them]", box=None, pad_edge=False)
    made.add_column("gradient steps", justify="right")
    for name, (inner, _) in methods.items():
        made.add_column(f"{name}, step size {inner.step_size:g}", justify="right", no_wrap=True)
    for k in range(STEPS + 1):
        cells = [over_tasks(x[:, k]) for x in errors.values()]
        made.add_row(str(k), *(f"{cell.value:.3f} [{cell.low:.3f}, {cell.high:.3f}]" for cell in cells))
    return made


def draw(
    path: Path,
    test: HeldOut,
    network: RegressionMLP,
    methods: dict[str, tuple[SGD, Params]],
    errors: dict[str, NDArray[np.floating]],
) -> None:
    """Draw how each network fits the sinusoid of median amplitude, and the errors on all sinusoids."""
    reach = test.whole.targets.abs().amax((1, 2))
    m = int(reach.argsort()[len(reach) // 2])
    few = (test.few.inputs[m, :, 0].numpy(), test.few.targets[m, :, 0].numpy())
    fits = {}
    for name, method in methods.items():
        curves = [c[m, :, 0].numpy() for c in test.predictions(network, *method, STEPS)]
        fits[name] = figures.Fit(test.whole.inputs[m, :, 0].numpy(), test.whole.targets[m, :, 0].numpy(), few, curves)
    bands = {name: [over_tasks(x[:, k]) for k in range(STEPS + 1)] for name, x in errors.items()}
    figures.sinusoids(path, fits, bands, "Adapting to a sinusoid from ten points")
