"""Train every algorithm on a few families for equal environment steps, and compare the results.

    metarl results [--families point_nav …] [--algorithms maml_trpo …] [--seeds 3] [--out DIR] [--workers N]
    metarl results … --print-jobs | parallel; metarl results … --collect

Each run has the config FAMILY/ALGORITHM. All configs of a family cost the same number of environment steps, or those of
--budget. Each run is evaluated on held-out tasks, with the step size of adaptation that is best for it on validation
tasks; so is the random initialization. Runs are kept in DIR: called again, the command skips finished ones.
The output is DIR/results.md, with a table for each family, and figures.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from metarl import config
from metarl.baselines import rl2
from metarl.baselines.rl2 import RL2Record
from metarl.config import shipped
from metarl.config.settings import settings
from metarl.errors import RunFailed, UserError, exits_cleanly, nearest
from metarl.experiment import Experiment
from metarl.jobs.elsewhere import JobOptions, run_jobs
from metarl.jobs.runner import Job
from metarl.results import comparison, records
from metarl.results.comparison import Entry
from metarl.results.comparison.tables import gap_to_oracle, noisiest, oracle_of
from metarl.runs.console import show, shown
from metarl.sampling.protocols import family_name
from metarl.statistics import Estimate, estimate, paired_gain, shown_as
from metarl.system.files import write_atomically

CONFIGS = shipped.FOLDER
FAMILIES = ("point_nav", "half_cheetah_dir", "half_cheetah_vel")
ALGORITHMS = ("maml_trpo", "fomaml", "meta_sgd", "maml_ppo", "promp", "maml_sgd", "reptile", "pretrained", "oracle")
STEPS = 3
TUNE = 10
"""Number of validation tasks that each run chooses its step size of adaptation on."""


@settings
class Options(JobOptions):
    """The command line."""

    families: tuple[str, ...] = Field(FAMILIES, min_length=1)
    """Folders of configs (default: point_nav half_cheetah_dir half_cheetah_vel)."""
    algorithms: tuple[str, ...] = Field(ALGORITHMS, min_length=1)
    """Configs in each of them (default: maml_trpo fomaml meta_sgd maml_ppo promp maml_sgd reptile pretrained
    oracle)."""
    seeds: int = Field(3, ge=1, le=1_000)
    """Number of seeds: 0, 1, …"""
    budget: int | None = Field(None, ge=1)
    """Environment steps of each run, with the annealing stretched to them (default: as each config says)."""
    rl2: bool = False
    """Train RL², too (config rl2/FAMILY), for as many environment steps as the others"""
    out: Path = Path("runs/results")
    """Folder for the runs"""


@exits_cleanly
def main(args: Sequence[str] | None = None) -> None:
    """Train and evaluate all runs, print the tables, draw the figures."""
    arguments = config.options(Options, args, command="results", description=__doc__)
    check(arguments)
    if arguments.rl2:
        rl2.recurrent_ppo()
    jobs = {
        (family, algorithm): [job(arguments, family, algorithm, seed) for seed in range(arguments.seeds)]
        for family in arguments.families
        for algorithm in arguments.algorithms
    }
    recurrent = {
        family: [recurrent_job(arguments, family, seed) for seed in range(arguments.seeds)]
        for family in arguments.families
        if arguments.rl2
    }
    jobs |= {(family, "rl2"): own for family, own in recurrent.items()}
    by_seed = [own[seed] for seed in range(arguments.seeds) for own in jobs.values()]  # one seed of everything first
    if failed := run_jobs(by_seed, arguments, "results", args):
        raise RunFailed(f"{len(failed)} of {len(by_seed)} runs failed, see {failed[0].log}. Call again to go on.")
    if arguments.elsewhere:
        return
    tables = []
    for family in arguments.families:
        done = {name: [own.run_dir for own in jobs[family, name] if own.finished] for name in arguments.algorithms}
        labels = [name for name in arguments.algorithms if done[name]]
        if not labels:
            continue
        folders = [folder for name in labels for folder in done[name]]
        entries = comparison.load(folders, split_of(family, labels[0]), labels)
        show(comparison.table(entries))
        for picture in comparison.draw(entries, arguments.out / "figures" / family):
            print(f"picture   {shown(picture)}")
        tables.append(markdown(entries, [rl2.read(own.run_dir) for own in recurrent.get(family, ()) if own.finished]))
    if not tables:
        raise UserError(f"no run in {arguments.out} is finished: metarl results without --collect runs them")
    write_atomically(arguments.out / "results.md", "\n\n".join(tables).encode())
    print(f"tables    {shown(arguments.out / 'results.md')}")


def check(arguments: Options) -> None:
    """Raise UserError for a family or an algorithm that has no config, and for a budget below one iteration."""
    for family in arguments.families:
        if not (CONFIGS / family).is_dir():
            folders = [path.name for path in CONFIGS.iterdir() if path.is_dir()]
            raise UserError(f"there is no configs/{family}.{nearest(family, folders)}")
        if arguments.rl2 and not (CONFIGS / "rl2" / f"{family}.yaml").is_file():
            known = [path.stem for path in (CONFIGS / "rl2").glob("*.yaml")]
            raise UserError(f"--rl2: there is no configs/rl2/{family}.yaml.{nearest(family, known)}")
        known = [path.stem for path in (CONFIGS / family).glob("*.yaml")]
        for algorithm in arguments.algorithms:
            if algorithm not in known:
                raise UserError(f"there is no configs/{family}/{algorithm}.yaml.{nearest(algorithm, known)}")
            if arguments.budget and arguments.budget < (least := steps_per_iteration(experiment_of(family, algorithm))):
                raise UserError(
                    f"--budget {arguments.budget}: one iteration of {family}/{algorithm} takes {least} steps"
                )


def experiment_of(family: str, algorithm: str) -> Experiment:
    """The settings in a config."""
    return config.load(CONFIGS / family / f"{algorithm}.yaml", Experiment)


def split_of(family: str, algorithm: str) -> str:
    """The split that the family's results are reported on."""
    return experiment_of(family, algorithm).evaluation.reported


