"""Figures as PNG files, or as SVG text for a page."""

import os
import sys


def _import_matplotlib() -> None:
    """Import matplotlib also where MPLBACKEND names a backend that is not installed, with which the import would fail.

    Notebooks set MPLBACKEND for the processes that they start, whose environment may lack that backend.
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
