"""`metarl report …` from a checkout; the code lies in metarl/commands/report.py."""

from metarl.commands import run

if __name__ == "__main__":
    run("report")