def job(arguments: Options, family: str, algorithm: str, seed: int) -> Job:
    """The job that trains one run for the budget and evaluates it."""
    experiment, folder = experiment_of(family, algorithm), arguments.out / family
    settings = {"seed": seed, "threads": 1, "evaluation.videos": 0}
    if arguments.budget:
        settings["iterations"] = iterations = round(arguments.budget / steps_per_iteration(experiment))
        if anneal := getattr(experiment.algorithm, "anneal_iterations", 0):
            settings["algorithm.anneal_iterations"] = max(round(anneal * iterations / experiment.iterations), 1)
    flags = [f"--{name}={value}" for name, value in settings.items()]
    train = ("scripts/train.py", f"configs/{family}/{algorithm}.yaml", *flags)
    evaluate = ("scripts/evaluate.py", f"--steps={STEPS}", f"--tune={TUNE}")
    return Job(folder / f"{algorithm}-seed{seed}", train, then=(evaluate,))


def recurrent_job(arguments: Options, family: str, seed: int) -> Job:
    """The job that trains and measures RL², with the environment and test of the family's other runs."""
    like = experiment_of(family, arguments.algorithms[0])
    steps = arguments.budget or steps_per_iteration(like) * like.iterations
    flags = (f"--environment_steps={steps}", f"--seed={seed}", "--threads=1")
    train = ("scripts/rl2.py", f"configs/rl2/{family}.yaml", *flags)
    return Job(arguments.out / family / f"rl2-seed{seed}", train, resumable=False)


def steps_per_iteration(experiment: Experiment) -> int:
    """Environment steps of one iteration in which no episode ends early."""
    rounds = experiment.algorithm.inner.steps + experiment.algorithm.uses_query
    return rounds * experiment.sampling.tasks * experiment.sampling.episodes * experiment.env.horizon


