"""The original's tokenizers: ids from files in each published form, against independent implementations.

The vocabularies are small and made here. `sentencepiece` itself is compared, too, if it is installed.
"""

import json
import re
import shutil
import unicodedata

import numpy as np
import pytest
import tokenizers
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from vocabulary_files import MERGES, PIECES, WORDS, bert_file, bpe_files, field, sp_file

from minglm import GLM, GLMConfig, MinglmError, SpecialTokens, Tokenizer, fill, write
from minglm.special import byte_of_character

MASKS = ("[MASK]", "[sMASK]", "[gMASK]")


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """{kind: (path, Tokenizer)} of every published kind, with small vocabularies."""
    where = tmp_path_factory.mktemp("tokenizers")
    paths = {
        "bert": bert_file(where / "bert", WORDS),
        "gpt2": bpe_files(where / "gpt2", MERGES),
        "roberta": bpe_files(where / "roberta", MERGES, roberta=True),
        "chinese": sp_file(where / "cog-pretrain.model", PIECES),
    }
    return {kind: (path, Tokenizer.from_original(path)) for kind, path in paths.items()}


KINDS = ("bert", "gpt2", "roberta", "chinese")


def error_of(function, *args, **kwargs):
    with pytest.raises(MinglmError) as caught:
        function(*args, **kwargs)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    return str(caught.value)


# ---- other implementations


def plain_bert(text, vocab):
    """WordPiece, straight from its description: clean, split, then match the longest piece from the left."""
    text = "".join(
        " " if c.isspace() else c for c in text if c.isspace() or unicodedata.category(c)[0] != "C"
    )
    text = text.replace("\ufffd", "")
    text = "".join(f" {c} " if "\u4e00" <= c <= "\u9fff" else c for c in text).lower()
    text = "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")
    is_mark = [33 <= ord(c) <= 126 and not c.isalnum() or unicodedata.category(c)[0] == "P" for c in text]
    words = "".join(f" {c} " if mark else c for c, mark in zip(text, is_mark, strict=True)).split()
    ids = []
    for word in words:
        pieces, start = [], 0
        while start < len(word):
            fits = [
                n for n in range(start + 1, len(word) + 1) if ("##" if start else "") + word[start:n] in vocab
            ]
            if not fits:
                pieces = [vocab["[UNK]"]]
                break
            pieces.append(vocab[("##" if start else "") + word[start : fits[-1]]])
            start = fits[-1]
        ids += [vocab["[UNK]"]] if len(word) > 100 else pieces
    return ids


def plain_bpe(word, rank):
    """Merge the pair of the lowest rank everywhere until none is left -> list of symbols."""
    symbols = list(word)
    while pairs := [p for p in zip(symbols[:-1], symbols[1:], strict=True) if p in rank]:
        best, merged, i = min(pairs, key=rank.get), [], 0
        while i < len(symbols):
            pair = tuple(symbols[i : i + 2])
            merged.append("".join(pair) if pair == best else symbols[i])
            i += 2 if pair == best else 1
        symbols = merged
    return symbols


def plain_gpt2(text, vocab):
    """The method of GPT-2, for ASCII and Latin letters, whose classes `re` can express."""
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+"
    character = {byte: c for c, byte in byte_of_character().items()}
    rank = {pair: i for i, pair in enumerate(MERGES)}
    words = ("".join(character[b] for b in word.encode()) for word in re.findall(pattern, text))
    return [vocab[symbol] for word in words for symbol in plain_bpe(word, rank)]


def plain_sp(text, pieces=PIECES):
    """SentencePiece's BPE: merge the best score first, the leftmost of equals; adjacent unknowns are one."""
    text = re.sub(" +", " ", text).strip(" ")
    symbols = re.findall("<n>|.", ("▁" + text.replace(" ", "▁")) if text else "", re.S)
    score = {piece: -i for i, piece in enumerate(pieces)}
    while joint := [
        (score[a + b], -i)
        for i, (a, b) in enumerate(zip(symbols, symbols[1:], strict=False))
        if a + b in score
    ]:
        i = -max(joint)[1]
        symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]
    ids = [3 if s == "<n>" else 4 - score[s] if s in score else 0 for s in symbols]
    return [i for n, i in enumerate(ids) if i or n == 0 or ids[n - 1]]


