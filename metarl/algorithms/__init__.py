"""The algorithms. Each is a frozen dataclass of settings with an inner loop and a method `update`; see README.md."""

from typing import Annotated

from pydantic import Field

from metarl.algorithms.maml_sgd import MAMLSGD
from metarl.algorithms.maml_trpo import MAMLTRPO
from metarl.algorithms.promp import MAMLPPO, ProMP
from metarl.algorithms.reptile import Reptile
from metarl.inner.sgd import SGD

Algorithm = Annotated[MAMLTRPO | MAMLPPO | MAMLSGD | ProMP | Reptile, Field(discriminator="name")]


def in_short(algorithm: Algorithm) -> str:
    """The name of an algorithm and of the variants that its settings choose, such as `maml_trpo, first order`."""
    inner = algorithm.inner
    default = type(algorithm)().inner
    usual = (default if type(default) is type(inner) else type(inner)()).steps
    steps = f"{inner.steps} steps" if inner.steps != 1 else "1 step"
    notable = {
        "no adaptation": not inner.steps,
        steps: inner.steps not in (0, usual),
        "first order": getattr(algorithm, "first_order", False),
        "E-MAML": getattr(algorithm, "exploration_credit", 0) > 0,
        f"{inner.name} inside": inner.name != SGD().name,
    }
    if isinstance(inner, SGD):
        notable |= {
            "Meta-SGD": inner.learned_step_sizes,
            "ANIL": inner.last_layer_only,
            inner.loss: inner.loss != SGD().loss,
        }
    return ", ".join([algorithm.name, *(words for words, is_so in notable.items() if is_so)])
