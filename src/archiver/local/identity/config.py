"""What the simulated realm is made of: its name, clients, users and lifetimes, read from a JSON file."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Client(_Part):
    """A registered client: public (identified by its id alone) or confidential (with a secret).

    `service_account_roles` switches the client_credentials grant on; None leaves it off. `redirect_uris` are where
    a browser may be sent after a login; one that ends in `*` stands for all that begin with the rest of it.
    """

    client_id: str = Field(min_length=1)
    public: bool = False
    client_secret: SecretStr | None = None
    direct_access_grants: bool = True
    redirect_uris: tuple[str, ...] = ()
    service_account_roles: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _secret_fits_kind(self) -> Self:
        if self.public and (self.client_secret is not None or self.service_account_roles is not None):
            msg = f"client {self.client_id!r} is public: it has neither client_secret nor service_account_roles"
            raise ValueError(msg)
        if not self.public and self.client_secret is None:
            msg = f"client {self.client_id!r} is confidential: give it a client_secret, or make it public"
            raise ValueError(msg)
        return self


class User(_Part):
    """A user of the realm.

    Without e-mail, first and last name the account is "not fully set up" and gets no token, as in Keycloak.
    """

    username: str = Field(min_length=1)
    password: SecretStr
    email: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    groups: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()

    @property
    def fully_set_up(self) -> bool:
        """Tell whether the account has everything a password grant asks for."""
        return bool(self.email and self.first_name and self.last_name)


class IdentityConfig(_Part):
    """The whole realm. Lifetimes are whole seconds; the defaults are those of a fresh Keycloak realm."""

    realm: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    clients: tuple[Client, ...]
    users: tuple[User, ...] = ()
    access_token_lifetime_seconds: int = Field(default=300, gt=0)
    refresh_token_lifetime_seconds: int = Field(default=1800, gt=0)
    session_lifetime_seconds: int = Field(default=36_000, gt=0)
    offline_session_lifetime_seconds: int = Field(default=2_592_000, gt=0)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        client_ids = [client.client_id for client in self.clients]
        logins = [user.username.lower() for user in self.users]
        logins += [user.email.lower() for user in self.users if user.email]
        for name in (*client_ids, *logins):
            if client_ids.count(name) > 1 or logins.count(name) > 1:
                msg = f"{name!r} is configured twice: client ids, user names and e-mail addresses are unique"
                raise ValueError(msg)
        return self

    def client(self, client_id: str) -> Client | None:
        """Give the client of this id, or None."""
        return next((client for client in self.clients if client.client_id == client_id), None)

    def user(self, login: str) -> User | None:
        """Give the user who logs in by this user name or e-mail address (in any case), or None."""
        wanted = login.lower()
        for user in self.users:
            if wanted == user.username.lower() or (user.email and wanted == user.email.lower()):
                return user
        return None

    def with_secrets(
        self, *, passwords: Mapping[str, str] | None = None, client_secrets: Mapping[str, str] | None = None
    ) -> Self:
        """Give a copy with other passwords (by user name) and client secrets (by client id).

        Raises KeyError for a user or client the realm does not have.
        """
        passwords, client_secrets = dict(passwords or {}), dict(client_secrets or {})
        users = tuple(
            user.model_copy(update={"password": SecretStr(passwords.pop(user.username))})
            if user.username in passwords
            else user
            for user in self.users
        )
        clients = tuple(
            client.model_copy(update={"client_secret": SecretStr(client_secrets.pop(client.client_id))})
            if client.client_id in client_secrets and not client.public
            else client
            for client in self.clients
        )
        if unknown := [*passwords, *client_secrets]:
            msg = f"no such user or confidential client in realm {self.realm!r}: {', '.join(unknown)}"
            raise KeyError(msg)
        return self.model_copy(update={"users": users, "clients": clients})


def load_config(path: Path) -> IdentityConfig:
    """Read the realm from a JSON file.

    Raises OSError if the file cannot be read, pydantic.ValidationError if it does not describe a realm.
    """
    return IdentityConfig.model_validate_json(path.read_bytes())


def facility_config() -> IdentityConfig:
    """Give the realm `facility` of the embedded stack (`facility.json` beside this module)."""
    return IdentityConfig.model_validate_json(resources.files(__package__).joinpath("facility.json").read_bytes())
