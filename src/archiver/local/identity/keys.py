"""The keys of the realm: RSA keys for tokens that others verify, one secret key for tokens only it reads.

The only module that knows the JOSE library.
"""

import base64
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwcrypto import jwk, jws  # type: ignore[import-untyped]
from jwcrypto.common import JWException  # type: ignore[import-untyped]

from archiver.local.identity.errors import InvalidTokenError
from archiver.local.identity.files import replace_private_file

_PUBLIC_ALGORITHM = "RS256"
_PRIVATE_ALGORITHM = "HS512"


class KeyRing:
    """Signs and verifies the tokens of the realm; the newest RSA key signs, older ones still verify.

    Give it a file (mode 0600) to keep the keys across a restart; without one they live in memory.
    Safe to be used from several threads.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._lock = threading.Lock()
        if file is not None and file.exists():
            stored = json.loads(file.read_text(encoding="utf-8"))
            self._signing = [jwk.JWK(**key) for key in stored["signing"]]
            self._encryption = jwk.JWK(**stored["encryption"])
            self._secret = jwk.JWK(**stored["secret"])
        else:
            self._signing = [_new_rsa_key("sig", _PUBLIC_ALGORITHM)]
            self._encryption = _new_rsa_key("enc", "RSA-OAEP")
            self._secret = _with_key_id(jwk.JWK.generate(kty="oct", size=512))
            self._save()

    @classmethod
    def in_folder(cls, folder: Path | None) -> Self:
        """Open (or make) the keys kept in a folder; None keeps them in memory."""
        return cls(None if folder is None else folder / "keys.json")

    @property
    def signing_key_id(self) -> str:
        """Give the `kid` of the key that signs now."""
        return str(self._signing[-1]["kid"])

    def public_keys(self) -> dict[str, list[dict[str, Any]]]:
        """Give the JWK set others verify with, newest signing key first.

        As in Keycloak it also lists a key for encryption (`use` "enc"), which signs nothing.
        """
        keys = [*reversed(self._signing), self._encryption]
        return {"keys": [key.export_public(as_dict=True) for key in keys]}

    def public_key_base64(self) -> str:
        """Give the public half of the key that signs now: DER (SubjectPublicKeyInfo) in base64, one line."""
        public = self._signing[-1].get_op_key("verify")
        der: bytes = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(der).decode("ascii")

    def rotate(self, *, drop_old: bool = False) -> str:
        """Sign with a new key from now on and give its `kid`; `drop_old` forgets all earlier keys."""
        new = _new_rsa_key("sig", _PUBLIC_ALGORITHM)
        with self._lock:
            self._signing = [new] if drop_old else [*self._signing, new]
            self._save()
        return str(new["kid"])

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Give the claims as a compact RS256 token that others verify by the public keys."""
        return _sign(claims, self._signing[-1], _PUBLIC_ALGORITHM)

    def verify(self, token: str) -> dict[str, Any]:
        """Give the claims of a token of `sign`, expired or not; raise InvalidTokenError if it is not one."""
        return _verify(token, self._signing, _PUBLIC_ALGORITHM)

    def sign_private(self, claims: Mapping[str, Any]) -> str:
        """Give the claims as a compact HS512 token that only this realm can verify."""
        return _sign(claims, self._secret, _PRIVATE_ALGORITHM)

    def verify_private(self, token: str) -> dict[str, Any]:
        """Give the claims of a token of `sign_private`, expired or not; raise InvalidTokenError otherwise."""
        return _verify(token, [self._secret], _PRIVATE_ALGORITHM)

    def _save(self) -> None:
        if self._file is None:
            return
        keys = {
            "signing": [key.export(as_dict=True) for key in self._signing],
            "encryption": self._encryption.export(as_dict=True),
            "secret": self._secret.export(as_dict=True),
        }
        replace_private_file(self._file, json.dumps(keys))


def _new_rsa_key(use: str, algorithm: str) -> jwk.JWK:
    return _with_key_id(jwk.JWK.generate(kty="RSA", size=2048, use=use, alg=algorithm))


def _with_key_id(key: jwk.JWK) -> jwk.JWK:
    key["kid"] = key.thumbprint()
    return key


def _sign(claims: Mapping[str, Any], key: jwk.JWK, algorithm: str) -> str:
    header = {"alg": algorithm, "typ": "JWT", "kid": key["kid"]}
    token = jws.JWS(_compact(claims))
    token.add_signature(key, protected=_compact(header))
    return str(token.serialize(compact=True))


def _compact(content: Mapping[str, Any]) -> str:
    return json.dumps(content, separators=(",", ":"))


def _verify(token: str, keys: list[jwk.JWK], algorithm: str) -> dict[str, Any]:
    if token.count(".") != 2:
        raise InvalidTokenError("not a signed token in compact form")
    parsed = jws.JWS()
    parsed.allowed_algs = [algorithm]
    try:
        parsed.deserialize(token)
        key_id = parsed.jose_header.get("kid")
        key = next((key for key in keys if key["kid"] == key_id), None)
        if key is None:
            raise InvalidTokenError(f"no key {key_id!r} in this realm")
        parsed.verify(key)
        claims = json.loads(parsed.payload)
    except (JWException, ValueError) as error:
        raise InvalidTokenError("not a token of this realm") from error
    if not isinstance(claims, dict):
        raise InvalidTokenError("a token without claims")
    return claims
