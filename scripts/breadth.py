"""`metarl breadth …` from a checkout; the code lies in metarl/commands/breadth.py."""

from metarl.commands import run

if __name__ == "__main__":
    run("breadth")
