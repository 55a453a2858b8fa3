"""Lines of source are at most 110 columns, in every language; ruff sees to Python alone."""

from conftest import ROOT

FOLDERS = ("csrc", "minglm", "tests", "tutorials")
SUFFIXES = (".cpp", ".css", ".cu", ".cuh", ".h", ".html", ".inc", ".js", ".py")


def too_long(text):
    """The numbers of the lines of more than 110 columns, from 1."""
    return [n for n, line in enumerate(text.splitlines(), 1) if len(line) > 110]


def test_no_line_of_source_is_longer_than_110_columns():
    paths = [p for folder in FOLDERS for p in (ROOT / folder).rglob("*") if p.suffix in SUFFIXES]
    assert {path.suffix for path in paths} == set(SUFFIXES)
    found = {str(p.relative_to(ROOT)): too_long(p.read_text(encoding="utf-8")) for p in paths}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_a_long_line_is_found():
    assert too_long("a" * 110 + "\n" + "b" * 111) == [2]
