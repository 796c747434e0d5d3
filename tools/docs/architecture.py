"""The picture of the architecture: the parts of the package, and which imports which, from the code itself."""

import html
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import grimp

_PACKAGE = "archiver"
_OPENED = "archiver.workflow"
"""The part that is shown with what is in it."""
_USE_CASES = "archiver.workflow: use cases"
"""Modules directly in the opened part that import its folders."""
_BASICS = "archiver.workflow: basics"
"""Modules directly in the opened part that its folders can import: they import none of them."""
_BOX = (196, 44)
_GAP = (26, 74)
_MARGIN = 20
_STYLE = """
.box { fill: #eef1fb; stroke: #3f51b5; stroke-width: 1.5 }
.name { font: 600 14px sans-serif; fill: #1a237e; text-anchor: middle }
.arrow { fill: none; stroke: #78909c; stroke-width: 1.2 }
"""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the package."""

    name: str
    imports: frozenset[str]
    """Names of other parts that it imports."""


def _reachable(start: str, imports: Mapping[str, Iterable[str]]) -> set[str]:
    seen: set[str] = set()
    left = list(imports[start])
    while left:
        each = left.pop()
        if each not in seen:
            seen.add(each)
            left.extend(imports[each])
    return seen


def parts(imports: Mapping[str, Iterable[str]]) -> list[Part]:
    """The parts, from the modules that each module imports.

    A part is a folder of the package; the folder that is opened is shown with its own folders, and the modules
    directly in it as two parts: what its folders stand on, and what stands on its folders.
    """
    inside = {module for module in imports if module.startswith(_OPENED + ".")}
    upper = {module for module in inside if module.count(".") == _OPENED.count(".") + 1}
    folders = {module for module in upper if any(each.startswith(module + ".") for each in inside)}

    def folder_of(module: str) -> str | None:
        return next((each for each in folders if module == each or module.startswith(each + ".")), None)

    def part_of(module: str) -> str:
        if module not in inside:
            return _BASICS if module == _OPENED else ".".join(module.split(".")[:2])
        if folder := folder_of(module):
            return folder
        stands_on_folders = any(folder_of(each) for each in _reachable(module, imports))
        return _USE_CASES if stands_on_folders else _BASICS

    wanted: dict[str, set[str]] = {}
    for module in sorted(imports):
        if module == _PACKAGE:
            continue
        own = part_of(module)
        others = {part_of(each) for each in imports[module] if each != _PACKAGE}
        wanted.setdefault(own, set()).update(others - {own})
    return [Part(name, frozenset(wanted[name])) for name in sorted(wanted)]


def direct(found: Iterable[Part]) -> list[tuple[str, str]]:
    """Which part imports which, without what follows from other arrows; parts that import each other keep theirs."""
    imports = {part.name: part.imports for part in found}
    reached = {name: _reachable(name, imports) for name in imports}

    def follows(name: str, other: str) -> bool:
        between = (each for each in imports[name] if each != other and name not in reached[each])
        return any(other in reached[each] and each not in reached[other] for each in between)

    return [(name, other) for name in sorted(imports) for other in sorted(imports[name]) if not follows(name, other)]


def package_parts() -> list[Part]:
    """The parts of the package as it is."""
    graph = grimp.build_graph(_PACKAGE, cache_dir=None)
    return parts({module: graph.find_modules_directly_imported_by(module) for module in graph.modules})


def levels(found: Iterable[Part]) -> dict[str, int]:
    """How deep each part lies: 0 imports nothing, others are one above the deepest they import.

    Parts that import each other, directly or over others, lie at the same depth.
    """
    imports = {part.name: part.imports for part in found}

    reached = {name: _reachable(name, imports) for name in imports}
    depth: dict[str, int] = {}

    def measure(name: str) -> int:
        if name not in depth:
            together = [name, *(each for each in reached[name] if name in reached[each])]
            below = {each for one in together for each in reached[one]} - set(together)
            depth[name] = max((measure(each) + 1 for each in below), default=0)
        return depth[name]

    return {name: measure(name) for name in sorted(imports)}


def _label(name: str) -> str:
    return name.removeprefix(_PACKAGE + ".")


def draw(found: list[Part]) -> str:
    """The picture as SVG: what imports stands above what is imported."""
    depth = levels(found)
    rows = [sorted(name for name in depth if depth[name] == level) for level in range(max(depth.values()), -1, -1)]
    width = max(len(row) for row in rows) * (_BOX[0] + _GAP[0]) - _GAP[0] + 2 * _MARGIN
    height = len(rows) * (_BOX[1] + _GAP[1]) - _GAP[1] + 2 * _MARGIN
    corner: dict[str, tuple[float, float]] = {}
    for number, row in enumerate(rows):
        used = len(row) * (_BOX[0] + _GAP[0]) - _GAP[0]
        for place, name in enumerate(row):
            corner[name] = (
                (width - used) / 2 + place * (_BOX[0] + _GAP[0]),
                _MARGIN + number * (_BOX[1] + _GAP[1]),
            )
    shapes = [_arrow(corner[name], corner[other]) for name, other in direct(found)]
    for part in found:
        left, top = corner[part.name]
        middle = left + _BOX[0] / 2
        shapes += [
            f'<rect class="box" x="{left:g}" y="{top:g}" width="{_BOX[0]}" height="{_BOX[1]}" rx="6"/>',
            f'<text class="name" x="{middle:g}" y="{top + 27:g}">{html.escape(_label(part.name))}</text>',
        ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img">',
            "<title>Parts of the package, and which imports which</title>",
            f"<style>{_STYLE}</style>",
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            'orient="auto"><path d="M0 0 8 4 0 8z" fill="#78909c"/></marker></defs>',
            *shapes,
            "</svg>",
            "",
        ]
    )


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    """From below one box to above another; between boxes of a row, an arc below them."""
    x1, y1 = start[0] + _BOX[0] / 2, start[1] + _BOX[1]
    x2, y2 = end[0] + _BOX[0] / 2, end[1]
    if start[1] == end[1]:
        y2 = y1
        bend = y1 + _GAP[1] * 0.7
        curve = f"M{x1:g} {y1:g}C{x1:g} {bend:g} {x2:g} {bend:g} {x2:g} {y2:g}"
        return f'<path class="arrow" marker-end="url(#head)" d="{curve}"/>'
    pull = (y2 - y1) * 0.45
    return (
        f'<path class="arrow" marker-end="url(#head)" '
        f'd="M{x1:g} {y1:g}C{x1:g} {y1 + pull:g} {x2:g} {y2 - pull:g} {x2:g} {y2:g}"/>'
    )
