"""`python -m pingap` is the command `pingap`."""

from pingap.cli import main

if __name__ == "__main__":
    main()
