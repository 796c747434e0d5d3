"""Errors as the OpenAPI document names them."""

from typing import Any

from archiver.backend.models import HTTPValidationError, InternalError

Responses = dict[int | str, dict[str, Any]]

ERRORS: Responses = {
    401: {"model": InternalError, "description": "Credentials are missing or not good"},
    422: {"model": HTTPValidationError, "description": "The request is not valid"},
    500: {"model": InternalError, "description": "The service failed"},
    503: {"model": InternalError, "description": "Something the service needs does not answer; try again"},
}
FORBIDDEN: Responses = {403: {"model": InternalError, "description": "The caller must not do this"}}
NOT_FOUND: Responses = {404: {"model": InternalError, "description": "The data set is not in SciCat"}}
CONFLICT: Responses = {
    409: {"model": InternalError, "description": "The data set is archived, or another upload of it is in the way"}
}
TOO_LARGE: Responses = {413: {"model": InternalError, "description": "Larger than the whole landing zone"}}