def original_way(text, special, encode, lstrip=True):
    """Special tokens as in the original's EncodeAsIds: split there, strip, and encode each part alone."""
    ids = []
    parts = re.split("(" + "|".join(map(re.escape, special)) + ")", text)
    for i, part in enumerate(parts):
        if i % 2:
            ids.append(special[part])
        else:
            follows = parts[i + 1] if i + 1 < len(parts) else None
            ids += encode(part.rstrip() if lstrip and follows in MASKS else part)
    return ids


english = st.lists(
    st.sampled_from(
        [
            "the",
            "The",
            " the",
            " cat",
            "at",
            "ing",
            "'s",
            "[",
            "MASK",
            "]",
            " ",
            "  ",
            "\n",
            ".",
            "3",
            "é",
            "É",
            "x",
            "-",
            "!",
        ]
    ),
    max_size=15,
).map("".join)
chinese = st.lists(
    st.sampled_from([*PIECES, " ", "  ", "龘", "😀", "<n>", "<", "n", ">", "[", "\n"]), max_size=15
).map(lambda parts: "".join(parts).replace("▁", " "))
with_special = st.lists(
    st.one_of(english, chinese, st.sampled_from([*MASKS, " [MASK]", "[CLS]", "<|endofpiece|>"])), max_size=6
).map("".join)
anything = st.one_of(english, chinese, st.text(max_size=20))


@settings(max_examples=100)
@given(english)
def test_the_ids_of_bert_are_those_of_two_other_implementations(kinds, text):
    path, tokenizer = kinds["bert"]
    vocab = {line: i for i, line in enumerate((path / "vocab.txt").read_text().splitlines())}
    assert tokenizer.encode(text) == plain_bert(text, vocab)
    plain = tokenizers.BertWordPieceTokenizer(vocab, lowercase=True)
    assert tokenizer.encode(text) == plain.encode(text, add_special_tokens=False).ids or "[MASK]" in text
    assert tokenizer.encode_batch([text]) == [tokenizer.encode(text)]


def test_the_ids_of_bert_where_unicode_is_delicate(kinds):
    path, tokenizer = kinds["bert"]
    vocab = {line: i for i, line in enumerate((path / "vocab.txt").read_text().splitlines())}
    texts = [
        "Café CAFÉ cafe\u0301",
        "中国the",
        "a\u200bt\u00adh\0e\ufffd",
        "x" * 100 + " " + "x" * 101,
        "the\u3000cat\u2028sat",
        "«the»",
        "",
        " \t\n",
    ]
    for text in texts:
        assert tokenizer.encode(text) == plain_bert(text, vocab), text
    cafe = vocab["cafe"]
    assert tokenizer.encode(texts[0]) == [cafe, cafe, cafe]


@settings(max_examples=100)
@given(english, st.booleans())
def test_the_ids_of_byte_level_bpe_are_those_of_two_other_implementations(kinds, text, roberta):
    path, tokenizer = kinds["roberta" if roberta else "gpt2"]
    vocab = json.loads((path / "vocab.json").read_text())
    assert tokenizer.encode(text) == plain_gpt2(text, vocab)
    assert tokenizer.encode(text) == tokenizers.ByteLevelBPETokenizer(vocab, MERGES).encode(text).ids
    assert tokenizer.decode(tokenizer.encode(text)) == text


@settings(max_examples=100)
@given(chinese)
def test_the_ids_of_sentencepiece_are_those_of_its_rules(kinds, text):
    tokenizer = kinds["chinese"][1]
    ids = tokenizer.encode(text)
    assert ids == plain_sp(text)
    shown = re.sub(" +", " ", text).strip(" ")
    assert tokenizer.decode(ids) == shown or 0 in ids


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100)
@given(with_special)
def test_special_tokens_are_recognised_as_the_original_does(kinds, kind, text):
    path, _ = kinds[kind]
    tokenizer = Tokenizer.from_original(path, task_masks=True)
    special = {
        s: getattr(tokenizer.special, name)
        for s, name in (
            *zip(MASKS, ("mask", "smask", "gmask"), strict=True),
            ("[CLS]", "cls"),
            ("<|endofpiece|>", "eop"),
        )
    }

    def encode(part):
        return tokenizer.encode(part)

    assert tokenizer.encode(text, special=True) == original_way(text, special, encode, lstrip=kind != "bert")
    assert not set(special.values()) & set(tokenizer.encode(text))  # as text, nothing is a special token


