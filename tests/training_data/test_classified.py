"""Texts with labels: where they come from, how they are cut, and what is refused."""

import gzip
import zlib

import pytest

from keras_seqattn.training.data import DataError, load_classified, read_classified

ROWS = [(f"text {n} é", ("good", "bad", "so so")[n % 3]) for n in range(200)]
TREC = "coarse\tfine\tquestion\n"


def lines(rows, header=""):
    return header + "".join("\t".join(row) + "\n" for row in rows)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = content if isinstance(content, bytes) else content.encode("utf-8")
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return str(path)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    monkeypatch.delenv("SEQATTN_DATA", raising=False)


def trec(folder, ending=".tsv.gz"):
    """A folder as that of TREC, with 60 questions to train on and 3 to test by."""
    rows = [(label, f"{label}:{'ab'[n % 2]}", f"question {n} {label} ?") for n in range(30) for label in ("NUM", "HUM")]
    write(folder / f"train{ending}", lines(rows, TREC))
    write(folder / f"test{ending}", lines(rows[:3], TREC))
    return rows


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz"])
@pytest.mark.parametrize("header", ["", "sentence\tlabel\n"])
def test_a_file_is_cut_in_three_by_its_texts_and_nothing_is_lost(tmp_path, name, header):
    data = load_classified(write(tmp_path / name, lines(ROWS, header)))
    assert sorted([*data.train, *data.validation, *data.test]) == sorted(ROWS)
    for part, bucket in ((data.test, 0), (data.validation, 1)):
        assert part == [row for row in ROWS if zlib.crc32(row[0].encode()) % 10 == bucket]
    assert data.labels == ("bad", "good", "so so")


def test_a_copy_of_a_text_is_in_the_same_part(tmp_path):
    data = load_classified(write(tmp_path / "a.tsv", lines([*ROWS, *ROWS])))
    texts = [{text for text, _ in part} for part in (data.train, data.validation, data.test)]
    assert not texts[0] & texts[1]
    assert not texts[0] & texts[2]
    assert not texts[1] & texts[2]


def test_labels_that_are_numbers_are_in_the_order_of_numbers(tmp_path):
    rows = [(text, str(n % 11)) for n, (text, _) in enumerate(ROWS)]
    assert load_classified(write(tmp_path / "a.tsv", lines(rows))).labels == tuple(map(str, range(11)))


@pytest.mark.parametrize("validation", [None, "val", "dev"])
def test_a_folder_has_a_file_a_part_and_may_leave_out_that_of_validation(tmp_path, validation):
    write(tmp_path / "train.tsv", lines(ROWS[:150]))
    write(tmp_path / "test.tsv.gz", lines(ROWS[180:]))
    if validation:
        write(tmp_path / f"{validation}.tsv", lines(ROWS[150:180]))
    data = load_classified(str(tmp_path))
    assert data.test == ROWS[180:]
    if validation:
        assert (data.train, data.validation) == (ROWS[:150], ROWS[150:180])
    else:
        assert data.validation == [row for row in ROWS[:150] if zlib.crc32(row[0].encode()) % 10 == 1]
        assert sorted([*data.train, *data.validation]) == sorted(ROWS[:150])


@pytest.mark.parametrize("place", ["", "trec"])
@pytest.mark.parametrize("ending", [".tsv", ".tsv.gz"])
def test_trec_has_its_classes_in_two_columns(tmp_path, place, ending, monkeypatch):
    rows = trec(tmp_path / place, ending)
    coarse, fine = (load_classified(str(tmp_path), f"trec_{name}") for name in ("coarse", "fine"))
    assert coarse.labels == ("HUM", "NUM")
    assert fine.labels == ("HUM:a", "HUM:b", "NUM:a", "NUM:b")
    assert coarse.test == [(question, label) for label, _, question in rows[:3]]
    assert fine.test == [(question, label) for _, label, question in rows[:3]]
    assert sorted([*fine.train, *fine.validation]) == sorted((question, label) for _, label, question in rows)
    assert coarse.fingerprint != fine.fingerprint
    monkeypatch.setenv("SEQATTN_DATA", str(tmp_path))
    assert load_classified(data_set="trec_fine") == fine


