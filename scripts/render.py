"""`metarl render …` from a checkout; the code lies in metarl/commands/render.py."""

from metarl.commands import run

if __name__ == "__main__":
    run("render")
