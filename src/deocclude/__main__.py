"""`python -m deocclude` is the same as `deocclude`."""

from deocclude.cli.app import main

if __name__ == "__main__":
    main()
