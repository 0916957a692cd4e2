"""`metarl compare …` from a checkout; the code lies in metarl/commands/compare.py."""

from metarl.commands import run

if __name__ == "__main__":
    run("compare")