def test_sst_has_names_for_its_numbers(tmp_path):
    for part, numbers in (("train", "43210"), ("dev", "0"), ("test", "13")):
        rows = [(f"{part} {number} it 's", number) for number in numbers]
        write(tmp_path / "sst" / f"sst5_{part}.tsv.gz", lines(rows, "sentence\tlabel\n"))
    data = load_classified(str(tmp_path), "sst5")
    assert data.labels == ("very negative", "negative", "neutral", "positive", "very positive")
    assert data.test == [("test 1 it 's", "negative"), ("test 3 it 's", "positive")]
    with pytest.raises(DataError, match=r"The set sst2 has a file sst2_train.tsv.* in its folder sst\. Received: "):
        load_classified(str(tmp_path), "sst2")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\tx\nb y\n", r"text, TAB, label: 2 columns\. Received: .*a\.tsv, line 2 with 1: 'b y'"),
        ("text\tlabel\na\tx\nb\ty\tz\n", r"2 columns\. Received: .*a\.tsv, line 3 with 3: "),
        ("a\tx\nb\t \n", r"must not be empty\. Received: .*a\.tsv, line 2, column 2: ' '"),
        (b"a\tx\ncaf\xe9\ty\n", r"must be UTF-8\. Received: .*a\.tsv, line 2, byte 4"),
        ("text\tlabel\n", r"a line that is not its header\. Received: .*a\.tsv"),
        ("", r"at least one line\. Received: .*a\.tsv"),
        (lines((text, "x") for text, _ in ROWS), r"two labels apart at least\. Received: 'x' alone"),
        ("a\tx\nb\ty\n", r"Each part must hold at least one text\. Received: (test|validation|train) with none"),
        (None, r"`path` \(--data\) must name a file or folder that exists\. Received: .*a\.tsv"),
    ],
    ids=["no TAB", "a TAB too many", "no label", "not UTF-8", "header alone", "empty", "one label", "short", "no file"],
)
def test_what_is_malformed_is_refused_with_file_and_line(tmp_path, content, message):
    path = tmp_path / "a.tsv"
    if content is not None:
        write(path, content)
    with pytest.raises(DataError, match=message):
        load_classified(str(path))


def test_a_label_that_is_never_trained_on_is_refused_with_file_and_line(tmp_path):
    write(tmp_path / "train.tsv", lines(ROWS))
    write(tmp_path / "test.tsv", "text\tlabel\na\tgood\nb\tstrange\n")
    with pytest.raises(DataError, match=r"in the training part too\. Received: .*test\.tsv, line 3: 'strange'"):
        load_classified(str(tmp_path))


def test_folders_without_the_files_and_other_headers_are_refused(tmp_path):
    write(tmp_path / "val.tsv", lines(ROWS))
    with pytest.raises(DataError, match=r"and may hold val\.tsv.*has no train\.tsv and no test\.tsv"):
        load_classified(str(tmp_path))
    write(tmp_path / "train.tsv", lines(ROWS))
    with pytest.raises(DataError, match=r"coarse, TAB, fine, TAB, question\. Received: .*train\.tsv, line 1"):
        load_classified(str(tmp_path), "trec_coarse")
    with pytest.raises(DataError, match=r"The data sets are tsv, sst2, sst5, trec_coarse, trec_fine\. Received: "):
        load_classified(str(tmp_path), "imdb")


@pytest.mark.parametrize(("data_set", "wanted"), [("tsv", "a .tsv of text and label"), ("sst2", "the folder of sst2")])
def test_without_a_path_it_is_told_what_is_wanted(data_set, wanted):
    with pytest.raises(DataError, match=f"give {wanted} as `path`"):
        load_classified(data_set=data_set)


def test_quotes_and_separators_of_unicode_belong_to_a_text(tmp_path):
    rows = read_classified(write(tmp_path / "a.tsv", '"a\u2028b"\tx\r\n\'c\u00a0\tLABEL\n'))
    assert [(row.text, row.label) for row in rows] == [('"a\u2028b"', "x"), ("'c\u00a0", "LABEL")]
