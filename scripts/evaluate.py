"""`metarl evaluate …` from a checkout; the code lies in metarl/commands/evaluate.py."""

from metarl.commands import run

if __name__ == "__main__":
    run("evaluate")