# ---- the ids of the special tokens

PUBLISHED = {  # kind, task masks -> pad, cls, eos, mask, smask, gmask, sop, eop; rows of the table
    ("bert", False): (0, 101, 0, 103, 103, 103, 30522, 30523, 30592),
    ("bert", True): (0, 101, 0, 103, 30525, 30524, 30522, 30523, 30592),
    ("roberta", False): (2, 0, 2, 50264, 50264, 50264, 50265, 50266, 50304),
    ("roberta", True): (2, 0, 2, 50264, 50268, 50267, 50265, 50266, 50304),
    ("gpt2", True): (50256, 50259, 50256, 50260, 50264, 50263, 50257, 50258, 50304),
    ("chinese", True): (50000, 50002, 50000, 50003, 50008, 50009, 50006, 50007, 50048),
}


@pytest.fixture(scope="module")
def full_size(tmp_path_factory):
    """Files with as many tokens as the published ones."""
    where = tmp_path_factory.mktemp("full")
    alphabet = list(byte_of_character())
    merges = [(a, b) for a in alphabet for b in alphabet][:50000]
    return {
        "bert": bert_file(where / "bert", [f"w{i}" for i in range(30522 - 105)]),
        "gpt2": bpe_files(where / "gpt2", merges),
        "roberta": bpe_files(where / "roberta", merges, roberta=True),
        "chinese": sp_file(where / "cog-pretrain.model", [chr(0x20000 + i) for i in range(49996)]),
    }


@pytest.mark.parametrize("kind, task_masks", PUBLISHED)
def test_special_ids_and_rows_are_those_of_the_published_models(full_size, kind, task_masks):
    *ids, rows = PUBLISHED[kind, task_masks]
    published = kind in ("gpt2", "chinese")
    for choice in (task_masks, None)[: 2 if task_masks is published else 1]:
        tokenizer = Tokenizer.from_original(full_size[kind], task_masks=choice)
        assert tuple(vars(tokenizer.special).values()) == tuple(ids) and tokenizer.vocab_size == rows
        assert Tokenizer.from_original(full_size[kind], rows + 128, choice).vocab_size == rows + 128
    lengths, special = tokenizer.byte_lengths(), set(ids)
    assert not lengths[list(special)].any()
    text_vocab, textless = {  # the rows of the file, and the number of those that occur in no text
        "bert": (30522, 104),  # [PAD], [CLS], [SEP], [MASK], 100 unused
        "roberta": (50265, 9),  # <s>, <pad>, </s>, <unk>, <|endoftext|>, three made-up words, <mask>
        "gpt2": (50257, 1),
        "chinese": (50000, 2),  # <|endoftext|>; <s>, </s>
    }[kind]
    assert (lengths > 0).sum() == text_vocab - textless
    assert not lengths[text_vocab:].any()
    assert tokenizer.encode("a[MASK]", special=True)[-1] == ids[3]


