"""What counts as what a document shows, and what does not."""

import pytest

from .shown import Names, as_shown, matches

ONE, OTHER, PRINTED = "ro-000000000001", "ro-000000000002", "ro-5f0c2b7a91de"


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("a\nb\n", "a\nb\n"),
        ("a\n...\nd\n", "a\nb\nc\nd\n"),
        ("a\n...\nb\n", "a\nb\n"),
        ("...\nb\n...\n", "a\nb\nc\n"),
        ("size: ... bytes\n", "size: 12 bytes\n"),
        (f"{ONE} at 2027-01-01T00:00:00Z for 0.5s\n", f"{PRINTED} at 2026-05-04T03:02:01.123Z for 17.25s\n"),
    ],
)
def test_ids_and_times_are_any_and_what_is_left_out_is_anything(shown: str, printed: str) -> None:
    assert matches(Names(), shown, printed)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("a\n", "b\n"),
        ("a\n", "a\nb\n"),
        ("a\n...\nb\n", "a\nb\nc\n"),
        ("...\nb\n...\n", "a\nc\n"),
        ("a\n...\na\n", "a\n"),
        (f"{ONE}\n", "rs-5f0c2b7a91de\n"),
        (f"{ONE} {ONE}\n", f"{PRINTED} ro-ffffffffffff\n"),
        (f"{ONE} {OTHER}\n", f"{PRINTED} {PRINTED}\n"),
    ],
)
def test_all_else_is_equal_and_an_id_stands_for_one_id_only(shown: str, printed: str) -> None:
    assert not matches(Names(), shown, printed)


def test_an_id_that_was_shown_is_known_in_what_comes_later() -> None:
    names = Names()
    assert matches(names, f"{ONE}\n", f"{PRINTED}\n")
    assert names.to_actual(f"cancel {ONE} {OTHER}") == f"cancel {PRINTED} {OTHER}"
    assert not matches(names, f"{OTHER}\n", f"{PRINTED}\n")


def test_json_is_compared_as_json() -> None:
    assert as_shown("json", '{"a":  1,"b":[2]}{"c":3}') == as_shown("json", '{\n"a": 1, "b": [2]\n}\n{"c": 3}\n')
