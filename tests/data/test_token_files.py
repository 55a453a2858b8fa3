"""nanoGPT's .bin: its ids are those of the tokenizer that a setting names, and anything else is refused."""

import numpy as np
import pytest
import tokenizers

from minglm.cli import main
from minglm.data.corpus import build_corpus
from minglm.data.documents import find_files
from minglm.data.token_files import tokenizer_of
from minglm.errors import MinglmError

DOCUMENTS = [f"The {i}th film was a fine one, and not too long." for i in range(60)]


@pytest.fixture
def folder(tmp_path):
    """A tokenizer as GPT-2's: bytes, merges and <|endoftext|>; and a .bin of DOCUMENTS -> the folder."""
    library = tokenizers.Tokenizer(tokenizers.models.BPE())
    library.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = tokenizers.decoders.ByteLevel()
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=300, show_progress=False, initial_alphabet=alphabet)
    library.train_from_iterator(DOCUMENTS, trainer)
    library.add_special_tokens(["<|endoftext|>"])
    library.save(str(tmp_path / "tokenizer.json"))
    end = library.token_to_id("<|endoftext|>")
    ids = [i for text in DOCUMENTS for i in [*library.encode(text).ids, end]]
    np.array(ids, dtype="<u2").tofile(tmp_path / "train.bin")
    return tmp_path


def test_the_documents_of_a_bin_keep_their_ids(folder, monkeypatch):
    tokenizer = tokenizer_of(folder)
    whole = build_corpus(folder / "train.bin", tokenizer, folder / "whole")
    assert [tokenizer.decode(whole.document(i)) for i in range(whole.n_documents)] == DOCUMENTS
    assert whole.n_bytes == sum(map(len, DOCUMENTS)) and tokenizer.special.mask > max(whole.ids)
    monkeypatch.setattr("minglm.data.token_files.CHUNK_IDS", 7)
    assert build_corpus(folder / "train.bin", tokenizer, folder / "x").fingerprint == whole.fingerprint


def test_a_bin_of_another_size_or_vocabulary_is_refused(folder):
    tokenizer, data = tokenizer_of(folder), (folder / "train.bin").read_bytes()
    beyond = [np.array([i], dtype="<u2").tobytes() for i in (tokenizer.special.mask, 65535)]
    for more, reason in [
        (b"x", "bytes; token ids of two bytes each are accepted"),
        (beyond[0], "is no token of text; the tokenizer has ids up to"),
        (beyond[1], "id 65535 at token .* is no token of text"),
    ]:
        (folder / "y.bin").write_bytes(data + more)
        with pytest.raises(MinglmError, match=reason):
            build_corpus(folder / "y.bin", tokenizer, folder / "corpus")


def test_a_bin_is_pretrained_with_its_tokenizer(folder, capsys):
    words = f"--preset page --steps 1 --model.hidden_size 32 --model.num_layers 1 --text {folder}/train.bin"
    command = ["pretrain", *words.split(), "--data.cache", str(folder / "c"), "--out", str(folder / "run")]
    assert main(command) == 2
    assert "train.bin: holds token ids; --tokenizer PATH names" in capsys.readouterr().err
    assert main([*command, "--tokenizer", str(folder)]) == 0
    assert find_files(folder / "train.bin")
