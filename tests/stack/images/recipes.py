"""How each upstream image is stood in for: a Dockerfile here, and the program from the package registry it is in."""

import shutil
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stack.commands import run
from stack.engine import Engine
from stack.images import base
from stack.images.content import folder_content, tag_of
from stack.images.host import Host

KEYCLOAK_VERSION = "26.0.7"
_KEYCLOAK_ARTIFACT = f"org.keycloak:keycloak-quarkus-dist:{KEYCLOAK_VERSION}:zip"
_HERE = Path(__file__).parent
_BUILD_S = 1800
_TRAEFIK = Path(sys.executable).parent / "traefik"


@dataclass(frozen=True)
class Recipe:
    """One image: the folder of this package with its Dockerfile, and what is laid beside that."""

    name: str
    version: Callable[[], str]
    """Names what `fetch` brings; part of the image's tag."""
    fetch: Callable[[Path], None]
    """Puts programs into the folder that is built."""


def _nothing(context: Path) -> None:
    """Everything comes from Debian."""


def _traefik(context: Path) -> None:
    shutil.copy2(_TRAEFIK, context / "traefik")


def _golang(context: Path) -> None:
    shutil.copytree(run(["go", "env", "GOROOT"]).strip(), context / "go", symlinks=True)


def _keycloak(context: Path) -> None:
    run(
        [
            *("mvn", "--batch-mode", "--quiet", "dependency:copy", f"-Dartifact={_KEYCLOAK_ARTIFACT}"),
            *(f"-DoutputDirectory={context}", "-Dmdep.useBaseVersion=true"),
        ],
        timeout_s=_BUILD_S,
    )
    (packed,) = context.glob("keycloak-*.zip")
    with zipfile.ZipFile(packed) as opened:
        opened.extractall(context)
    packed.unlink()
    (unpacked,) = (path for path in context.glob("keycloak-*") if path.is_dir())
    unpacked.rename(context / "keycloak")
    for program in (context / "keycloak/bin").glob("*.sh"):
        program.chmod(0o755)


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("postgres", lambda: "of Debian", _nothing),
        Recipe("golang", lambda: run(["go", "version"]), _golang),
        Recipe("keycloak", lambda: _KEYCLOAK_ARTIFACT, _keycloak),
        Recipe("traefik", lambda: run([_TRAEFIK, "version"]), _traefik),
        Recipe("redis", lambda: "of Debian", _nothing),
        Recipe("prometheus", lambda: "of Debian", _nothing),
    )
}
"""Besides the image of Debian and Python that all are built on."""


class Kitchen:
    """Makes images, each once: what the engine holds already under the same tag is not made again. Thread-safe."""

    def __init__(self, engine: Engine, host: Host, folder: Path) -> None:
        self._engine = engine
        self._host = host
        self._folder = folder
        self._one_base = threading.Lock()

    def python(self) -> str:
        """Tag of the image with Debian and its Python, made when it is missing."""
        tag = self._python_tag()
        with self._one_base:
            if not self._engine.has_image(tag):
                base.make(self._engine, tag, self._host, self._folder)
        return tag

    def _python_tag(self) -> str:
        host = self._host
        configuration = (host.debian_mirror, host.apt_settings, host.pip_settings)
        inputs = [
            Path(base.__file__).read_bytes(),
            *(text.encode() for text in configuration),
            host.ca_bundle,
        ]
        return tag_of("python", inputs)

    def image(self, name: str) -> str:
        """Tag of the image by the recipe of this name, made when it is missing."""
        recipe = RECIPES[name]
        python = self._python_tag()
        source = _HERE / recipe.name
        tag = tag_of(recipe.name, [python.encode(), recipe.version().encode(), *folder_content(source)])
        if not self._engine.has_image(tag):
            with tempfile.TemporaryDirectory(dir=self._folder, prefix=f"{recipe.name}-") as made:
                context = Path(made)
                shutil.copytree(source, context, dirs_exist_ok=True)
                recipe.fetch(context)  # while another thread may still make the base
                self.python()
                self._engine.docker(
                    *("build", "--network", "host", "--build-arg", f"BASE={python}", "--tag", tag, made),
                    timeout_s=_BUILD_S,
                )
        return tag
