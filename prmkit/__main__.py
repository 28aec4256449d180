"""``python -m prmkit``, for where the ``prmkit`` command is not on the path."""

from prmkit.cli import main

if __name__ == "__main__":
    main()
