"""Concurrency limits: how many runs may read from or write to the share at once, and how many a pool takes."""

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import ObjectNotFound
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from archiver.config.register_changes import Change, ConfigurationError, settle


class Queue(BaseModel):
    """A work queue of a pool. 1 is the highest priority."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    priority: PositiveInt
    limit: PositiveInt | None = None


class PoolLimits(BaseModel):
    """What a work pool takes at once, and its queues."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: PositiveInt | None = None
    queues: dict[str, Queue] = Field(default_factory=dict)


class Limits(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limits: dict[str, PositiveInt]
    """Global concurrency limits by name."""
    archival: PoolLimits = PoolLimits()
    retrieval: PoolLimits = PoolLimits()


def read_limits(file: Path) -> Limits:
    """Limits from a TOML file.

    Raises:
        ConfigurationError: the file cannot be read or holds something else.
    """
    try:
        return Limits.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{file} cannot be read as TOML: {error}. Correct it.") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, entry['loc']))}: {entry['msg']}" for entry in error.errors())
        raise ConfigurationError(f"{file} is not as it must be: {wrong}. Correct it.") from error


def register_limits(client: SyncPrefectClient, limits: Mapping[str, int], *, dry_run: bool) -> Iterator[Change]:
    """Register global concurrency limits."""
    for name, limit in limits.items():
        try:
            existing = client.read_global_concurrency_limit_by_name(name).limit
        except ObjectNotFound:
            existing = None

        def write(name: str = name, limit: int = limit) -> None:
            client.upsert_global_concurrency_limit_by_name(name, limit)

        yield settle(
            "concurrency limit",
            name,
            exists=existing is not None,
            equal=existing == limit,
            write=write,
            dry_run=dry_run,
            detail=str(limit),
        )
