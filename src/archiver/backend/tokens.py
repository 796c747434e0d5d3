"""`/token`: a session of the service account for a user of SciCat, who is remembered behind it."""

import time
from collections.abc import Callable
from typing import Any

import structlog

from archiver.backend.access import Access
from archiver.backend.errors import ForbiddenError, NotAuthenticatedError
from archiver.backend.identity import IdentityProvider, ServiceAccountRefusedError, key_id
from archiver.config.settings import IdentitySettings
from archiver.workflow.catalogue.client import Catalogue
from archiver.workflow.catalogue.models import CatalogueUser
from archiver.workflow.ledger.ledger import Ledger

log = structlog.get_logger(__name__)


class ServiceTokens:
    """Hands out tokens. Synchronous, thread-safe."""

    def __init__(
        self,
        identity: IdentityProvider,
        catalogue: Catalogue,
        ledger: Ledger,
        access: Access,
        settings: IdentitySettings,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._identity = identity
        self._catalogue = catalogue
        self._ledger = ledger
        self._access = access
        self._settings = settings
        self._clock = clock

    def create(self, token: str) -> dict[str, Any]:
        """Keycloak's answer for a new session of the service account, recorded for the user behind `token`.

        Raises:
            NotAuthenticatedError: neither SciCat nor Keycloak knows the token.
            ForbiddenError: its user is in none of the groups that may upload.
            IdentityProviderError, ServiceAccountRefusedError: Keycloak gave no token.
        """
        user = self._user(token)
        allowed = {*self._settings.scicat_ingestor_groups, *self._settings.operator_groups}
        if not allowed & set(user.groups):
            raise ForbiddenError(
                f"{user.username} is in none of the groups that may upload ({', '.join(sorted(allowed)) or 'none'}). "
                "Ask the operators to add the user to one, or to SCICAT_INGESTOR_GROUPS."
            )
        answer, claims = self._identity.service_token()
        if claims.sid is None:
            raise ServiceAccountRefusedError(
                "Keycloak's token carries no session (claim `sid`), so that its user cannot be told apart. "
                "Add the client scope `basic` to the client IDP_CLIENT_ID names."
            )
        self._ledger.record_session(claims.sid, user.username, user.groups)
        log.info("service_token_created", user=user.username, sid=claims.sid)
        left = max(0, claims.expires_at - int(self._clock()))
        # Clients in the field cannot do without the lifetime.
        return {**answer, "expires_in": answer.get("expires_in") or left}

    def _user(self, token: str) -> CatalogueUser:
        if key_id(token) is not None:
            claims = self._identity.verify(token)
            if claims.sid is not None and self._ledger.find_session(claims.sid) is not None:
                # Its groups were read from SciCat once; renewing them by themselves would keep them for ever.
                raise NotAuthenticatedError(
                    "A token handed out here gives no other one. Refresh it, or come with a SciCat token.",
                    'Bearer error="invalid_token"',
                )
            principal = self._access.principal(claims)
            return CatalogueUser(principal.holder, tuple(sorted(principal.groups)))
        user = self._catalogue.user_of_token(token)
        if user is None:
            raise NotAuthenticatedError(
                "Provided token is not a valid SciCat token. Log in to SciCat again.", 'Bearer error="invalid_token"'
            )
        return user
