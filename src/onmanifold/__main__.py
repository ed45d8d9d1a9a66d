"""``python -m onmanifold``: the command line."""

from onmanifold.cli import main

if __name__ == "__main__":
    main()
