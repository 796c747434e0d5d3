"""Credentials of the embedded stack."""

import stat
from pathlib import Path

from archiver.config.settings import _EMPTY_OR_KNOWN
from archiver.local.credentials import FILE, ensure_credentials


def test_credentials_are_made_once_for_a_folder(tmp_path: Path) -> None:
    first = ensure_credentials(tmp_path)

    assert ensure_credentials(tmp_path) == first


def test_two_folders_share_no_secret(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    one, two = (ensure_credentials(folder).model_dump() for folder in folders)

    secrets = {name for name in one if name.endswith(("password", "secret", "key", "auth"))}
    assert len(secrets) >= 9
    assert not {one[name] for name in secrets} & {two[name] for name in secrets}
    assert not set(one.values()) & _EMPTY_OR_KNOWN


def test_only_the_owner_may_read_them(tmp_path: Path) -> None:
    ensure_credentials(tmp_path)

    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


def test_a_credential_that_an_older_file_lacks_is_added(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"s3_user": "kept", "gone": "1"}')

    credentials = ensure_credentials(tmp_path)

    assert credentials.s3_user == "kept"
    assert ensure_credentials(tmp_path).upload_edge_key == credentials.upload_edge_key
