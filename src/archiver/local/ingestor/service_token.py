"""The token of the archiver's service account: got for a SciCat token once, refreshed from then on."""

import threading

import httpx

from archiver.local.ingestor.http import TIMEOUT, send, with_patience


class ServiceToken:
    """A session of the service account. Thread-safe.

    The facility's program reckons every token as expired, and so refreshes before each call: so does this one.
    """

    def __init__(self, api_url: str, token_url: str, client_id: str, user_token: str) -> None:
        """Ask `/token` of the API for a session in the name of the user behind a SciCat token.

        Args:
            api_url: root of the archiver's API.
            token_url: token endpoint of the identity provider.
            client_id: public client that may refresh.
            user_token: SciCat token.

        Raises:
            ServerRefusedError: the user may not upload.
            ServerUnreachableError: no answer.
        """
        self._token_url = token_url
        self._client_id = client_id
        self._lock = threading.Lock()
        headers = {"Authorization": f"Bearer {user_token}"}
        with httpx.Client(timeout=TIMEOUT) as http:
            answer = with_patience(
                lambda: send(
                    http, "POST", f"{api_url}/token", what="asking for a token", expect=(201,), headers=headers
                )
            ).json()
        self.lifetime_s = int(answer["expires_in"])
        """Of the first access token, seconds; the facility's program cannot do without it."""
        self._refresh_token = str(answer["refresh_token"])
        self._http = httpx.Client(timeout=TIMEOUT)

    def access_token(self) -> str:
        """A new access token.

        Raises:
            ServerRefusedError: the session has ended.
            ServerUnreachableError: no answer.
        """
        with self._lock:
            answer = with_patience(self._refresh).json()
            self._refresh_token = str(answer.get("refresh_token") or self._refresh_token)
        return str(answer["access_token"])

    def _refresh(self) -> httpx.Response:
        form = {"grant_type": "refresh_token", "refresh_token": self._refresh_token, "client_id": self._client_id}
        return send(self._http, "POST", self._token_url, what="refreshing the token", expect=(200,), data=form)

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()
