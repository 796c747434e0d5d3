"""AWS Signature Version 4 for the few requests where boto3's own signer costs too much.

Presigned URLs are byte for byte the ones botocore makes (tests/workflow/storage compares them). Payloads are
never part of a signature (`UNSIGNED-PAYLOAD`): their SHA-256 travels in `x-amz-checksum-sha256`, which is.
"""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlsplit

ALGORITHM = "AWS4-HMAC-SHA256"
LONGEST_LIFETIME = timedelta(days=7)
"""SigV4 allows no longer lifetime of a presigned URL."""
UNSIGNED = "UNSIGNED-PAYLOAD"
_DEFAULT_PORTS = {"http": 80, "https": 443}


def _encode(values: Mapping[str, str]) -> str:
    return "&".join(f"{quote(name, safe='-._~')}={quote(value, safe='-._~')}" for name, value in values.items())


def _mac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


class Signer:
    """Signs requests to one endpoint with one pair of keys. Stateless but for a cached day key; thread-safe."""

    def __init__(self, endpoint: str, region: str, access_key: str, secret_key: str) -> None:
        parts = urlsplit(endpoint)
        port = parts.port if parts.port != _DEFAULT_PORTS.get(parts.scheme) else None
        name = parts.hostname or ""
        name = f"[{name}]" if ":" in name else name
        self.host = f"{name}:{port}" if port else name
        """The Host header that the signature covers."""
        self.origin = f"{parts.scheme}://{parts.netloc}"
        self._prefix = parts.path.rstrip("/")
        self._region = region
        self._access_key = access_key
        self._secret_key = secret_key
        self._day_key: tuple[str, bytes] = ("", b"")

    def path(self, bucket: str, key: str = "") -> str:
        """Percent-encoded path of an object, or of the bucket itself."""
        path = f"{self._prefix}/{bucket}"
        return f"{path}/{quote(key, safe='/~')}" if key else path

    def _key_of(self, day: str) -> bytes:
        known, key = self._day_key
        if known != day:
            key = _mac(f"AWS4{self._secret_key}".encode(), day)
            for step in (self._region, "s3", "aws4_request"):
                key = _mac(key, step)
            self._day_key = (day, key)
        return key

    def _scope(self, day: str) -> str:
        return f"{day}/{self._region}/s3/aws4_request"

    def _signature(self, stamp: str, canonical: str) -> str:
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        to_sign = f"{ALGORITHM}\n{stamp}\n{self._scope(stamp[:8])}\n{digest}"
        return hmac.digest(self._key_of(stamp[:8]), to_sign.encode(), "sha256").hex()

    def headers(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        *,
        now: datetime | None = None,
    ) -> dict[str, str]:
        """`headers` with the ones that sign the request; all of them are signed, and Host.

        Their names must be lower-case.
        """
        stamp = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
        signed = {**headers, "x-amz-content-sha256": UNSIGNED, "x-amz-date": stamp}
        lines = sorted([*signed.items(), ("host", self.host)])
        names = ";".join(name for name, _ in lines)
        canonical = "\n".join(
            [
                method,
                path,
                _encode(dict(sorted(query.items()))),
                *(f"{name}:{value.strip()}" for name, value in lines),
                "",
                names,
                UNSIGNED,
            ]
        )
        signed["authorization"] = (
            f"{ALGORITHM} Credential={self._access_key}/{self._scope(stamp[:8])}, "
            f"SignedHeaders={names}, Signature={self._signature(stamp, canonical)}"
        )
        return signed

    def target(self, path: str, query: Mapping[str, str]) -> str:
        """Path and query as the request line carries them."""
        return f"{path}?{_encode(query)}" if query else path

    def presign(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        lifetime: timedelta,
        *,
        now: datetime | None = None,
    ) -> str:
        """A URL that lets its holder do `method` for `lifetime` (7 days at most). Signs the Host header only."""
        stamp = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
        seconds = int(min(lifetime, LONGEST_LIFETIME).total_seconds())
        credentials = {
            "X-Amz-Algorithm": ALGORITHM,
            "X-Amz-Credential": f"{self._access_key}/{self._scope(stamp[:8])}",
            "X-Amz-Date": stamp,
            "X-Amz-Expires": str(seconds),
            "X-Amz-SignedHeaders": "host",
        }
        sorted_query = _encode(dict(sorted({**query, **credentials}.items())))
        canonical = f"{method}\n{path}\n{sorted_query}\nhost:{self.host}\n\nhost\n{UNSIGNED}"
        shown = _encode({**query, **credentials})
        return f"{self.origin}{path}?{shown}&X-Amz-Signature={self._signature(stamp, canonical)}"

    def presign_parts(
        self,
        path: str,
        upload_id: str,
        count: int,
        lifetime: timedelta,
        *,
        now: datetime | None = None,
    ) -> list[str]:
        """URLs for the PUT of parts 1 to `count` of a multipart upload."""
        moment = now or datetime.now(UTC)
        return [
            self.presign("PUT", path, {"uploadId": upload_id, "partNumber": str(number)}, lifetime, now=moment)
            for number in range(1, count + 1)
        ]
