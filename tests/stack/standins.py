"""Which images the stack is started with: upstream's where they can be had, else those made here."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stack.engine import Engine
from stack.images.host import this_host
from stack.images.recipes import Kitchen

_PROBE = "PYTHON_IMAGE"
_MADE_BY = {
    "POSTGRES_IMAGE": "postgres",
    "TRAEFIK_IMAGE": "traefik",
    "KEYCLOAK_IMAGE": "keycloak",
    "GO_IMAGE": "golang",
}
_LATER = {"PROMETHEUS_IMAGE": "prometheus"}
"""Of parts that few start."""
_PLAIN = ("PYTHON_IMAGE", "DEBIAN_IMAGE")


def read_values(file: Path) -> dict[str, str]:
    """The settings of an environment file."""
    lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    return {name: value for name, _, value in (line.partition("=") for line in lines if line and line[0] != "#")}


def choose_images(engine: Engine, values: Mapping[str, str], cache: Path) -> dict[str, str]:
    """Settings that name other images than `values` do; none where upstream's can be had."""
    if engine.can_have(values[_PROBE]):
        return {}
    kitchen = Kitchen(engine, this_host(), cache)
    # All at once: much of their time is waiting for the network and for the disk.
    with ThreadPoolExecutor(len(_MADE_BY)) as pool:
        made = {name: pool.submit(kitchen.image, recipe) for name, recipe in _MADE_BY.items()}
        return {name: kitchen.python() for name in _PLAIN} | {name: image.result() for name, image in made.items()}


def one_image(engine: Engine, values: Mapping[str, str], name: str, cache: Path) -> str:
    """The image of a part that is not always started: upstream's, or one made here."""
    if engine.can_have(values[_PROBE]):
        return values[name]
    return Kitchen(engine, this_host(), cache).image(_LATER[name])
