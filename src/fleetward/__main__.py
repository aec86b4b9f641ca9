"""`python -m fleetward` is the `fleetward` command."""

from fleetward.cli.main import main

if __name__ == "__main__":
    main()
