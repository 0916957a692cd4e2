"""`metarl benchmark …` from a checkout; the code lies in metarl/commands/benchmark.py."""

from metarl.commands import run

if __name__ == "__main__":
    run("benchmark")
