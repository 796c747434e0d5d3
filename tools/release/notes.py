"""The text of a GitHub Release: what changed, and how to get it."""

from collections.abc import Mapping

from tools.release.images import IMAGES, names
from tools.release.version import Version


def release_notes(version: Version, changes: str, environment: Mapping[str, str]) -> str:
    """`changes` (the changelog's section), then how the images are pulled; Markdown."""
    pulls = "\n".join(f"docker pull {name}" for image in IMAGES for name in names(image, [str(version)], environment))
    return f"""{changes}

## Images

```
{pulls}
```

`{version.series}` follows the corrections of this version, `latest` the newest one. A deployment takes all images of
a release by one line of its `.env`, and `docker-compose.yml` below:

```
OPENEM_IMAGE_TAG={version}
```

Read `docs/how-to/upgrade.md` before upgrading: the ledger's migrations go forward only.
"""
