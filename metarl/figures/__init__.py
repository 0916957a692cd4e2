"""Figures: PNG files, or SVG text for a page. None is ever shown in a window."""

import os
import sys


def _import_matplotlib() -> None:
    """Import matplotlib even where MPLBACKEND names a backend that is not installed, by which its import would fail.

    Notebooks hand theirs on to processes that they start, in environments that lack it. It is dropped there.
    """
    if "matplotlib" in sys.modules:
        return
    backend = os.environ.pop("MPLBACKEND", "")
    import matplotlib

    if backend:
        try:
            matplotlib.rcParams["backend"] = backend
        except ValueError:
            return
        os.environ["MPLBACKEND"] = backend


_import_matplotlib()
