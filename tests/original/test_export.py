"""Folders for the published code: its names, its settings, its numbers, and the way back without a loss.

The reader here is written from the documented names of the original (state dict, config.json) and from the
paper, without any code of minglm. If MINGLM_PUBLISHED_CODE names a folder with the published modeling_glm.py
and configuration_glm.py, which are no part of this repository, that code reads the folder, too.
"""

import importlib.util
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from conftest import RECORDED
from vocabulary_files import MERGES, PIECES, WORDS, bert_file, bpe_files, sp_file

from minglm import GLM, GLMConfig, GLMMask, MinglmError, Tokenizer
from minglm.cli import main
from minglm.original.export import save_original

CODE = os.environ.get("MINGLM_PUBLISHED_CODE")
TEXTS = ("the cat sat on the [MASK].", "a  [MASK] the", "The cat's 3 caf\u00e9s, and 中国!")
# of GLMConfig in the published configuration_glm.py, with its defaults where they matter
PUBLISHED = {
    "num_layers": 24,
    "vocab_size": 30592,
    "hidden_size": 1024,
    "num_attention_heads": 16,
    "max_sequence_length": 512,
    "block_position_encoding": True,
    "output_predict": False,
    "attention_scale": 1.0,
    "relative_encoding": False,
}


@pytest.fixture(scope="module")
def parity():
    """(arrays of the original code's own run, a model with its weights)."""
    arrays = dict(np.load(RECORDED / "thudm_parity_a.npz"))
    values = json.loads(str(arrays["config"]))
    sizes = (values[k] for k in "vocab_size hidden_size num_layers num_attention_heads".split())
    config = GLMConfig(*sizes, values["max_sequence_length"], dropout=0.0)
    return arrays, GLM.from_original(RECORDED / "thudm_parity_a.npz", config)


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["the cat sat on the mat and the dog sat on the cat, the café"] * 5, 300)


@pytest.fixture
def folder(tokenizer, tmp_path):
    """A saved model with a tokenizer: heads of width 8, and a number of tokens that is no multiple of 128."""
    torch.manual_seed(0)
    GLM(GLMConfig(tokenizer.vocab_size, 32, 2, 4, 24)).save_pretrained(tmp_path / "model", tokenizer)
    return tmp_path / "model"


