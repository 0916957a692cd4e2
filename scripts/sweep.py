"""`metarl sweep …` from a checkout; the code lies in metarl/commands/sweep.py."""

from metarl.commands import run

if __name__ == "__main__":
    run("sweep")
