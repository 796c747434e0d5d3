"""Modes and times as catalogues spell them."""

import stat
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.workflow.datablocks.entries import EntryKind, mode_text, parse_mode, parse_time

FILE, FOLDER, LINK = EntryKind.FILE, EntryKind.FOLDER, EntryKind.LINK


@pytest.mark.parametrize(
    ("text", "kind", "mode"),
    [
        # Go
        ("-rw-r--r--", FILE, 0o644),
        ("-rwxr-x---", FILE, 0o750),
        ("-r--------", FILE, 0o400),
        ("----------", FILE, 0),
        ("drwxr-xr-x", FOLDER, 0o755),
        ("Lrwxrwxrwx", LINK, 0o777),
        ("dtrwxrwxrwx", FOLDER, 0o777),
        ("dgrwxrwsr-x", FOLDER, 0o775),
        ("ugrwxr-xr-x", FILE, 0o755),
        ("Dcrw-rw----", FILE, 0o660),
        # ls
        ("lrwxrwxrwx", LINK, 0o777),
        ("drwxrwsr-x", FOLDER, 0o775),
        ("drwxr-Sr-x", FOLDER, 0o745),
        ("drwxrwxrwt", FOLDER, 0o777),
        ("-rwsr-xr-x", FILE, 0o755),
        ("-rw-r--r--+", FILE, 0o644),
        ("drwxr-xr-x.", FOLDER, 0o755),
        (" -rw-r--r-- ", FILE, 0o644),
        ("rw-r--r--", FILE, 0o644),
        # octal
        ("644", FILE, 0o644),
        ("0644", FILE, 0o644),
        ("0o755", FILE, 0o755),
        ("100644", FILE, 0o644),
        ("0o100640", FILE, 0o640),
        ("040755", FOLDER, 0o755),
        ("120777", LINK, 0o777),
        ("444", FILE, 0o444),
        # decimal
        ("420", FILE, 0o644),
        ("436", FILE, 0o664),
        ("438", FILE, 0o666),
        ("493", FILE, 0o755),
        ("384", FILE, 0o600),
        ("416", FILE, 0o640),
        ("33188", FILE, 0o644),
        ("33261", FILE, 0o755),
        ("33279", FILE, 0o777),
        ("16877", FOLDER, 0o755),
        ("16893", FOLDER, 0o775),
        ("41471", LINK, 0o777),
        # nothing usable
        (None, FILE, None),
        ("", FILE, None),
        ("rw", FILE, None),
        ("wrwrwrwrwr", FILE, None),
        ("-4", FILE, None),
        ("٤٢٠", FILE, None),
        ("²", FILE, None),
        ("u=rw,go=r", FILE, None),
        ("9" * 5000, FILE, None),
    ],
)
def test_the_table_of_modes(text: str | None, kind: EntryKind, mode: int | None) -> None:
    assert parse_mode(text) == (kind, mode)


@given(st.integers(0, 0o777))
def test_every_mode_comes_back_from_its_letters(mode: int) -> None:
    assert parse_mode(mode_text(mode)) == (FILE, mode)
    assert parse_mode(stat.filemode(stat.S_IFDIR | mode)) == (FOLDER, mode)
    assert parse_mode(stat.filemode(stat.S_IFLNK | mode)) == (LINK, mode)


@given(st.integers(0, 0o7777))
def test_special_bits_as_ls_shows_them_do_not_hide_a_folder(mode: int) -> None:
    assert parse_mode(stat.filemode(stat.S_IFDIR | mode)) == (FOLDER, mode & 0o777)


@given(st.text() | st.text("rwx-dlLsStT0123456789o", max_size=14))
def test_no_text_is_an_error_or_gives_more_than_permission_bits(text: str) -> None:
    _, mode = parse_mode(text)

    assert mode is None or 0 <= mode <= 0o777


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00", 0),
        ("2024-05-06T07:08:09.000Z", 1714979289),
        ("2024-05-06T07:08:09.999999999Z", 1714979289),
        ("2024-05-06T09:08:09+02:00", 1714979289),
        ("2024-05-05T21:38:09-09:30", 1714979289),
        ("2024-05-06 07:08:09", 1714979289),
        ("2024-05-06", 1714953600),
        ("1969-12-31T23:59:59.500Z", -1),
        ("9999-12-30T23:59:59.999999Z", 253402214399),
    ],
)
def test_times_are_whole_seconds_in_utc(text: str, seconds: int) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "yesterday",
        "1714979289",
        "2024-13-01T00:00:00Z",
        "2024-05-06T25:00:00Z",
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "\ud800",
    ],
)
def test_what_is_no_time_of_a_file_gives_none(text: str | None) -> None:
    assert parse_time(text) is None


@given(st.text() | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9:.]{2,15}(Z|[+-][0-9:]{4,6})?)?", fullmatch=True))
def test_no_text_for_a_time_is_an_error_or_gives_one_that_cannot_be_written(text: str) -> None:
    seconds = parse_time(text)

    if seconds is not None:
        assert 1900 <= datetime.fromtimestamp(seconds, UTC).year <= 9999


@given(
    st.integers(-2_208_900_000, 253_402_100_000),
    st.integers(0, 999_999),
    st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
def test_a_time_is_the_same_in_every_zone(seconds: int, microseconds: int, zone: timezone) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds, microseconds=microseconds)

    assert parse_time(moment.isoformat()) == seconds
    assert parse_time(moment.astimezone(zone).isoformat()) == seconds
