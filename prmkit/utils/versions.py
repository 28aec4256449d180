"""Which release of a package is in use, for what is saved to say."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed_version(name: str) -> str | None:
    """Return the version of a package; None if it is not installed, as prmkit itself run from a checkout."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
