"""`metarl baseline …` from a checkout; the code lies in metarl/commands/baseline.py."""

from metarl.commands import run

if __name__ == "__main__":
    run("baseline")
