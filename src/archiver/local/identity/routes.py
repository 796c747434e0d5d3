"""The realm's URLs: discovery, keys, tokens, user info and logout."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from archiver.local.identity.config import IdentityConfig
from archiver.local.identity.errors import OAuthError
from archiver.local.identity.forms import BasicCredentials, BearerToken, FormFields
from archiver.local.identity.grants import Realm
from archiver.local.identity.keys import KeyRing
from archiver.local.identity.scopes import KNOWN_SCOPES


def realm_routes(config: IdentityConfig, realm: Realm, keys: KeyRing, issuer_url: str | None) -> APIRouter:
    """Give the routes of the realm.

    With `issuer_url` every URL it names begins with it; otherwise they follow the caller's Host header.
    """

    def issuer_of(realm_name: str, request: Request) -> str:
        if realm_name != config.realm:
            raise OAuthError(404, "Realm does not exist")
        base = issuer_url or str(request.base_url)
        return f"{base.rstrip('/')}/realms/{config.realm}"

    router = APIRouter(prefix="/realms/{realm_name}", tags=["realm"])
    Issuer = Annotated[str, Depends(issuer_of)]  # noqa: N806

    @router.get("")
    def describe_realm(issuer: Issuer) -> dict[str, Any]:
        """Name the realm and the public half of the key that signs now."""
        return {
            "realm": config.realm,
            "public_key": keys.public_key_base64(),
            "token-service": f"{issuer}/protocol/openid-connect",
            "account-service": f"{issuer}/account",
            "tokens-not-before": 0,
        }

    @router.get("/.well-known/openid-configuration")
    def discover(issuer: Issuer) -> dict[str, Any]:
        """List the endpoints and what they can do."""
        return _discovery(issuer)

    @router.get("/protocol/openid-connect/certs")
    def public_keys(issuer: Issuer) -> dict[str, Any]:
        """Give the JWK set tokens are verified with."""
        return keys.public_keys()

    @router.post("/protocol/openid-connect/token")
    def token(issuer: Issuer, form: FormFields, credentials: BasicCredentials, response: Response) -> dict[str, Any]:
        """Grant tokens for a password, a code, a refresh token or a client's own credentials."""
        response.headers["Cache-Control"] = "no-store"
        response.headers["Pragma"] = "no-cache"
        return realm.token(form, credentials, issuer)

    @router.api_route("/protocol/openid-connect/userinfo", methods=["GET", "POST"])
    def user_info(issuer: Issuer, bearer: BearerToken) -> dict[str, Any]:
        """Tell who the bearer of an access token is."""
        return realm.user_info(bearer, issuer)

    @router.post("/protocol/openid-connect/logout", status_code=204)
    def logout(issuer: Issuer, form: FormFields, credentials: BasicCredentials) -> None:
        """End the session of a refresh token."""
        realm.logout(form, credentials, issuer)

    return router


def _discovery(issuer: str) -> dict[str, Any]:
    endpoints = f"{issuer}/protocol/openid-connect"
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{endpoints}/auth",
        "token_endpoint": f"{endpoints}/token",
        "userinfo_endpoint": f"{endpoints}/userinfo",
        "end_session_endpoint": f"{endpoints}/logout",
        "jwks_uri": f"{endpoints}/certs",
        "grant_types_supported": ["authorization_code", "refresh_token", "password", "client_credentials"],
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "scopes_supported": sorted(KNOWN_SCOPES),
    }
