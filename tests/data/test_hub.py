"""hf:// names: files of a data set, fetched by huggingface_hub (here: by what stands in for its network)."""

import pytest
from conftest import needs

from minglm.data.documents import find_files, read_documents
from minglm.errors import MinglmError

NAME = "hf://datasets/owner/stories"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """hub(error=None) sets what a download does; hub.asked are its arguments."""
    huggingface_hub = pytest.importorskip("huggingface_hub")

    def set_up(error=None):
        def download(repository, *, repo_type, allow_patterns):
            set_up.asked = repository, repo_type, allow_patterns
            if error:
                raise error
            (tmp_path / "train").mkdir(exist_ok=True)
            (tmp_path / "train" / "a.txt").write_text("one\n\ntwo\n", encoding="utf-8")
            return str(tmp_path)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)

    return set_up


@needs("huggingface_hub")
@pytest.mark.parametrize("below", ["", "/train"])
def test_the_text_files_of_a_data_set_are_fetched_and_nothing_else(hub, below):
    hub()
    [path] = find_files([NAME + below])
    assert list(read_documents(path)) == ["one", "two"]
    repository, kind, patterns = hub.asked
    assert (repository, kind) == ("owner/stories", "dataset")
    assert f"{below[1:]}/*.parquet".lstrip("/") in patterns and not any(".py" in p for p in patterns)


@needs("huggingface_hub")
@pytest.mark.parametrize("error", [OSError("no route\nto host"), RuntimeError("401: gated"), KeyError("x")])
def test_what_cannot_be_fetched_is_one_line_that_names_it(hub, error):
    hub(error)
    with pytest.raises(MinglmError) as raised:
        find_files(NAME)
    assert str(raised.value).startswith(f"{NAME}: cannot be fetched: ") and "\n" not in str(raised.value)


@needs("huggingface_hub")
@pytest.mark.parametrize("name", ["hf://owner/stories", "hf://datasets/x", "hf://datasets/a/b/../c", "hf://"])
def test_a_name_that_is_none_is_refused_before_anything_is_asked(hub, name):
    hub(AssertionError("asked"))
    with pytest.raises(MinglmError, match="hf://datasets/OWNER/NAME"):
        find_files(name)
