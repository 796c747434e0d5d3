"""How this machine reaches its package registries, so that builds of images reach them the same way.

Read when the test runs, never committed: mirrors, proxies and private certificate authorities differ by place.
"""

import os
import shlex
import ssl
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from stack.commands import run

CA_BUNDLE_IN_IMAGES = "/etc/ssl/certs/ca-certificates.crt"
_PIP_KEYS = ("index-url", "extra-index-url", "trusted-host", "proxy")


class HostUnsuitableError(Exception):
    """This machine lacks what making the images needs; the message says what."""


@dataclass(frozen=True)
class Host:
    """The configuration of this machine's package clients."""

    debian_mirror: str
    """URL of a Debian mirror that carries every suite."""
    apt_settings: str
    """Lines of an apt configuration file: proxies."""
    pip_settings: str
    """A pip configuration file."""
    ca_bundle: bytes
    """PEM of every certificate authority that is trusted here."""


def this_host() -> Host:
    """The configuration as it is now.

    Raises:
        HostUnsuitableError: apt knows no Debian mirror.
        CommandFailedError: apt or pip is missing.
    """
    filters = ("Created-By: Packages", "Origin: Debian", "Label: Debian", "Component: main")
    mirrors = run(["apt-get", "indextargets", "--format", "$(REPO_URI)", *filters]).split()
    if not mirrors:
        raise HostUnsuitableError("apt knows no Debian mirror here: run this on Debian, after apt-get update.")
    return Host(
        debian_mirror=mirrors[0],
        apt_settings=proxy_lines(run(["apt-config", "dump", "Acquire"]).splitlines()),
        pip_settings=pip_file(run([sys.executable, "-m", "pip", "config", "list"]).splitlines()),
        ca_bundle=_ca_bundle(),
    )


def proxy_lines(dump: Iterable[str]) -> str:
    """The lines of `apt-config dump` that name a proxy."""
    return "".join(f"{line}\n" for line in dump if "::Proxy" in line and not line.endswith('"";'))


def pip_file(listing: Iterable[str]) -> str:
    """A pip configuration file from the lines of `pip config list`, with the bundle's path as it is in images.

    Later lines win, as the environment does for pip.
    """
    found = {"cert": CA_BUNDLE_IN_IMAGES}
    for line in listing:
        name, _, value = line.partition("=")
        key = name.rpartition(".")[2]
        if key in _PIP_KEYS:
            found[key] = "".join(shlex.split(value))
    return "[global]\n" + "".join(f"{key} = {value}\n" for key, value in sorted(found.items()))


def _ca_bundle() -> bytes:
    file = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile or CA_BUNDLE_IN_IMAGES
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise HostUnsuitableError(f"{file}, the bundle of trusted certificates, cannot be read.") from error
