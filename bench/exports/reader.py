"""The reader of the sparse format as docs/export.md prints it."""

import re
from collections.abc import Callable
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "export.md"


def documented() -> Callable[[Path], tuple[dict, dict]]:
    """The function `read` of the page's block of Python."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict = {}
    exec(code, names)
    return names["read"]
