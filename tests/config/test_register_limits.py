"""The file of concurrency limits."""

from pathlib import Path

import pytest

from archiver.config.register import find_configuration_file
from archiver.config.register_changes import ConfigurationError
from archiver.config.register_limits import read_limits


def test_the_file_of_the_service_limits_reading_and_writing_of_the_share() -> None:
    limits = read_limits(find_configuration_file("concurrency-limits.toml"))

    assert set(limits.limits) == {"read-from-lts-share", "write-to-lts-share"}
    assert {name: queue.priority for name, queue in limits.archival.queues.items()} == {"urgent": 1, "default": 2}
    assert limits.retrieval.limit


@pytest.mark.parametrize(
    "text", ["[limits]\nwrite-to-lts-share = 0", "[limits]\n[archive]\nlimit = 1", "limits = 1", "[limits"]
)
def test_a_file_that_is_not_as_it_must_be_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "limits.toml"
    file.write_text(text)

    with pytest.raises(ConfigurationError, match=r"limits\.toml"):
        read_limits(file)
