"""`metarl train …` from a checkout; the code lies in metarl/commands/train.py."""

from metarl.commands import run

if __name__ == "__main__":
    run("train")
