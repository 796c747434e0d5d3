"""The image below all others: Debian 13 with its Python, made by debootstrap."""

import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from stack.commands import run
from stack.engine import Engine, install
from stack.images.host import Host

SUITE = "trixie"
PACKAGES = ("ca-certificates", "curl", "python3", "python3-pip", "python3-venv")
_OTHER_NAMES = {"python": "python3"}
_USELESS = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale")


def make(engine: Engine, tag: str, host: Host, folder: Path) -> None:
    """Make the image in a folder below `folder`, which needs about 700 MB. Needs root."""
    if shutil.which("debootstrap") is None:
        install("debootstrap")
    with tempfile.TemporaryDirectory(dir=folder, prefix="debian-") as made:
        root = Path(made) / "root"
        # What debootstrap mounts there must be gone with it, also when it is killed: the folder is removed.
        run(
            [
                *("unshare", "--mount", "debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}"),
                *(SUITE, str(root), host.debian_mirror),
            ],
            timeout_s=1800,
        )
        _configure(root, host)
        _import(engine, tag, root)


def _configure(root: Path, host: Host) -> None:
    """Make pip and apt work in builds as they do on this machine, and Python as in Python's own images."""
    authorities = root / "usr/local/share/ca-certificates/host.crt"
    authorities.parent.mkdir(parents=True, exist_ok=True)
    authorities.write_bytes(host.ca_bundle)
    run(["chroot", str(root), "update-ca-certificates"], environment={"PATH": os.environ["PATH"], "LC_ALL": "C"})
    (root / "etc/pip.conf").write_text(host.pip_settings)
    (root / "etc/apt/apt.conf.d/90host").write_text(host.apt_settings)
    for marker in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
        marker.unlink()
    for name, target in _OTHER_NAMES.items():
        (root / "usr/local/bin" / name).symlink_to(f"/usr/bin/{target}")
    for useless in _USELESS:
        for path in (root / useless).iterdir():
            shutil.rmtree(path) if stat.S_ISDIR(path.lstat().st_mode) else path.unlink()


def _import(engine: Engine, tag: str, root: Path) -> None:
    with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as packing:
        subprocess.run(
            ["docker", "import", "--change", 'CMD ["bash"]', "-", tag],
            stdin=packing.stdout,
            stdout=subprocess.DEVNULL,
            timeout=600,
            check=True,
        )
        if packing.stdout is not None:
            packing.stdout.close()
    assert packing.returncode == 0
    assert engine.has_image(tag)