def error_of(function, *args, **kwargs):
    with pytest.raises(MinglmError) as caught:
        function(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def convert(capsys, *args, code=0):
    """Run `minglm convert` -> (stdout, stderr)."""
    capsys.readouterr()
    assert main(["convert", *map(str, args)]) == code
    return capsys.readouterr()


def published_logits(state, settings, tokens, positions, sep, gelu):
    """By the original's names: (B, S) tokens, (B, 2, S) positions, (B,) sep -> logits (B, S, V)."""

    def linear(name, x):
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(name, x):
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-5)

    B, S = tokens.shape
    H, C = settings["num_attention_heads"], settings["hidden_size"]
    tables = [state[f"transformer.{name}position_embeddings.weight"] for name in ("", "block_")]
    assert [len(table) for table in tables] == [settings["max_sequence_length"] + 1] * 2
    assert state["word_embeddings.weight"].shape == (settings["vocab_size"], C)
    x = state["word_embeddings.weight"][tokens] + tables[0][positions[:, 0]] + tables[1][positions[:, 1]]
    i, j = torch.arange(S)[:, None], torch.arange(S)
    hidden = ~((j <= i) | (j < sep[:, None, None]))  # (B, S, S)
    for n in range(settings["num_layers"]):
        name = f"transformer.layers.{n}"
        qkv = linear(f"{name}.attention.query_key_value", norm(f"{name}.input_layernorm", x))
        q, k, v = (part.view(B, S, H, C // H).transpose(1, 2) for part in qkv.split(C, dim=-1))
        scores = (q @ k.transpose(-1, -2) / (C // H) ** 0.5).masked_fill(hidden[:, None], -torch.inf)
        attended = (scores.softmax(-1) @ v).transpose(1, 2).reshape(B, S, C)
        x = x + linear(f"{name}.attention.dense", attended)
        up = linear(f"{name}.mlp.dense_h_to_4h", norm(f"{name}.post_attention_layernorm", x))
        x = x + linear(f"{name}.mlp.dense_4h_to_h", F.gelu(up, approximate=gelu))
    return norm("transformer.final_layernorm", x) @ state["word_embeddings.weight"].T


def rows_of(arrays):
    """Tokens, positions and sep of the recorded batch."""
    names = ("input_ids", "position_ids", "sep")
    return [torch.from_numpy(arrays[name]).long() for name in names]


def our_logits(model, tokens, positions, sep):
    B, S = tokens.shape
    mask = GLMMask.packed(torch.full((B,), S, dtype=torch.int32), sep.int())
    with torch.no_grad():
        return model(tokens.flatten(), positions[:, 0].flatten(), positions[:, 1].flatten(), mask).view(
            B, S, -1
        )


def read_written(layout, folder):
    """The state dict in a written folder, by the published names of the files."""
    if layout == "hf":
        return safetensors.torch.load_file(folder / "model.safetensors")
    tag = (folder / "latest_checkpointed_iteration.txt").read_text()
    assert tag == "release"  # the training code then asks for no state of an optimizer
    assert "release/mp_rank_00_model_states.pt" in json.loads((folder / "manifest.json").read_text())
    return torch.load(folder / tag / "mp_rank_00_model_states.pt", weights_only=True)["module"]


@pytest.mark.parametrize("layout", ["hf", "megatron"])
def test_the_originals_own_weights_come_out_again_with_its_names_and_numbers(parity, tmp_path, layout):
    arrays, model = parity
    save_original(model, tmp_path / "out", layout)
    state = read_written(layout, tmp_path / "out")
    names = {name[5:] for name in arrays if name.startswith("grad/")}
    assert state.keys() == names
    assert all(torch.equal(state[name], torch.from_numpy(arrays[name])) for name in names)
    settings = json.loads(str(arrays["config"]))
    logits = published_logits(state, settings, *rows_of(arrays), "tanh")
    torch.testing.assert_close(logits, torch.from_numpy(arrays["logits"]), atol=1e-4, rtol=0)


def test_a_reader_of_the_published_settings_gives_the_models_logits(parity, tmp_path):
    arrays, model = parity
    erf = GLM(replace(model.config, gelu="erf")).eval()
    erf.load_state_dict(model.state_dict())
    save_original(erf, tmp_path / "out")
    settings = json.loads((tmp_path / "out" / "config.json").read_text())
    settings = PUBLISHED | {key: settings[key] for key in PUBLISHED}
    assert settings["output_predict"] and settings["block_position_encoding"]  # else there are no logits
    assert settings["attention_scale"] == 1 and not settings["relative_encoding"]
    theirs = published_logits(read_written("hf", tmp_path / "out"), settings, *rows_of(arrays), "none")
    ours = our_logits(erf, *rows_of(arrays))
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=0)
    off = our_logits(model, *rows_of(arrays)) - theirs  # that the form of gelu matters is what a note says
    assert off.abs().max() > 1e-3


@pytest.mark.skipif(
    not CODE or importlib.util.find_spec("transformers") is None,
    reason="needs transformers, and MINGLM_PUBLISHED_CODE, a folder with the published modeling_glm.py",
)
def test_the_published_code_loads_the_folder_and_gives_the_models_logits(parity, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "cache"))
    from transformers import AutoModelForSeq2SeqLM

    arrays, model = parity
    model = GLM(replace(model.config, gelu="erf")).eval()
    model.load_state_dict(parity[1].state_dict())
    save_original(model, tmp_path / "out")
    for path in Path(CODE).glob("*_glm.py"):
        shutil.copy(path, tmp_path / "out")
    theirs = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out", trust_remote_code=True).eval()
    tokens, positions, sep = rows_of(arrays)
    with torch.no_grad():
        logits = theirs(input_ids=tokens, position_ids=positions, attention_mask=sep).logits
    torch.testing.assert_close(logits, our_logits(model, tokens, positions, sep), atol=1e-4, rtol=0)


@pytest.mark.parametrize("layout", ["hf", "megatron"])
def test_there_and_back_are_the_same_bytes_the_same_settings_and_the_same_tokenizer(
    folder, tmp_path, capsys, layout
):
    out, err = convert(capsys, folder, "--to", layout, "--out", tmp_path / "there")
    assert "2 layers, width 32, 300 tokens, 24 positions" in out and "model" in out
    notes = {
        "hf": ["computes gelu in its erf form, these weights learned tanh"],
        "megatron": ["--make-vocab-size-divisible-by 1", "--num-attention-heads 4", "no tokenizer"],
    }
    assert all(note in err for note in notes[layout]) and len(err.splitlines()) == len(notes[layout])
    convert(capsys, tmp_path / "there", "--out", tmp_path / "back")
    assert (tmp_path / "back" / "config.json").read_bytes() == (folder / "config.json").read_bytes()
    assert (tmp_path / "back" / "model.safetensors").read_bytes() == (
        folder / "model.safetensors"
    ).read_bytes()
    if layout == "hf":
        pair = [Tokenizer.from_pretrained(path).fingerprint for path in (folder, tmp_path / "back")]
        assert pair[0] == pair[1]


def test_a_family_whose_samples_the_published_code_never_makes_is_said_and_kept(tmp_path, capsys):
    GLM(GLMConfig(128, 64, 1, 1, 8, gelu="erf", family="gpt")).save_pretrained(tmp_path / "gpt")
    err = convert(capsys, tmp_path / "gpt", "--to", "hf", "--out", tmp_path / "out").err
    assert "the layout of 'gpt'" in err and "no tokenizer" in err and "gelu" not in err
    assert GLM.from_original(tmp_path / "out").config.family == "gpt"


@pytest.fixture(scope="module")
def vocabularies(tmp_path_factory, tokenizer):
    """{kind: Tokenizer} of every kind, and the path of the SentencePiece file."""
    where = tmp_path_factory.mktemp("vocabularies")
    path = sp_file(where / "cog-pretrain.model", PIECES)
    read = Tokenizer.from_original
    return {
        "minglm": tokenizer,
        "gpt2": read(bpe_files(where / "gpt2", MERGES)),
        "roberta": read(bpe_files(where / "roberta", MERGES, roberta=True)),
        "bert": read(bert_file(where / "bert", WORDS)),
        "chinese": read(path),
    }, path


def written(tokenizer, where, vocabulary=None):
    """The folder of a small model with a tokenizer, in the Hugging Face layout."""
    save_original(GLM(GLMConfig(tokenizer.vocab_size, 8, 1, 1, 8)), where, "hf", tokenizer, vocabulary)
    return where


@pytest.mark.parametrize("kind", ["minglm", "gpt2", "roberta", "bert", "chinese"])
def test_the_files_of_a_tokenizer_give_its_ids_again(vocabularies, tmp_path, kind):
    tokenizer, path = vocabularies[0][kind], vocabularies[1]
    out = written(tokenizer, tmp_path / "out", path if kind == "chinese" else None)
    again = Tokenizer.from_original(out, tokenizer.vocab_size)
    assert again.special == tokenizer.special
    for text in TEXTS:
        assert again.encode(text, special=True) == tokenizer.encode(text, special=True)
    names = {"bert": "GLMBertTokenizer", "chinese": "GLMChineseTokenizer"}
    settings = json.loads((out / "tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] == names.get(kind, "GLMGPT2Tokenizer")
    if kind == "chinese":
        added = json.loads((out / "added_tokens.json").read_text())
        first = min(added.values())  # right behind the pieces, and without a gap, as the class demands
        assert list(added.values()) == list(range(first, first + len(added)))
        assert (out / "cog-pretrain.model").read_bytes() == path.read_bytes()


@pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="pip install -e '.[interop]'")
@pytest.mark.parametrize(
    ("kind", "base"), [("minglm", "GPT2Tokenizer"), ("gpt2", "GPT2Tokenizer"), ("bert", "BertTokenizer")]
)
def test_the_class_under_the_published_tokenizer_gives_its_ids(vocabularies, tmp_path, kind, base):
    import transformers

    tokenizer = vocabularies[0][kind]
    theirs = getattr(transformers, base).from_pretrained(written(tokenizer, tmp_path / "out"))
    for text in TEXTS:
        ids = theirs(text, add_special_tokens=False)["input_ids"]
        assert ids == tokenizer.encode(text, special=True), text
    special = tokenizer.special
    pieces = theirs.convert_tokens_to_ids(["<|startofpiece|>", "<|endofpiece|>", "[MASK]", "[CLS]"])
    assert pieces == [special.sop, special.eop, special.mask, special.cls]
    assert (theirs.pad_token_id, theirs.eos_token_id) == (special.pad, special.eos)


def test_a_tokenizer_that_no_published_class_can_read_is_refused_with_the_reason(vocabularies, tmp_path):
    (kinds, path), out = vocabularies, tmp_path / "out"
    says = error_of(written, kinds["chinese"], out)
    assert "SentencePiece" in says and "--tokenizer" in says
    other = sp_file(tmp_path / "cog-pretrain.model", PIECES[::-1])
    assert "ids differ" in error_of(written, kinds["chinese"], out, other)
    assert "not needed" in error_of(written, kinds["gpt2"], out, path)
    contents = json.loads(kinds["minglm"]._library.to_str())
    contents["pre_tokenizer"]["use_regex"] = False
    import tokenizers

    strange = Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(contents)))
    assert "no published class gives its ids" in error_of(written, strange, out)
    assert not out.exists()


def test_what_cannot_be_written_is_refused_in_one_line_and_writes_nothing(folder, tmp_path, capsys):
    model = GLM.from_pretrained(folder)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").write_text("years of work")
    assert "holds thesis.txt" in error_of(save_original, model, tmp_path / "thesis")
    assert "'nemo' is not accepted; hf or megatron is" in error_of(
        save_original, model, tmp_path / "o", "nemo"
    )
    model.layers[0].up = torch.nn.Sequential(model.layers[0].up)
    assert "layers.0.up" in error_of(save_original, model, tmp_path / "o")
    for args, says in (
        (("--gelu", "erf"), "--gelu"),
        (("--heads", "2"), "--heads"),
        (("--to", "megatron", "--tokenizer", folder), "--tokenizer"),
    ):
        err = convert(capsys, folder, "--to", "hf", *args, "--out", tmp_path / "o", code=2).err
        assert says in err and len(err.splitlines()) == 1
    err = convert(capsys, tmp_path / "nothing", "--to", "hf", "--out", tmp_path / "o", code=2).err
    assert "not found" in err
    assert not (tmp_path / "o").exists() and os.listdir(tmp_path / "thesis") == ["thesis.txt"]


def test_settings_that_minglm_did_not_write_are_refused(folder, tmp_path, capsys):
    convert(capsys, folder, "--to", "hf", "--out", tmp_path / "hf")
    path = tmp_path / "hf" / "config.json"
    values = json.loads(path.read_text())
    for wrong, says in (
        ("tanh", "'minglm' is tanh"),
        ({"temperature": 1}, "accepted: num_heads, gelu, dropout, family"),
        ({"gelu": "relu"}, "model.gelu"),
        ({"dropout": "much"}, "model.dropout"),
    ):
        path.write_text(json.dumps(values | {"minglm": wrong}))
        assert says in error_of(GLM.from_original, tmp_path / "hf")