def test_an_added_tokens_file_has_the_last_word(kinds, tmp_path):
    bert, gpt2 = (shutil.copytree(kinds[kind][0], tmp_path / kind) for kind in ("bert", "gpt2"))
    n = len((bert / "vocab.txt").read_text().splitlines())
    added = {
        "<|startofpiece|>": n + 5,
        "<|endofpiece|>": n,
        "[gMASK]": n + 2,
        "[sMASK]": n + 3,
        "[MASK]": 103,
        "<other>": 7,
    }
    (bert / "added_tokens.json").write_text(json.dumps(added))
    assert Tokenizer.from_original(bert).special == SpecialTokens(0, 101, 0, 103, n + 3, n + 2, n + 5, n)
    assert Tokenizer.from_original(bert / "vocab.txt").special.gmask == n + 2
    (bert / "added_tokens.json").write_text(json.dumps({"<|startofpiece|>": n, "<|endofpiece|>": n + 1}))
    assert Tokenizer.from_original(bert).special == Tokenizer.from_original(kinds["bert"][0]).special
    for text, says in (
        ("[]", "accepted: a JSON object"),
        ('{"<|startofpiece|>": "1"}', "accepted: a JSON object"),
        ("{", "no tokenizer"),
        ('{"<|startofpiece|>": 300, "<|endofpiece|>": 300}', "each id once"),
        ('{"[sMASK]": 110}', "id 110, which is 'f'"),
        ('{"<|startofpiece|>": 300}', "lacks <|endofpiece|>"),
        ('{"<|startofpiece|>": 10000000000}', "accepted: a JSON object"),
    ):
        (bert / "added_tokens.json").write_text(text)
        assert says in error_of(Tokenizer.from_original, bert)
    (gpt2 / "added_tokens.json").write_text(
        json.dumps(
            {
                s: 300 + i
                for i, s in enumerate(
                    ["<|startofpiece|>", "<|endofpiece|>", "[CLS]", "[MASK]", "[SEP]", "[UNK]"]
                )
            }
        )
    )
    special = Tokenizer.from_original(gpt2).special  # as in a model without task masks
    assert (special.sop, special.eop, special.cls, special.mask, special.smask, special.gmask) == (
        300,
        301,
        302,
        303,
        303,
        303,
    )


# ---- what the rest of minglm needs


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(anything)
def test_what_is_saved_is_the_same_tokenizer(kinds, tmp_path_factory, kind, text):
    folder = tmp_path_factory.mktemp("t")
    tokenizer = kinds[kind][1]
    tokenizer.save_pretrained(folder)
    again = Tokenizer.from_pretrained(folder)
    assert again.special == tokenizer.special and again.fingerprint == tokenizer.fingerprint
    assert (
        again.vocab_size == tokenizer.vocab_size and (again.byte_lengths() == tokenizer.byte_lengths()).all()
    )
    for special in (False, True):
        assert again.encode(text + " [MASK]", special) == tokenizer.encode(text + " [MASK]", special)
    plain = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))  # a standard file
    assert plain.encode(text + " [MASK]", add_special_tokens=False).ids == tokenizer.encode(
        text + " [MASK]", special=True
    )


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100)
@given(anything)
def test_the_text_of_some_ids_begins_the_text_of_more(kinds, kind, text):
    tokenizer = kinds[kind][1]
    ids = tokenizer.encode(text)
    whole = tokenizer.decode(ids)
    assert all(whole.startswith(tokenizer.decode(ids[:n]).rstrip("\ufffd")) for n in range(len(ids)))
    assert tokenizer.byte_lengths()[ids].sum() == len(whole.encode()) + (
        0 if kind in ("gpt2", "roberta") else bool(ids)
    )
    assert (tokenizer.byte_lengths()[ids] > 0).all()  # even unknown text is text
    if kind in ("gpt2", "roberta"):
        assert whole == text


def test_what_a_round_trip_loses(kinds):
    bert, chinese = kinds["bert"][1], kinds["chinese"][1]
    assert bert.decode(bert.encode("The Café,  a ☃!")) == "the cafe , a [UNK] !"
    assert bert.decode(bert.encode("cats sat on mats")) == "cats sat on mats"
    assert chinese.decode(chinese.encode(" 北京是   中国的首都 ")) == "北京是 中国的首都"
    assert chinese.decode(chinese.encode("a龘b<n>c")) == "a \u2047 b<n>c"


def test_sentences_end_at_the_marks_of_each_vocabulary(kinds):
    for kind, text in (("bert", "the cat ."), ("gpt2", "cat!"), ("chinese", "北京...")):
        tokenizer = kinds[kind][1]
        ends = tokenizer.sentence_ends()
        assert ends.shape == (tokenizer.vocab_size,) and ends[tokenizer.encode(text)].tolist()[-1]
        assert not ends[tokenizer.encode("the cat")].any()
        assert not ends[[*vars(tokenizer.special).values()]].any()


