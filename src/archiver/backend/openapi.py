"""`python -m archiver.backend.openapi [FILE]`: the API's OpenAPI document, written to FILE or standard output."""

import json
import sys
from pathlib import Path

from archiver.backend.app import create_app
from archiver.config.settings import ApiConfiguration, Environment, ServiceSettings


def document() -> str:
    """The document as JSON text, the same on every machine."""
    app = create_app(ApiConfiguration(service=ServiceSettings(environment=Environment.DEVELOPMENT)))
    return json.dumps(app.openapi(), indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> None:
    """Write the document."""
    if arguments:
        Path(arguments[0]).write_text(document(), encoding="utf-8")
    else:
        sys.stdout.write(document())


if __name__ == "__main__":
    main(sys.argv[1:])
