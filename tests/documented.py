"""The Python examples of the documentation, run as printed."""

import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1] / "docs"


def examples(page: str) -> list[str]:
    """The Python blocks of a page."""
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.S)


def run(example: str, page: str, names: dict[str, Any] | None = None) -> dict[str, Any]:
    """Runs a block, with the names that blocks before it have made; gives all names."""
    names = {} if names is None else names
    exec(compile(example, str(DOCS / page), "exec"), names)
    return names
