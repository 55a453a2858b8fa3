"""What chapters 12 and 13 show of csrc/."""

from minglm.course import sources


def test_a_block_of_source_is_shown_from_its_first_line_to_its_closing_bracket():
    shown = sources.source_of("cuda/simple.cuh", "for (int j = 0; j < tiles; ++j) {").split("\n")
    assert shown[0] == "    for (int j = 0; j < tiles; ++j) {" and shown[-1] == "    }"
    assert "    }" not in shown[:-1] and any("__syncthreads();" in line for line in shown)


def test_without_csrc_it_says_where_the_source_is(monkeypatch):
    monkeypatch.setattr(sources, "CSRC", None)
    assert "see csrc/cpu/vector.inc, " in sources.source_of("cpu/vector.inc", "// t += A B")
