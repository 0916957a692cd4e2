"""`metarl results …` from a checkout; the code lies in metarl/commands/results.py."""

from metarl.commands import run

if __name__ == "__main__":
    run("results")
