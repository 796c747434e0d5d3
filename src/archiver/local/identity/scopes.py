"""OAuth scopes: what a client may ask for and what it is given."""

from archiver.local.identity.errors import OAuthError

OPENID = "openid"
EMAIL = "email"
PROFILE = "profile"
OFFLINE_ACCESS = "offline_access"

# Every client has these without asking; Keycloak knows the silent ones too but never lists them in a token.
_DEFAULT = (EMAIL, PROFILE)
_SILENT = frozenset({"acr", "basic", "roles", "web-origins"})
KNOWN_SCOPES = frozenset({OPENID, *_DEFAULT, OFFLINE_ACCESS}) | _SILENT


def granted_scope(requested: str) -> str:
    """Give the scope of a new session: what was asked for and the default scopes.

    Raises OAuthError invalid_scope for a scope the realm does not know.
    """
    names = requested.split()
    if not KNOWN_SCOPES.issuperset(names):
        raise OAuthError(400, "invalid_scope", f"Invalid scopes: {requested}")
    ordered = (OPENID, *_DEFAULT, OFFLINE_ACCESS)
    return " ".join(name for name in ordered if name in names or name in _DEFAULT)


def narrowed_scope(granted: str, requested: str) -> str:
    """Give the part of a granted scope that a refresh asks for (all of it if it asks for none)."""
    wanted = requested.split()
    return " ".join(name for name in granted.split() if not wanted or name in wanted)
