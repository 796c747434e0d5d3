"""Listings page by page. boto3 spends ten times the CPU on an entry, most of it on dates nobody asks for."""

from collections.abc import Iterator, Sequence
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from archiver.workflow.errors import ObjectStoreError
from archiver.workflow.storage.s3_records import StoredObject
from archiver.workflow.storage.s3_transport import RefusedError, Transport, read_all

_PAGE = "1000"


def pages(transport: Transport, bucket: str, prefix: str) -> Iterator[Sequence[StoredObject]]:
    """The objects under `prefix`, at most 1000 at a time, each page asked for when it is wanted.

    Raises:
        ObjectStoreError, ObjectStoreRefusedError
    """
    doing = f"listing {prefix or bucket}"
    # Names may hold what XML cannot; so they are asked for percent-encoded.
    query = {"list-type": "2", "max-keys": _PAGE, "prefix": prefix, "encoding-type": "url"}
    token = ""
    while True:
        asked = {**query, "continuation-token": token} if token else query
        try:
            answer = transport.perform(
                doing, "GET", transport.signer.path(bucket), asked, {}, wanted=(200,), read=read_all
            )
        except RefusedError as error:
            raise error.told(doing) from error
        try:
            objects, token = _parsed(answer)
        except (ElementTree.ParseError, ValueError) as error:
            raise ObjectStoreError(
                f"S3: {doing} gave no valid listing: {error}. Check S3_ENDPOINT and that the storage is healthy."
            ) from error
        yield objects
        if not token:
            return


def _local(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _parsed(answer: bytes) -> tuple[list[StoredObject], str]:
    """The objects of a page, and the token of the next one; empty after the last."""
    root = ElementTree.fromstring(answer)  # noqa: S314  # nosec B314  # from our own storage; expat bounds entities
    single: dict[str, str] = {}
    entries: list[dict[str, str]] = []
    for element in root:
        if (name := _local(element)) == "Contents":
            entries.append({_local(field): field.text or "" for field in element})
        else:
            single[name] = element.text or ""
    encoded = single.get("EncodingType") == "url"
    objects = [
        StoredObject(
            unquote_plus(entry["Key"]) if encoded else entry["Key"], int(entry["Size"]), entry["ETag"].strip('"')
        )
        for entry in entries
        if entry.keys() >= {"Key", "Size", "ETag"}
    ]
    if len(objects) != len(entries):
        raise ValueError("an entry lacks its name, size or ETag")
    truncated = single.get("IsTruncated") == "true"
    token = single.get("NextContinuationToken", "")
    if truncated and not token:
        raise ValueError("it is cut short without saying how to go on")
    return objects, token if truncated else ""
