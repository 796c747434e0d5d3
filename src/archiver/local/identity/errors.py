"""The errors of the simulated identity provider, in Keycloak's wording."""

from collections.abc import Mapping


class OAuthError(Exception):
    """A request Keycloak refuses: HTTP status, OAuth error code and the description it gives.

    `headers` go out with the answer (WWW-Authenticate of a bearer challenge).
    """

    def __init__(
        self,
        status: int,
        error: str,
        description: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {error}: {description}")
        self.status = status
        self.error = error
        self.description = description
        self.headers = dict(headers or {})

    def body(self) -> dict[str, str]:
        """Give the JSON body: `error` and, where there is one, `error_description`."""
        if self.description is None:
            return {"error": self.error}
        return {"error": self.error, "error_description": self.description}


class InvalidTokenError(Exception):
    """A token that is malformed, not signed by this realm, or without the claims of its kind."""


def invalid_grant(description: str, status: int = 400) -> OAuthError:
    """Give the error for credentials or a refresh token that are not (or no longer) good."""
    return OAuthError(status, "invalid_grant", description)


def invalid_request(description: str) -> OAuthError:
    """Give the error for a request that misses something or says it twice."""
    return OAuthError(400, "invalid_request", description)
