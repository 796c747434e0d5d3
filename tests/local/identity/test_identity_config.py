"""The realm file: what it must say, and what can be changed in it."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from archiver.local.identity.config import IdentityConfig, facility_config, load_config

PUBLIC = {"client_id": "a", "public": True}


def test_a_realm_file_reads_back_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "realm.json"
    file.write_text('{"realm": "r", "clients": [{"client_id": "a", "public": true}]}')
    config = load_config(file)
    assert config.client("a") is not None
    assert config.access_token_lifetime_seconds == 300


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"realm": "r", "clients": [{"client_id": "a"}]}, "confidential"),
        ({"realm": "r", "clients": [PUBLIC | {"client_secret": "x"}]}, "public"),
        ({"realm": "r", "clients": [PUBLIC, PUBLIC]}, "twice"),
        ({"realm": "a/b", "clients": [PUBLIC]}, "realm"),
        ({"realm": "r", "clients": [PUBLIC], "lifetime": 3}, "lifetime"),
        (
            {"realm": "r", "clients": [], "users": [{"username": n, "password": "x"} for n in ("A", "a")]},
            "twice",
        ),
    ],
)
def test_a_realm_that_contradicts_itself_is_refused(content: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        IdentityConfig.model_validate(content)


def test_secrets_can_be_replaced_and_do_not_show() -> None:
    config = facility_config().with_secrets(passwords={"alice": "open sesame"}, client_secrets={"scicat-hook": "other"})
    alice, hook = config.user("alice"), config.client("scicat-hook")
    assert alice is not None
    assert alice.password.get_secret_value() == "open sesame"
    assert hook is not None
    assert hook.client_secret is not None
    assert hook.client_secret.get_secret_value() == "other"
    assert "sesame" not in repr(config)


def test_a_secret_for_nobody_is_refused() -> None:
    with pytest.raises(KeyError, match="nobody"):
        facility_config().with_secrets(passwords={"nobody": "x"})
    with pytest.raises(KeyError, match="archiver-service-api"):
        facility_config().with_secrets(client_secrets={"archiver-service-api": "x"})
