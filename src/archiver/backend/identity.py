"""Keycloak: which tokens are good, and the token of the service account that `/token` hands out."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import structlog
from jwcrypto.common import JWException, base64url_decode  # type: ignore[import-untyped]
from jwcrypto.jwk import JWK  # type: ignore[import-untyped]
from keycloak import KeycloakOpenID
from keycloak.exceptions import KeycloakConnectionError, KeycloakError
from requests.exceptions import RequestException

from archiver.backend.errors import NotAuthenticatedError
from archiver.config.settings import CLOCK_LEEWAY_S, IdentitySettings
from archiver.workflow.errors import PermanentError, TransientError

log = structlog.get_logger(__name__)

KEYS_FRESH_S = 15 * 60.0
"""How long fetched keys are used before they are asked for again; old ones serve while the provider is away."""
KEYS_REFETCH_S = 10.0
"""An unknown key id makes us ask again, but not more often than this: anyone can make key ids up."""
_CHALLENGE = 'Bearer error="invalid_token"'


class IdentityProviderError(TransientError):
    """Keycloak did not answer as it should."""

    code = "identity-provider"


class ServiceAccountRefusedError(PermanentError):
    """Keycloak does not give our service account a usable token."""

    code = "service-account-refused"


@dataclass(frozen=True)
class Claims:
    """What a good access token says."""

    subject: str
    username: str
    sid: str | None
    groups: frozenset[str]
    roles: frozenset[str]
    expires_at: int

    @classmethod
    def read(cls, claims: Mapping[str, Any], client_id: str) -> Self:
        """The claims of a verified token; groups come without a leading slash."""
        realm = _strings(_mapping(claims.get("realm_access")).get("roles"))
        client = _strings(_mapping(_mapping(claims.get("resource_access")).get(client_id)).get("roles"))
        subject = str(claims.get("sub") or "")
        sid = claims.get("sid")
        return cls(
            subject=subject,
            username=str(claims.get("preferred_username") or subject),
            sid=sid if isinstance(sid, str) and sid else None,
            groups=frozenset(group.removeprefix("/") for group in _strings(claims.get("groups"))),
            roles=frozenset([*realm, *client]),
            expires_at=int(claims["exp"]),
        )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _strings(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def key_id(token: str) -> str | None:
    """`kid` of a JWT; None where it names none, as tokens of SciCat do.

    Raises:
        NotAuthenticatedError: this is no JWT.
    """
    try:
        header = json.loads(base64url_decode(token.split(".")[0]))
    except (ValueError, TypeError) as error:
        raise _not_a_token() from error
    if not isinstance(header, dict) or token.count(".") != 2:
        raise _not_a_token()
    kid = header.get("kid")
    return kid if isinstance(kid, str) else None


def _not_a_token() -> NotAuthenticatedError:
    return NotAuthenticatedError("The bearer token is no JSON Web Token. Ask /token for one.", _CHALLENGE)


class IdentityProvider:
    """Client of one Keycloak realm. Synchronous, thread-safe."""

    def __init__(self, settings: IdentitySettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._keycloak = KeycloakOpenID(
            # Without the slash, the client would drop a path in it (https://…/keycloak).
            server_url=f"{settings.connection_url}/",
            realm_name=settings.idp_realm,
            client_id=settings.idp_client_id,
            client_secret_key=settings.idp_client_secret.get_secret_value() or None,
            verify=str(settings.idp_ca_file) if settings.idp_ca_file else True,
            timeout=settings.idp_timeout_s,  # type: ignore[arg-type]  # handed to requests, which takes fractions
            max_retries=0,
        )
        self._lock = threading.Lock()
        self._keys: dict[str, JWK] = {}
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")

    @property
    def endpoint(self) -> str:
        """Where the realm's keys come from."""
        return f"{self._settings.connection_url}/realms/{self._settings.idp_realm}/protocol/openid-connect/certs"

    def check(self) -> None:
        """Fetches the realm's keys.

        Raises:
            IdentityProviderError: that failed.
        """
        keys = self._fetch()
        with self._lock:
            self._keys, self._fetched_at = keys, self._clock()

    def verify(self, token: str) -> Claims:
        """What an access token of the realm says.

        Raises:
            NotAuthenticatedError: it is not good: signature, issuer, audience, lifetime, kind.
            IdentityProviderError: its key is not known and cannot be fetched.
        """
        kid = key_id(token)
        key = None if kid is None else self._key(kid)
        if key is None:
            raise NotAuthenticatedError(
                f"The token is not signed with a key of the realm {self._settings.idp_realm}. Ask /token for one.",
                _CHALLENGE,
            )
        try:
            claims = self._keycloak.decode_token(
                token,
                key=key,
                algs=[self._settings.idp_algorithm],
                check_claims={"iss": self._settings.issuer, "aud": self._settings.idp_audience, "exp": None},
                expected_type="JWS",
                leeway=CLOCK_LEEWAY_S,
            )
            if claims.get("typ", "Bearer") != "Bearer":
                raise NotAuthenticatedError("This is not an access token. Send the access token.", _CHALLENGE)
            # The library looks at `nbf` only when it must be there.
            if claims.get("nbf", 0) > time.time() + CLOCK_LEEWAY_S:
                raise NotAuthenticatedError("The token is not good yet. Check this machine's clock.", _CHALLENGE)
            return Claims.read(claims, self._settings.idp_client_id)
        except (JWException, ValueError, TypeError, AttributeError) as error:
            raise NotAuthenticatedError(
                f"The token is not good: {_first_line(error)}. Refresh it, or ask /token for a new one.", _CHALLENGE
            ) from error

    def service_token(self) -> tuple[dict[str, Any], Claims]:
        """A new session of the service account: Keycloak's answer, and what its access token says.

        Raises:
            IdentityProviderError: Keycloak did not answer.
            ServiceAccountRefusedError: it refused, or gave a token that we ourselves would refuse.
        """
        username = self._settings.idp_username
        try:
            answer = self._keycloak.token(
                username, self._settings.idp_password.get_secret_value(), scope="profile email"
            )
        except (KeycloakConnectionError, RequestException) as error:
            raise self._unreachable(error) from error
        except KeycloakError as error:
            if error.response_code is None or error.response_code >= 500:
                raise self._unreachable(error) from error
            raise ServiceAccountRefusedError(
                f"Keycloak refused the service account {username}: {error}. "
                "Check IDP_USERNAME, IDP_PASSWORD, IDP_CLIENT_ID and IDP_CLIENT_SECRET."
            ) from error
        try:
            claims = self.verify(str(answer.get("access_token")))
        except NotAuthenticatedError as error:
            raise ServiceAccountRefusedError(
                f"Keycloak gave the service account {username} a token that does not fit the settings: {error} "
                f"IDP_URL must make the issuer ({self._settings.issuer}), IDP_AUDIENCE the audience."
            ) from error
        return answer, claims

    def claims_of_code(self, code: str, redirect_uri: str, verifier: str) -> Claims:
        """What the access token says that a browser's login ended with.

        Raises:
            NotAuthenticatedError: Keycloak does not take the code, or gave a token that is not good.
            IdentityProviderError: Keycloak did not answer.
        """
        try:
            answer = self._keycloak.token(
                grant_type="authorization_code", code=code, redirect_uri=redirect_uri, code_verifier=verifier
            )
        except (KeycloakConnectionError, RequestException) as error:
            raise self._unreachable(error) from error
        except KeycloakError as error:
            if error.response_code is None or error.response_code >= 500:
                raise self._unreachable(error) from error
            raise NotAuthenticatedError(f"Keycloak refused the login: {_first_line(error)}. Log in again.") from error
        return self.verify(str(answer.get("access_token")))

    def _key(self, kid: str) -> JWK | None:
        with self._lock:
            now = self._clock()
            known = self._keys.get(kid)
            age = now - self._fetched_at
            due = age > KEYS_FRESH_S if known is not None else True
            if not due or now - self._tried_at < KEYS_REFETCH_S:
                if known is None and not self._keys:
                    raise IdentityProviderError(f"The keys of {self.endpoint} could not be fetched. Try again later.")
                return known
            self._tried_at = now
            try:
                self._keys = self._fetch()
            except IdentityProviderError as error:
                if known is None:
                    raise
                log.warning("identity_keys_not_renewed", error=str(error), age_s=round(age))
                return known
            self._fetched_at = self._clock()
            return self._keys.get(kid)

    def _fetch(self) -> dict[str, JWK]:
        try:
            found = self._keycloak.certs()["keys"]
            return {key["kid"]: JWK(**key) for key in found if key.get("use", "sig") == "sig"}
        except (KeycloakError, RequestException) as error:
            raise self._unreachable(error) from error
        except (JWException, KeyError, TypeError, ValueError) as error:
            raise IdentityProviderError(
                f"{self.endpoint} answered what are no keys: {error!r}. Check IDP_URL and IDP_REALM."
            ) from error

    def _unreachable(self, error: Exception) -> IdentityProviderError:
        return IdentityProviderError(
            f"Keycloak at {self._settings.connection_url} does not answer: {_first_line(error)}. "
            "Check that it runs and that IDP_URL or IDP_INTERNAL_URL names it."
        )


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]
