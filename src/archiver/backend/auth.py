"""Credentials of a request, as FastAPI dependencies."""

import hmac
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBasic, HTTPBasicCredentials, HTTPBearer

from archiver.backend.access import Principal
from archiver.backend.context import Context, ContextDep
from archiver.backend.errors import ForbiddenError, NotAuthenticatedError

_basic = HTTPBasic(scheme_name="BasicAuth", auto_error=False)
_bearer = HTTPBearer(scheme_name="BearerAuth", bearerFormat="JWT", auto_error=False)
_scicat = HTTPBearer(scheme_name="SciCatAuth", bearerFormat="JWT", auto_error=False)

BASIC_CHALLENGE = 'Basic realm="archiver"'
BEARER_CHALLENGE = 'Bearer realm="archiver"'

Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


async def _principal(context: Context, token: str) -> Principal:
    return await context.lanes.short.run(lambda: context.access.principal(context.identity.verify(token)))


async def bearer_principal(context: ContextDep, credentials: Bearer) -> Principal:
    """Who sends this Keycloak token.

    Raises:
        NotAuthenticatedError: there is none, or it is not good.
        IdentityProviderError: its key cannot be fetched.
    """
    if credentials is None:
        raise NotAuthenticatedError("Send a bearer token; /token gives one.", BEARER_CHALLENGE)
    return await _principal(context, credentials.credentials)


async def scicat_token(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_scicat)]) -> str:
    """The token of a user of SciCat, or of Keycloak, unproven.

    Raises:
        NotAuthenticatedError: there is none.
    """
    if credentials is None:
        raise NotAuthenticatedError("Send your SciCat token as bearer token.", BEARER_CHALLENGE)
    return credentials.credentials


async def may_create_jobs(
    context: ContextDep, basic: Annotated[HTTPBasicCredentials | None, Depends(_basic)], bearer: Bearer
) -> None:
    """Returns for the name and password of the job endpoint, and for a bearer with its role.

    Raises:
        NotAuthenticatedError: neither.
        ForbiddenError: a bearer without the role.
    """
    if basic is not None:
        if not _is_job_account(context, basic):
            raise NotAuthenticatedError("Incorrect username or password.", BASIC_CHALLENGE)
    elif bearer is not None:
        principal = await _principal(context, bearer.credentials)
        role = context.config.identity.job_endpoint_role
        if not principal.is_operator and role not in principal.roles:
            raise ForbiddenError(f"{principal.holder} lacks the role {role!r}. Give it to the account in Keycloak.")
    else:
        raise NotAuthenticatedError(
            "Send JOB_ENDPOINT_USERNAME and JOB_ENDPOINT_PASSWORD, or a bearer token with the role "
            f"{context.config.identity.job_endpoint_role!r}.",
            BASIC_CHALLENGE,
            BEARER_CHALLENGE,
        )


def _is_job_account(context: Context, given: HTTPBasicCredentials) -> bool:
    settings = context.config.api
    name, password = settings.job_endpoint_username, settings.job_endpoint_password
    right_name = hmac.compare_digest(given.username.encode(), name.get_secret_value().encode())
    right_password = hmac.compare_digest(given.password.encode(), password.get_secret_value().encode())
    # An account without a password is no account.
    return bool(name.get_secret_value() and password.get_secret_value()) and right_name and right_password


CallerDep = Annotated[Principal, Depends(bearer_principal)]
SciCatTokenDep = Annotated[str, Depends(scicat_token)]
