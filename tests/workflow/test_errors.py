"""Errors name what they are about, and survive the way from a child process."""

import inspect
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.workflow import errors
from archiver.workflow.errors import ArchiverError, ServiceError, UserError, name_some

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, ArchiverError)]


@given(st.lists(st.text(st.characters()), max_size=60))
def test_twenty_names_are_shown_and_the_others_counted(names: list[str]) -> None:
    shown = name_some(names)

    assert shown.startswith(", ".join(map(repr, names[:20])))
    assert shown.endswith(f" and {len(names) - 20} more") == (len(names) > 20)
    assert "\n" not in shown


def test_all_names_are_kept_though_twenty_are_shown() -> None:
    names = [f"file {number}" for number in range(400)]

    error = errors.MissingFilesError("Missing:", names)

    assert error.names == tuple(names)
    assert str(error).startswith("Missing: 'file 0', 'file 1', ")
    assert str(error).endswith("'file 19' and 380 more")


def test_a_message_without_names_stands_alone() -> None:
    assert str(errors.NoSpaceError("Full.")) == "Full."


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_survives_pickling_with_its_names(kind: type[ArchiverError]) -> None:
    error = kind("What happened:", ["a", "b"])

    copy = pickle.loads(pickle.dumps(error))

    assert type(copy) is kind
    assert (str(copy), copy.names) == ("What happened: 'a', 'b'", ("a", "b"))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not ArchiverError])
def test_every_error_is_either_the_users_or_the_services(kind: type[ArchiverError]) -> None:
    assert issubclass(kind, UserError) != issubclass(kind, ServiceError)


def test_no_two_errors_share_a_code() -> None:
    assert len({kind.code for kind in KINDS}) == len(KINDS)
