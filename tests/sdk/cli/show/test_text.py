"""The words for a terminal."""

from agentlightning.cli.show import text


def test_what_is_cut_says_so_and_wide_letters_count_as_two() -> None:
    assert [text.fitted(words, 4) for words in ("ab", "abcde", "中文字")] == ["ab  ", "abc…", "中 …"]