@pytest.mark.parametrize("kind", KINDS)
def test_rows_without_text_are_never_written_and_cannot_be_typed(kinds, kind):
    tokenizer = kinds[kind][1]
    model = GLM(GLMConfig(tokenizer.vocab_size, 32, 1, 2, 32))
    torch.manual_seed(0)
    for seed in range(3):
        filled = fill(model, tokenizer, "the [MASK] cat [MASK].", temperature=3.0, seed=seed, max_tokens=6)
        for blank in filled.blanks:
            assert (tokenizer.byte_lengths()[blank.answer.tokens] > 0).all()
        assert filled.text == "".join(piece for piece, _ in filled.pieces) and filled.text.startswith("the")
    assert write(model, tokenizer, "the cat", max_tokens=4).startswith("the cat")
    for string in ("<|spare0|>", "<|startofpiece|>"):
        assert "cannot be typed" in error_of(fill, model, tokenizer, f"the {string} [MASK]")
    is_text = np.flatnonzero(tokenizer.byte_lengths() > 0)
    assert not any("spare" in piece or "unused" in piece for piece in tokenizer.pieces(is_text))


# ---- files that cannot be read


def test_a_path_without_a_tokenizer_names_what_is_accepted(kinds, tmp_path):
    (tmp_path / "empty").mkdir()
    for path in ("empty", "nothing", "x.bin"):
        (tmp_path / "x.bin").write_bytes(b"x")
        message = error_of(Tokenizer.from_original, tmp_path / path)
        assert str(tmp_path / path) in message and "vocab.txt" in message and "merges.txt" in message
    both = shutil.copytree(kinds["bert"][0], tmp_path / "both")
    shutil.copy(kinds["gpt2"][0] / "vocab.json", both)
    assert "holds vocab.txt, vocab.json" in error_of(Tokenizer.from_original, both)
    assert f"{both / 'merges.txt'}: cannot be read: No such file" in error_of(
        Tokenizer.from_original, both / "vocab.json"
    )


def test_a_vocabulary_of_another_kind_is_refused(tmp_path):
    for words, says in (
        (["[UNK]"], "lacks [PAD], [CLS]"),
        (["the", "the"], "'the' comes twice"),
        (["The"], "BERT uncased"),
    ):
        folder = bert_file(tmp_path / "bert", words)
        if words == ["[UNK]"]:
            (folder / "vocab.txt").write_text("[UNK]\nthe\n")
        assert says in error_of(Tokenizer.from_original, folder)
    folder = bert_file(tmp_path / "bert", WORDS)
    used = 105 + len(WORDS) + 2
    assert f"{used} tokens, the model's table has {used - 1} rows" in error_of(
        Tokenizer.from_original, folder, used - 1
    )
    assert "not of one model" in error_of(Tokenizer.from_original, folder, 50304)
    assert Tokenizer.from_original(folder, used).vocab_size == used

    gpt2 = bpe_files(tmp_path / "gpt2", MERGES)
    good = json.loads((gpt2 / "vocab.json").read_text())
    without = {s: i for s, i in good.items() if s != "<|endoftext|>"}
    for vocab, says in (
        ([], "JSON object"),
        ({"a": "0"}, "JSON object"),
        ({"a": 0, "b": 0}, "each id once"),
        ({"a": True}, "JSON object"),
        ({"a": 10**9}, "JSON object"),
        ({"a": -1}, "JSON object"),
        ({"model": {"vocab": good}}, "JSON object"),
        ({}, "lacks"),
        (without, "lacks <|endoftext|>"),
        (without | {"<mask>": 5000}, "lacks <s>, </s>"),
    ):
        (gpt2 / "vocab.json").write_text(json.dumps(vocab))
        assert says in error_of(Tokenizer.from_original, gpt2)
    (gpt2 / "vocab.json").write_text(json.dumps(good))
    for merges, says in (
        ("#version: 0.2\na b c\n", "'a b c' is not two tokens"),
        ("z q\n", "no tokenizer that can be read"),
    ):
        (gpt2 / "merges.txt").write_text(merges)
        assert says in error_of(Tokenizer.from_original, gpt2)

    for how in (
        dict(model_type=1),
        dict(normaliser=field(3, 0)),
        dict(normaliser=field(4, 0)),
        dict(normaliser=field(5, 0)),
        dict(more=[("<0x00>", 0.0, 6)]),
        dict(more=[("<unk2>", 0.0, 2)]),
    ):
        assert "accepted: a SentencePiece model of type BPE" in error_of(
            Tokenizer.from_original, sp_file(tmp_path / "x.model", PIECES, **how)
        )


