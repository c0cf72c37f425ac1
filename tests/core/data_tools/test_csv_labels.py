"""CSV and TSV annotations: quotes, separators in labels, headers, separators of cells."""

from pathlib import Path

import pytest

from core.data_tools.annotation_formats import read_annotations


def labels(folder: Path, text: str, name: str = "labels.csv") -> list[tuple[str, str | None]]:
    """(image, label) of each usable row."""
    return [(image, label) for image, label, problem in rows(folder, text, name) if not problem]


def rows(folder: Path, text: str, name: str = "labels.csv") -> list[tuple[str, str | None, str]]:
    file = folder / name
    file.write_bytes(text.encode())
    return [(row.image, row.label, row.problem) for row in read_annotations(file)]


@pytest.mark.parametrize(
    ("cell", "label"),
    [
        ('"SALE', '"SALE'),
        ('5" pipe', '5" pipe'),
        ('say"', 'say"'),
        ('"', '"'),
        ('"SALE" now', '"SALE" now'),
        ('"SALE, now', '"SALE, now'),
        ('"a, b"', "a, b"),
        ('"say ""hi"""', 'say "hi"'),
        (' "a"', "a"),
        ('""""', '"'),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("header", ["", "filename,words"])
def test_no_row_vanishes_behind_a_quote(
    cell: str, label: str, end: str, header: str, tmp_path: Path
) -> None:
    lines = [header, "1.png,one", f"2.png,{cell}", "3.png,three", '4.png,"four"', '5.png,5"']
    found = labels(tmp_path, end.join(line for line in lines if line) + end)
    assert found == [
        ("1.png", "one"),
        ("2.png", label),
        ("3.png", "three"),
        ("4.png", "four"),
        ("5.png", '5"'),
    ]


def test_two_open_quotes_do_not_hide_the_rows_between_them(tmp_path: Path) -> None:
    text = '1.png,"SALE\n2.png,two\n3.png,SALE"\n'
    assert [row[1] for row in rows(tmp_path, text)] == ['"SALE', "two", 'SALE"']
    text = 'words,filename\n"SALE,1.png\ntwo,2.png\nSALE",3.png\n'
    assert [row[:2] for row in rows(tmp_path, text)] == [
        ("1.png", '"SALE'),
        ("2.png", "two"),
        ("3.png", 'SALE"'),
    ]


@pytest.mark.parametrize(
    "text",
    [
        'filename,words\n1.png,"two\nwords, x"\n2.png,b\n',
        'words,filename\n"two\nwords, x",1.png\nb,2.png\n',
        '1.png;"two\r\nwords, x"\r\n2.png;b\r\n',
    ],
)
def test_a_correctly_quoted_cell_may_span_lines(text: str, tmp_path: Path) -> None:
    assert [row[:2] for row in rows(tmp_path, text)] == [
        ("1.png", "two\nwords, x"),
        ("2.png", "b"),
    ]


def test_a_cell_that_is_never_closed_hides_no_row(tmp_path: Path) -> None:
    lines = ["a,b"] + [f"image{number},w{number}" for number in range(50)]
    lines[1] = 'image0,"w0'
    found = rows(tmp_path, "\n".join(lines))
    assert len(found) == 51
    assert found[1][:2] == ("image0", '"w0')


@pytest.mark.parametrize(
    "text",
    [
        "filename,words\n1.png,Ritchie, Dennis\n2.png,7,000 sq.ft.\n",
        "words,filename\nRitchie, Dennis,1.png\n7,000 sq.ft.,2.png\n",
        "1.png,Ritchie, Dennis\n2.png,7,000 sq.ft.\n",
        "filename,size,words\n1.png,9,Ritchie, Dennis\n2.png,9,7,000 sq.ft.\n",
        "words,size,filename\nRitchie, Dennis,9,1.png\n7,000 sq.ft.,9,2.png\n",
        "filename;words\n1.png;Ritchie, Dennis\n2.png;7,000 sq.ft.\n",
        "1.png;Ritchie, Dennis\n2.png;7,000 sq.ft.\n",
        "filename\twords\n1.png\tRitchie, Dennis\n2.png\t7,000 sq.ft.\n",
        "sep=;\r\n1.png;Ritchie, Dennis\r\n2.png;7,000 sq.ft.\r\n",
    ],
)
def test_a_label_may_have_commas_without_quotes(text: str, tmp_path: Path) -> None:
    assert [row[:2] for row in rows(tmp_path, text)] == [
        ("1.png", "Ritchie, Dennis"),
        ("2.png", "7,000 sq.ft."),
    ]


def test_a_label_may_have_semicolons(tmp_path: Path) -> None:
    assert labels(tmp_path, "1.png,a;b\n") == [("1.png", "a;b")]
    assert labels(tmp_path, "1.png;a;b\n") == [("1.png", "a;b")]
    assert labels(tmp_path, "filename;text\n1.png;a;b\n") == [("1.png", "a;b")]
    assert labels(tmp_path, "1.png;a;b\n", "gt.txt") == [("1.png", "a;b")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", 'filename,text\n1.png,"a",b\n'),
        ("a.csv", "filename,text,score\n1.png,a,b,0.5\n"),
        ("a.tsv", "filename\ttext\n1.png\ta\tb\n"),
        ("a.tsv", "0.png\ttext\n1.png\ta\tb\n"),
        ("a.csv", "filename,text\n1.png\n"),
    ],
)
def test_a_row_that_is_not_clear_is_named_as_skipped(name: str, text: str, tmp_path: Path) -> None:
    image, _, problem = rows(tmp_path, text, name)[-1]
    assert "column" in problem
    assert image.startswith("1.png")


def test_quotes_in_a_tsv_file_are_text(tmp_path: Path) -> None:
    text = '1.png\t"SALE\n2.png\t"a"\n3.png\t5" pipe\n'
    assert [row[1] for row in rows(tmp_path, text, "gt.tsv")] == ['"SALE', '"a"', '5" pipe']


def test_columns_beside_image_and_label_are_left_out(tmp_path: Path) -> None:
    text = 'id,filename,text,score\n7,1.png,"a, b",0.5\n8,2.png,c,0.6\n'
    assert labels(tmp_path, text) == [("1.png", "a, b"), ("2.png", "c")]
    assert labels(tmp_path, '1.png,"a, b",0.5\n') == [("1.png", "a, b")]
