"""`python -m lstmstate`."""

from lstmstate.cli import main

if __name__ == "__main__":
    main()
