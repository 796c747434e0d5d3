"""The text of a GitHub Release: what changed, and what a deployment of it needs."""

from collections.abc import Mapping

from tools.release.archive import archive_name
from tools.release.images import IMAGES, names
from tools.release.version import Version

_PAGES = "https://github.com/SwissOpenEM/ScopeMArchiver/blob"


def release_notes(version: Version, changes: str, environment: Mapping[str, str]) -> str:
    """`changes` (the changelog's section), then how the images are pulled and what goes with them; Markdown."""
    pages = f"{_PAGES}/v{version}/docs/how-to"
    pulls = "\n".join(f"docker pull {name}" for image in IMAGES for name in names(image, [str(version)], environment))
    return f"""{changes}

## Images

```
{pulls}
```

`{version.series}` follows the corrections of this version, `latest` the newest one.

## Deployment

`{archive_name(version)}` below has all that a host needs besides: `docker-compose.yml`, the folder `deployment/` that
it mounts, the configuration of the flows, `make secrets`, and an `.env` that pins the images:

```
OPENEM_IMAGE_TAG={version}
```

`docker-compose.yml` alone does not suffice: it goes with `deployment/` and the `.env` of this tag, and with those of no
other. Whoever upgrades takes all three, and puts their own values into the new `.env`.

Read [docs/how-to/upgrade.md]({pages}/upgrade.md) before upgrading: the ledger's migrations go forward only. A first
installation begins with [docs/how-to/deploy-on-a-vm.md]({pages}/deploy-on-a-vm.md). The pages are not in the archive.
"""
