"""Check of the operators' channel."""

from collections.abc import Iterator

from archiver.cli.checks.findings import Finding, Group
from archiver.config.settings import NotificationSettings
from archiver.workflow.notifications import AppriseChannel


def check_channel() -> Iterator[Finding]:
    """The addresses of NOTIFY_URLS: each one that apprise knows. Nothing is sent."""
    group = Group("notify")
    urls = NotificationSettings().notify_urls.get_secret_value().split()
    if not urls:
        told = (
            "NOTIFY_URLS is not set here. If operators are to be told, run the doctor where reconciliation runs, too."
        )
        yield group.skipped("addresses", told)
        return
    yield group.check("addresses", lambda: _known(urls))


def _known(urls: list[str]) -> str:
    AppriseChannel(urls)
    return f"{len(urls)}, each one that apprise knows; nothing was sent"
