"""Texts as bytes, and tables of texts: nothing is lost on the way, and a bad line is named."""

import pytest
import torch

from cl_suite import DataError, PrepareTexts, Samples, StreamData, TaskData, UsageError, encode_texts
from cl_suite.data.tables import check_labels, read_rows
from cl_suite.data.texts import decode_texts

TEXTS = ["plain", "", "naïve café 東京 😀", 'two\nlines\t"quoted"', "  spaces kept  "]


def test_texts_come_back_as_they_were():
    stored = encode_texts(TEXTS)
    assert stored.dtype == torch.uint8 and stored.shape == (5, max(len(text.encode()) for text in TEXTS))
    assert decode_texts(stored) == TEXTS
    assert decode_texts(stored[torch.tensor([2, 1])]) == [TEXTS[2], ""]


def test_empty_texts_and_no_texts_have_a_shape():
    assert encode_texts([""]).shape == (1, 1) and decode_texts(encode_texts([""])) == [""]
    assert encode_texts([]).shape == (0, 1) and decode_texts(encode_texts([])) == []


def test_a_long_text_is_cut_before_a_character_that_would_not_fit():
    assert decode_texts(encode_texts(["abcdef", "ab"], limit=4)) == ["abcd", "ab"]
    assert decode_texts(encode_texts(["aéé"], limit=4)) == ["aé"]  # the second é would end at byte 5
    assert encode_texts(["x" * 5000]).shape == (1, 2048)


def test_what_bytes_cannot_say_is_replaced():
    assert decode_texts(encode_texts(["a\0b\0", "a\udc80b"])) == ["a b ", "a?b"]


def test_a_stream_of_texts_can_be_stored_and_selected_but_not_be_read_by_a_model():
    samples = Samples(encode_texts(TEXTS), torch.zeros(5, dtype=torch.long))
    data = StreamData((TaskData("all", samples, samples, ("one",)),), PrepareTexts())
    raw, _ = samples.select(torch.tensor([4, 2])).take(torch.tensor([1]))
    assert decode_texts(raw) == [TEXTS[2]]
    with pytest.raises(UsageError, match=r"Make tokens of them first: cl_suite\.as_tokens") as refused:
        data.prepare(raw)
    assert "\n" not in str(refused.value)
    with pytest.raises(UsageError, match="Make tokens"):
        _ = data.input_shape


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_rows_are_numbered_by_the_line_they_begin_on(tmp_path):
    path = write(tmp_path / "a.csv", '\ufeff1,"two\nlines, and ""quotes"""\n\n2,plain\n')
    assert list(read_rows(path, ("label", "text"))) == [
        (1, ["1", 'two\nlines, and "quotes"']),
        (4, ["2", "plain"]),
    ]
    other = write(tmp_path / "b.csv", "1;a,b\r\n2;c\r\n")
    assert [row for _, row in read_rows(other, ("label", "text"), delimiter=";")] == [["1", "a,b"], ["2", "c"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1,a\n2,b,c\n", r"a\.csv, line 2: 3 columns, not the 2 of label,text\. Mend the line"),
        ("1,a\n\n2\n", r"a\.csv, line 3: 1 columns, not the 2"),
        (b"1,a\n2,caf\xe9\n", r"a\.csv, line 2: not UTF-8 \(byte 0xe9\)\. Convert the file, e\.g\. iconv"),
        ("1,a\n2,b\rc\n", r"a\.csv, line 2: not a row of a table"),
    ],
)
def test_a_bad_row_is_one_line_with_file_and_line(content, message, tmp_path):
    with pytest.raises(DataError, match=message) as refused:
        list(read_rows(write(tmp_path / "a.csv", content), ("label", "text")))
    assert "\n" not in str(refused.value) and str(tmp_path) in str(refused.value)


def test_a_cell_may_be_longer_than_the_csv_module_expects(tmp_path):
    path = write(tmp_path / "a.csv", f"1,{'x' * 200_000}\n")
    assert len(next(read_rows(path, ("label", "text")))[1][1]) == 200_000


def test_labels_that_are_tested_and_not_trained_are_named():
    check_labels([("a", "x"), ("b", "y")], [("c", "x")], what="Some set")
    with pytest.raises(DataError, match=r"Some set: no training text has the label u, v, w \.\.\., .*fetch it anew"):
        check_labels([("a", "x")], [("b", label) for label in "xuvwz"], what="Some set")
