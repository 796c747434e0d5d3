"""`python -m stack.images`: make every image on the engine that runs here, and say what each took."""

import sys
import time

from stack.engine import running_engine
from stack.folders import cache_folder
from stack.images.host import this_host
from stack.images.recipes import RECIPES, Kitchen


def main() -> int:
    """Make the images; the exit status."""
    cache = cache_folder()
    with running_engine(cache) as engine:
        kitchen = Kitchen(engine, this_host(), cache)
        began = time.monotonic()
        for name in ("python", *RECIPES):
            tag = kitchen.python() if name == "python" else kitchen.image(name)
            now = time.monotonic()
            sys.stdout.write(f"{tag:50} {now - began:6.1f} s\n")
            sys.stdout.flush()
            began = now
    return 0


if __name__ == "__main__":
    sys.exit(main())
