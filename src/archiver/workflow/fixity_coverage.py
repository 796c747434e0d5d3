"""Whether audits of a given budget read the whole archive within its period. Pure."""

from dataclasses import dataclass

from archiver.config.settings import TERABYTE, FixitySettings

_HOUR = 3600.0
_DAY = 24 * _HOUR


@dataclass(frozen=True, slots=True)
class Coverage:
    """The arithmetic."""

    archive_bytes: int
    """Length of all datablocks, on all shares."""
    rate: float | None
    """Bytes per second that the audit read; None where it read nothing."""
    settings: FixitySettings
    shares: int = 1
    """How many hold it."""

    @property
    def audits(self) -> float:
        """Audits in a period."""
        return self.settings.fixity_period_days * 24 / self.settings.fixity_every_hours

    @property
    def needed(self) -> float:
        """Bytes that each audit must read for the archive to be read once in a period."""
        return self.archive_bytes / self.audits

    @property
    def possible(self) -> float:
        """Bytes that an audit can read: what its budget allows, and where the rate is known, its time."""
        allowed = self.settings.fixity_terabytes * TERABYTE
        return allowed if self.rate is None else min(allowed, self.rate * self.settings.fixity_hours * _HOUR)

    @property
    def suffices(self) -> bool:
        """Whether the archive is read once in a period."""
        return self.possible >= self.needed

    @property
    def message(self) -> str:
        """The arithmetic in words, and what to do where it does not suffice."""
        settings = self.settings
        shares = f" on {self.shares} shares" if self.shares > 1 else ""
        rate = "" if self.rate is None else f", and {settings.fixity_hours:g} h at {_tb(self.rate * _HOUR)} an hour"
        text = (
            f"the archive has {_tb(self.archive_bytes)}{shares}; to read it once in "
            f"{settings.fixity_period_days:g} days, each of {self.audits:,.0f} audits must read {_tb(self.needed)}; "
            f"the budget is {settings.fixity_terabytes:g} TB{rate}"
        )
        if self.suffices:
            return text
        days = self.archive_bytes / self.possible * settings.fixity_every_hours * _HOUR / _DAY
        return (
            f"{text}: at {_tb(self.possible)} an audit it takes {days:,.0f} days. Raise FIXITY_TERABYTES or "
            "FIXITY_HOURS, or FIXITY_PERIOD_DAYS where that is acceptable"
        )


def _tb(count: float) -> str:
    return f"{count / TERABYTE:,.3f} TB"
