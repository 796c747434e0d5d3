"""Where the stack answers: everything through its proxy, over TLS."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Addresses:
    """URLs of a development stack, as its users and operators know them."""

    host: str

    @property
    def api(self) -> str:
        """Root of the archiver's API."""
        return f"https://{self.host}/archiver/api/v1"

    @property
    def catalogue(self) -> str:
        """SciCat, without `/api`."""
        return f"https://{self.host}/scicat"

    @property
    def token(self) -> str:
        """Token endpoint of Keycloak."""
        return f"https://{self.host}/keycloak/realms/facility/protocol/openid-connect/token"

    @property
    def prefect_api(self) -> str:
        """Prefect's API, for who may see the dashboards."""
        return f"https://{self.host}/prefect-ui/api"
