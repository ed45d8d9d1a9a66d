"""Results in a file, so that a run that was interrupted goes on where it stopped."""

import json
from pathlib import Path
from typing import Any


class Records:
    """Results by case, kept in a JSON file that is written after each.

    Args:
        file: where they are kept; ``None`` keeps them for this run only.

    Raises:
        ValueError: the file holds something else.

    Example:
        >>> records = Records(None)
        >>> records.keep("first case", {"error": 0.5})
        >>> "first case" in records, "second case" in records, records["first case"]["error"]
        (True, False, 0.5)
    """

    def __init__(self, file: Path | None) -> None:
        self._file, self._results = file, dict[str, Any]()
        if file is None or not file.exists():
            return
        try:
            self._results = json.loads(file.read_text())
        except ValueError as error:
            raise ValueError(f"{file}: expected the records of a benchmark, got {error}") from error

    def __contains__(self, case: str) -> bool:
        return case in self._results

    def __getitem__(self, case: str) -> Any:
        return self._results[case]

    def __iter__(self) -> Any:
        return iter(self._results)

    def keep(self, case: str, result: Any) -> None:
        """Add a result made of plain numbers, texts, lists and dictionaries."""
        self._results[case] = result
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            partial = self._file.with_suffix(".partial")
            partial.write_text(json.dumps(self._results, indent=1))
            partial.replace(self._file)
