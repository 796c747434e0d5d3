"""The error replies of the real backend: six shapes, each with a constructor of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any


class ConfigError(ValueError):
    """The simulator's configuration cannot be used; the message names the entry to correct."""


class ApiError(Exception):
    """A request ends with this status and this JSON body (any JSON value)."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = body


def refused(status: int, message: str) -> ApiError:
    """An exception with a text: ``{"message", "error", "statusCode"}``."""
    return ApiError(status, {"message": message, "error": HTTPStatus(status).phrase, "statusCode": int(status)})


def refused_bare(status: int) -> ApiError:
    """An exception without a text: ``{"message": <reason phrase>, "statusCode"}``."""
    return ApiError(status, {"message": HTTPStatus(status).phrase, "statusCode": int(status)})


def forbidden_endpoint() -> ApiError:
    """The caller may not use the endpoint at all, whatever the document."""
    return refused(403, "Forbidden resource")


def invalid(messages: Sequence[str]) -> ApiError:
    """The body or filter failed validation: ``message`` is a list of texts."""
    return ApiError(400, {"message": list(messages), "error": "Bad Request", "statusCode": 400})


def hand_made(status: int, message: str, error: Any = None) -> ApiError:
    """The shape of jobs and of v3 dataset validation: ``{"status", "message"}``, no ``statusCode``.

    ``error``, if given, is added as a JSON string.
    """
    body: dict[str, Any] = {"status": int(status), "message": message}
    if error is not None:
        body["error"] = json.dumps(error, separators=(",", ":"))
    return ApiError(status, body)


def unhandled() -> ApiError:
    """What an exception nobody caught looks like: status 500 and a bare JSON string."""
    return ApiError(500, "Internal server error")


def rewrapped(inner: ApiError) -> ApiError:
    """A refusal that the backend catches and throws again as a 500 with the first reply inside."""
    message = inner.body["message"] if isinstance(inner.body, dict) else str(inner.body)
    name = f"{HTTPStatus(inner.status).phrase.replace(' ', '')}Exception"
    return ApiError(
        500,
        {
            "response": inner.body,
            "status": inner.status,
            "options": {},
            "message": message,
            "name": name,
        },
    )