@pytest.mark.parametrize(
    "kind, name", [("bert", "vocab.txt"), ("gpt2", "vocab.json"), ("gpt2", "merges.txt"), ("chinese", "")]
)
@settings(max_examples=60)
@given(data=st.data())
def test_a_damaged_file_is_one_line_or_a_tokenizer(kinds, tmp_path_factory, kind, name, data):
    source, folder = kinds[kind][0], tmp_path_factory.mktemp("x") / "t"
    if source.is_dir():
        shutil.copytree(source, folder)
    else:
        folder.mkdir()
        name = shutil.copy(source, folder / source.name).name
    file = folder / name
    whole = file.read_bytes()
    cut = data.draw(st.integers(0, len(whole) - 1))
    file.write_bytes(
        data.draw(st.sampled_from([whole[:cut], whole[:cut] + bytes([whole[cut] ^ 129]) + whole[cut + 1 :]]))
    )
    try:
        Tokenizer.from_original(folder)
    except MinglmError as error:
        assert "\n" not in str(error) and str(folder) in str(error)


@pytest.mark.parametrize(
    "kind, name", [("bert", "vocab.txt"), ("gpt2", "vocab.json"), ("gpt2", "merges.txt")]
)
def test_a_byte_order_mark_and_line_ends_of_windows_change_no_vocabulary(kinds, tmp_path, kind, name):
    shutil.copytree(source := kinds[kind][0], folder := tmp_path / "t")
    (folder / name).write_bytes(b"\xef\xbb\xbf" + (source / name).read_bytes().replace(b"\n", b"\r\n"))
    expected = Tokenizer.from_original(source)
    assert Tokenizer.from_original(folder).fingerprint == expected.fingerprint
    expected.save_pretrained(tmp_path)
    file = tmp_path / "tokenizer.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert Tokenizer.from_pretrained(tmp_path).fingerprint == expected.fingerprint


def test_bytes_that_are_no_text_are_an_error_of_one_line(kinds, tmp_path):
    for kind, name in (("bert", "vocab.txt"), ("gpt2", "vocab.json"), ("gpt2", "merges.txt")):
        folder = shutil.copytree(kinds[kind][0], tmp_path / f"{kind}{name}")
        (folder / name).write_bytes(b"\xff\xfe\x00")
        assert str(folder) in error_of(Tokenizer.from_original, folder)
    (tmp_path / "x.model").write_bytes(b"\xff\xfe\x00")
    assert str(tmp_path / "x.model") in error_of(Tokenizer.from_original, tmp_path / "x.model")


# ---- sentencepiece itself, where it is installed


def test_the_ids_and_texts_are_those_of_sentencepiece_itself(tmp_path):
    sp = pytest.importorskip(
        "sentencepiece", reason="sentencepiece is not installed; pip install sentencepiece"
    )
    lines = "起初，神创造天地。神说：要有光，就有了光。\n"
    lines += "the heaven and the earth, 3.14 ＡＢＣ\nAnd God said: ﬁne ①②③!\n"
    (tmp_path / "text.txt").write_text(lines * 30, encoding="utf-8")
    sp.SentencePieceTrainer.train(
        input=str(tmp_path / "text.txt"),
        model_prefix=str(tmp_path / "m"),
        vocab_size=130,
        model_type="bpe",
        user_defined_symbols=["<n>"],
        character_coverage=1.0,
        minloglevel=3,
    )
    theirs = sp.SentencePieceProcessor(model_file=str(tmp_path / "m.model"))
    ours, n = Tokenizer.from_original(tmp_path / "m.model"), len(theirs)
    assert (ours.special.eos, ours.special.cls, ours.special.gmask) == (n, n + 2, n + 9)

    characters = [*"起初神创造天地说要有光就了，。：the and God 3.14ＡＢﬁ①!龘😀\n\t\u3000", "<n>"]

    @settings(max_examples=500)
    @given(st.lists(st.sampled_from(characters), max_size=20))
    def check(parts):
        ids = theirs.encode("".join(parts))
        assert ours.encode("".join(parts)) == ids and ours.decode(ids) == theirs.decode(ids)

    check()
