"""Who is asking, and which data sets they may touch."""

from dataclasses import dataclass

from archiver.backend.cache import TimedCache
from archiver.backend.errors import ForbiddenError
from archiver.backend.identity import Claims
from archiver.config.settings import IdentitySettings
from archiver.workflow.catalogue.client import Catalogue
from archiver.workflow.catalogue.models import Dataset
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.ledger.records import SessionRecord
from archiver.workflow.names import check_pid

OWNER_KEPT_S = 60.0
SESSION_KEPT_S = 60.0


@dataclass(frozen=True)
class Principal:
    """Who is asking. `holder` is who holds the uploads asked for."""

    holder: str
    groups: frozenset[str]
    is_operator: bool
    roles: frozenset[str] = frozenset()


class Access:
    """Finds out who stands behind a token, and judges. Synchronous, thread-safe."""

    def __init__(self, ledger: Ledger, catalogue: Catalogue, settings: IdentitySettings) -> None:
        self._ledger = ledger
        self._catalogue = catalogue
        self._operators = frozenset(settings.operator_groups)
        self._sessions: TimedCache[str, SessionRecord | None] = TimedCache(SESSION_KEPT_S)
        self._owners: TimedCache[str, str] = TimedCache(OWNER_KEPT_S)

    def principal(self, claims: Claims) -> Principal:
        """The user for whom `/token` made the token's session, else the one the token itself names."""
        session = None if claims.sid is None else self._session(claims.sid)
        if session is not None:
            return self._principal(session.user, frozenset(session.groups), frozenset())
        return self._principal(f"keycloak:{claims.username}", claims.groups, claims.roles)

    def _session(self, sid: str) -> SessionRecord | None:
        return self._sessions.get(sid, lambda: self._ledger.find_session(sid))

    def _principal(self, holder: str, groups: frozenset[str], roles: frozenset[str]) -> Principal:
        return Principal(holder, groups, bool(groups & self._operators), roles)

    def owner_group(self, principal: Principal, pid: str) -> str:
        """Owner group of a data set that `principal` may touch. The group is remembered for a minute.

        Raises:
            UnsafeNameError: the pid can name no folder.
            UnknownDatasetError: SciCat does not know the data set.
            ForbiddenError: it belongs to others.
        """
        check_pid(pid)
        owner = self._owners.get(pid, lambda: self._catalogue.dataset(pid).owner_group)
        self.require_group(principal, owner, f"the data set {pid}")
        return owner

    def dataset(self, principal: Principal, pid: str) -> Dataset:
        """The catalogue's record, as it is now, of a data set that `principal` may touch. Raises the same."""
        dataset = self._catalogue.dataset(check_pid(pid))
        self.require_group(principal, dataset.owner_group, f"the data set {pid}")
        return dataset

    @staticmethod
    def require_group(principal: Principal, group: str, what: str) -> None:
        """Returns when `principal` is in `group` or an operator.

        Raises:
            ForbiddenError: neither.
        """
        if not principal.is_operator and group not in principal.groups:
            raise ForbiddenError(
                f"{principal.holder} is not in the group {group!r}, which owns {what}. "
                "Ask with the token of a member (a new one from /token, if groups have changed)."
            )
