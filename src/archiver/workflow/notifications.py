"""Messages to the operators' channel: what nobody shall have to go and look for, as failures and damage.

Off by default.
"""

from enum import StrEnum
from typing import Protocol

import structlog

from archiver.config.settings import NotificationSettings
from archiver.workflow.errors import PermanentError

log = structlog.get_logger(__name__)


class NotifierMissingError(PermanentError):
    """NOTIFY_URLS is set, and the library that sends is not installed or does not take an address."""

    code = "notifier-missing"


class Weight(StrEnum):
    """How a message is shown; apprise's own words."""

    SUCCESS = "success"
    WARNING = "warning"
    FAILURE = "failure"


class Channel(Protocol):
    """Where messages go. Sending never fails the work the message is about."""

    def send(self, title: str, body: str, weight: Weight) -> bool:
        """Whether everybody got it."""
        ...


class Nobody:
    """The channel of an installation that has none."""

    def send(self, title: str, body: str, weight: Weight) -> bool:
        """True: nobody is who should have it."""
        return True


class AppriseChannel:
    """Sends to all addresses of the settings through the library apprise, seconds at most for each.

    Raises:
        NotifierMissingError: apprise is not installed, or an address is none.
    """

    def __init__(self, urls: list[str]) -> None:
        try:
            from apprise import Apprise
        except ImportError as error:
            raise NotifierMissingError(
                "NOTIFY_URLS is set, but apprise is not installed. Install archiver[notify], or unset it."
            ) from error
        self._apprise = Apprise()
        for number, url in enumerate(urls, 1):
            if not self._apprise.add(url):
                # The address itself may hold a password.
                raise NotifierMissingError(f"Address {number} of NOTIFY_URLS is none that apprise knows. Correct it.")

    def send(self, title: str, body: str, weight: Weight) -> bool:
        """Whether everybody got it; else the log says that somebody did not."""
        sent = bool(self._apprise.notify(title=title, body=body, notify_type=str(weight)))
        if sent:
            log.info("notified", title=title)
        else:
            log.error("notification_failed", title=title, hint="See NOTIFY_URLS; apprise's own log says more.")
        return sent


def open_channel(settings: NotificationSettings) -> Channel:
    """The channel the settings name; nobody's where they name none, or none that works, which the log tells."""
    urls = settings.notify_urls.get_secret_value().split()
    if not urls:
        return Nobody()
    try:
        return AppriseChannel(urls)
    except NotifierMissingError as error:
        log.error("notifications_off", error=str(error))  # noqa: TRY400  # the message says it all
        return Nobody()
