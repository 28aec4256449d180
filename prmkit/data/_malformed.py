"""The error of a record that breaks its format, apart from what is done about it."""

from __future__ import annotations


class MalformedRecordError(ValueError):
    """A record that breaks the schema; ``reason`` is short, to count by."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
