"""What a public function raises itself stands in its docstring: callers decide by it. ruff only wants a docstring."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "src" / "archiver"
SIMULATORS = (SOURCES / "local" / "scicat", SOURCES / "local" / "identity")
"""What they raise is what the server they imitate answers."""
_OF_COMMANDS = ("typer.", "CommandError")
"""Raised by commands, whose docstring is their help; the exit codes there tell of it."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _functions(node: ast.AST) -> Iterator[Function]:
    """Public functions and methods, without those inside of functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if not child.name.startswith("_"):
                yield child
        elif not isinstance(child, ast.ClassDef) or not child.name.startswith("_"):
            yield from _functions(child)


def _raised(node: ast.AST) -> Iterator[str]:
    """What is raised here, but not what is only passed on, or raised by a function inside."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            continue
        if isinstance(child, ast.Raise) and child.exc is not None:
            yield ast.unparse(child.exc.func if isinstance(child.exc, ast.Call) else child.exc)
        yield from _raised(child)


def _is_route(function: Function) -> bool:
    """Of the API: its docstring is the description there, with the answers beside it."""
    return any(ast.unparse(each).startswith("router.") for each in function.decorator_list)


def undocumented(source: str) -> list[str]:
    """The functions that raise something and do not say so, with what it is."""
    return [
        f"{function.name}, line {function.lineno}: {', '.join(raised)}"
        for function in _functions(ast.parse(source))
        if (raised := [each for each in _raised(function) if not each.startswith(_OF_COMMANDS)])
        and not _is_route(function)
        and "Raises:\n" not in (ast.get_docstring(function) or "")
    ]


@pytest.mark.parametrize("package", [each.name for each in SOURCES.iterdir() if (each / "__init__.py").exists()])
def test_what_public_functions_raise_is_documented(package: str) -> None:
    files = [
        file
        for file in (SOURCES / package).rglob("*.py")
        if not any(file.is_relative_to(folder) for folder in SIMULATORS)
    ]
    found = [
        f"{file.relative_to(SOURCES)}: {each}"
        for file in files
        for each in undocumented(file.read_text(encoding="utf-8"))
    ]

    assert files
    assert found == []


def test_a_function_that_does_not_say_what_it_raises_is_found() -> None:
    source = '''
class Store:
    def read(self):
        """Read it."""
        if self.gone:
            raise GoneError("It is gone.") from None

    def write(self):
        """Write it.

        Raises:
            FullError: there is no room.
        """
        raise FullError

    def _inner(self):
        raise GoneError

def passes_on():
    try:
        pass
    except OSError:
        raise
'''

    assert undocumented(source) == ["read, line 3: GoneError"]
