"""`metarl tasks …` from a checkout; the code lies in metarl/commands/tasks.py."""

from metarl.commands import run

if __name__ == "__main__":
    run("tasks")
