"""`python -m multiadapt` is `multiadapt`."""

from multiadapt.cli import main

if __name__ == "__main__":
    main()
