"""`python -m metarl …` is the command `metarl …`."""

from metarl.commands import main

if __name__ == "__main__":
    main()
