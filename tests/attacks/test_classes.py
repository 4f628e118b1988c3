"""Each class of attack has a test that is named after it, and none has another number."""

import ast
import re
from pathlib import Path
from typing import Final

_NAMED: Final = re.compile(r"test_([0-9]{2})_[a-z]")
_CLASSES: Final = range(1, 33)
"""Of the table in SECURITY.md."""
_ROW: Final = re.compile(r"^\| ([0-9]+) \|", re.MULTILINE)


def test_each_class_of_attack_is_tried() -> None:
    numbers = [
        int(found[1])
        for path in Path(__file__).parent.glob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (found := _NAMED.match(node.name))
    ]
    assert set(numbers) == {*_CLASSES}


def test_each_class_of_attack_is_told_of() -> None:
    told = (Path(__file__).parents[2] / "SECURITY.md").read_text()
    assert [int(number) for number in _ROW.findall(told)] == [*_CLASSES]
