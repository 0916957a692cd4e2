"""`metarl sinusoid …` from a checkout; the code lies in metarl/commands/sinusoid.py."""

from metarl.commands import run

if __name__ == "__main__":
    run("sinusoid")