def markdown(entries: list[Entry], recurrent: Sequence[RL2Record] = ()) -> str:
    """The table of one family in Markdown, as in configs/README.md, with notes.

    recurrent: of RL², for each seed.
    """
    record, oracle = entries[0].record, oracle_of(entries)
    tasks, family = f"{len(record.tasks)} {record.split} tasks", family_name(record.environment)
    steps = [f"{k} steps" if k != 1 else "1 step" for k in range(STEPS + 1)]
    gap = ["of the gap to the oracle after one step"] * bool(oracle)
    random = np.stack([run.record.returns[records.RANDOM] for run in entries[0].runs])
    seeds = f"{len(entries[0].seeds)} seed{'s' * (len(entries[0].seeds) > 1)}"
    title = f"{family}, {entries[0].environment_steps[0] / 1e6:.1f} M environment steps, {tasks}, {seeds}"
    columns = [title, "adapts with", *steps, "gain after one step", *gap]
    notes = [
        f"Beside means: {shown_as(*(len(entry.seeds) for entry in entries))}.",
        f"Each row adapts with what is best of the same candidates on {record.tuned_on}.",
        *["The oracle sees its task; the gap to it is (after - before) / (oracle - before)."] * bool(oracle),
        f"{noise.capitalize()}." if (noise := noisiest(entries)) else "",
    ]
    return "\n".join(
        [
            f"| {' | '.join(columns)} |",
            "|---" * len(columns) + "|",
            *(row(f"`{entry.label}`", entry.adapts_with(), entry.returns, oracle) for entry in entries),
            row("random initialization", entries[0].adapts_with(records.RANDOM), random, oracle),
            "",
            " ".join(filter(None, notes)),
            *([rl2_row(recurrent, record)] if recurrent else []),
        ]
    )


def rl2_row(recurrent: Sequence[RL2Record], others: records.Record) -> str:
    """A table of its own for RL², whose steps are single episodes."""
    first, returns = recurrent[0], np.stack([record.returns for record in recurrent])
    if first.tasks != others.tasks:
        raise UserError(f"RL² was tested on {len(first.tasks)} {first.split} tasks, the others on other ones")
    episodes = [f"episode {k + 1}" for k in range(returns.shape[-1])]
    gain = paired_gain(returns[..., 0], returns[..., -1])
    cells = [rl2.LABEL, *(str(estimate(returns[..., k])) for k in range(returns.shape[-1])), str(gain)]
    return "\n".join(
        [
            "",
            f"| {first.title}, {first.training['environment_steps'] / 1e6:.1f} M environment steps | "
            f"{' | '.join(episodes)} | gain |",
            "|---" * len(cells) + "|",
            f"| {' | '.join(cells)} |",
            "",
            f"{rl2.LABEL} adapts from one episode to the next by its memory; a step of the table above takes "
            f"{others.episodes} episodes. So the two tables are not compared step by step.",
        ]
    )


def row(name: str, adapts_with: Sequence[str], returns: NDArray[np.floating], oracle: Entry | None) -> str:
    """A row of the table: mean return after each step, beside that of step 1 its interval, and the gain of step 1.

    Args:
        adapts_with: the settings of adaptation of its runs, in words; empty where none were chosen.
        returns: (seeds, tasks, K+1).
        oracle: of the table; with one, the row ends with the share of the gap to it that step 1 closes.
    """
    cells = [estimate(returns[..., k]) for k in range(returns.shape[-1])]
    words = [str(cell) if k == 1 else f"{cell.value:.1f}" for k, cell in enumerate(cells)]
    gain: Estimate = paired_gain(returns[..., 0], returns[..., 1])
    share = gap_to_oracle(returns, oracle, 1) if oracle and name != f"`{oracle.label}`" else None
    gap = ["" if share is None else f"{share:.0%}"] * bool(oracle)
    return f"| {' | '.join([name, '; '.join(adapts_with) or 'its settings', *words, str(gain), *gap])} |"
