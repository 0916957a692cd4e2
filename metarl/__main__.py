"""`python -m metarl COMMAND …` runs `metarl COMMAND …`."""

from metarl.commands import main

if __name__ == "__main__":
    main()
