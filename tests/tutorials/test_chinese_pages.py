"""Chinese pages that no chapter makes: each section is held to the English one."""

import pytest
from rendering import TUTORIALS, render, twins

PAGE = (
    "# Counting\n\n[中文](count.zh.md)\n\nTo 7.\n\n## How far\n\n```console\n$ count 3   # up\nthree\n```\n"
)
PAGE_ZH = (
    "# 数数\n\n[English](count.md)\n\n数到 7。\n\n## 多远\n\n```console\n$ count 3   # 往上\nthree\n```\n"
)


@pytest.fixture
def two_pages(tmp_path):
    """A stamped page in both languages: two_pages(file, old, new) -> what is wrong after that change."""
    folder = tmp_path / "pages"
    folder.mkdir()
    (folder / "count.md").write_text(PAGE, encoding="utf-8")
    (folder / "count.zh.md").write_text(PAGE_ZH, encoding="utf-8")
    assert render.main(["--stamp", "--folder", str(folder), "count.zh.md"]) == 0

    def change(name, old, new):
        text = (folder / name).read_text(encoding="utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1), encoding="utf-8")
        return twins.page_differences(*twins.written(folder)["count"])

    change.folder = folder
    return change


@pytest.mark.parametrize(
    "name, old, new, said",
    [
        ("count.md", "To 7.", "Up to 7.", "line 1: section 'Counting': the English text has changed; "),
        ("count.md", "count 3", "count 4", "line 9: section 'How far': the English text has changed; "),
        ("count.zh.md", "count 3", "count 4", "line 9: section 'How far': code: "),
        ("count.zh.md", "\nthree", "\nfour", "line 9: section 'How far': code: "),
        (
            "count.zh.md",
            "数到 7",
            "数到 8",
            "line 1: section 'Counting': numbers that the Chinese text lacks: 7",
        ),
        ("count.zh.md", "## 多远", "### 多远", "section 'How far': its twin is missing"),
        ("count.zh.md", "<!-- en", "<!-- of", "line 1: section 'Counting': it has no stamp"),
        ("count.zh.md", "[English](count.md)\n", "", "count.zh.md has no line with a link to count.md"),
        ("count.md", "[中文](count.zh.md)\n", "", "count.md has no line with a link to count.zh.md"),
    ],
)
def test_a_chinese_page_without_a_chapter_is_held_to_the_english_one(two_pages, name, old, new, said):
    found = two_pages(name, old, new)
    assert any(said in line for line in found), found


def test_stamping_again_changes_nothing_and_check_reports_a_stale_section(two_pages, capsys):
    folder, before = two_pages.folder, (two_pages.folder / "count.zh.md").read_text(encoding="utf-8")
    arguments = ["--folder", str(folder)]
    assert render.main([*arguments, "--stamp", "count"]) == render.main([*arguments, "--check", "count"]) == 0
    assert (folder / "count.zh.md").read_text(encoding="utf-8") == before
    two_pages("count.md", "To 7.", "Up to 7.")
    assert render.main([*arguments, "--check", "count"]) == 1
    assert "count.zh.md: line 1: section 'Counting': the English text" in capsys.readouterr().out
    two_pages("count.md", "## How far", "## Why\n\n## How far")
    assert render.main([*arguments, "--stamp", "count"]) == 2
    assert "count.zh.md has 2 sections, count.md 3" in capsys.readouterr().err
    found = two_pages("count.zh.md", "three", "三\n三")  # an answer in Chinese is not compared
    assert not any("code" in line for line in found)


@pytest.mark.parametrize("name", twins.written(TUTORIALS))
def test_a_chinese_page_says_what_its_english_page_says(name):
    assert twins.page_differences(*twins.written(TUTORIALS)[name]) == []
