"""Text to ids and back: nothing is lost, and no text becomes a blank by accident."""

import json
import os

import numpy as np
import pytest
import tokenizers
from conftest import python
from hypothesis import given, settings
from hypothesis import strategies as st

import minglm.data.tokenizer
from minglm.data.tokenizer import MIN_VOCAB_SIZE, Tokenizer
from minglm.errors import MinglmError
from minglm.infilling import SpecialTokens
from minglm.special import SPARE_STRINGS, SPECIAL_STRINGS

TEXTS = [
    "And God said, Let there be light: and there was light. Was it good? It was good!\n" * 20,
    "起初，神创造天地。神说：要有光，就有了光。神看光是好的。\n" * 20,
    "the heaven and the earth ... " * 20,
]
STRINGS = [*SPECIAL_STRINGS.values(), *SPARE_STRINGS]
# any text, with an increased share of likely problems
any_text = st.lists(
    st.one_of(
        st.text(max_size=8),  # hypothesis leaves out lone surrogates, which are not valid UTF-8
        st.sampled_from(
            [
                *STRINGS,
                " ",
                "   ",
                "\n",
                "\r\n",
                "\t",
                "\0",
                "\x85",
                "\u2028",
                "\ufeff",
                "神说",
                "。",
                "…",
                "😀",
                "👩‍👩‍👧",
                "e\u0301",
                "Ġ",
                "Ċ",
                "the light",
                "'s",
                "[MASK",
                "\\xe4",
            ]
        ),
    ),
    max_size=12,
).map("".join)


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(TEXTS, 370)


@settings(max_examples=100)
@given(any_text)
def test_any_text_survives_the_round_trip_byte_for_byte(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.byte_lengths()[ids].sum() == len(text.encode())
    assert all(i >= 24 for i in ids)  # a corpus never contains a special token
    assert tokenizer.encode_batch([text, text + "x"]) == [ids, tokenizer.encode(text + "x")]


@settings(max_examples=100)
@given(any_text)
def test_our_decoder_agrees_with_the_library_s(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer._library.decode(ids, skip_special_tokens=False) == tokenizer.decode(ids)
    half = ids[: len(ids) // 2]  # may end inside a character
    assert tokenizer._library.decode(half, skip_special_tokens=False) == tokenizer.decode(half)


def test_the_vocabulary_begins_with_the_special_tokens_in_their_order(tokenizer):
    assert tokenizer.special == SpecialTokens()
    assert tokenizer.pieces(range(24)) == [
        "[PAD]",
        "[CLS]",
        "<|endoftext|>",
        "[MASK]",
        "[sMASK]",
        "[gMASK]",
        "<|startofpiece|>",
        "<|endofpiece|>",
        *(f"<|spare{i}|>" for i in range(16)),
    ]
    assert tokenizer.decode([1, 3, 7]) == "[CLS][MASK]<|endofpiece|>"
    assert tokenizer.vocab_size == 370


@pytest.mark.parametrize("string", STRINGS)
def test_a_special_token_is_recognised_only_when_asked_for(tokenizer, string):
    text = f"light{string}good"
    as_text, as_token = tokenizer.encode(text), tokenizer.encode(text, special=True)
    assert STRINGS.index(string) in as_token and not any(i < 24 for i in as_text)
    assert tokenizer.encode(text) == as_text  # the other call changed nothing
    tokenizer.encode(text, special=True)
    assert tokenizer.encode_batch([text]) == [as_text]


def test_a_mask_strips_the_blank_on_its_left_and_only_there(tokenizer):
    light, good = tokenizer.encode("light"), tokenizer.encode(" good")
    for string, id in (("[MASK]", 3), ("[sMASK]", 4), ("[gMASK]", 5)):
        assert tokenizer.encode(f"light {string} good", special=True) == [*light, id, *good]
        assert tokenizer.encode(f"light{string} good", special=True) == [*light, id, *good]
    blank = tokenizer.encode(" ")
    assert tokenizer.encode("light <|endoftext|> good", special=True) == [*light, *blank, 2, *good]
    assert tokenizer.encode("[MASK]", special=True) == [3]  # no special tokens are added


def test_the_smallest_vocabulary_is_bytes_and_says_so_when_it_would_be_smaller():
    assert MIN_VOCAB_SIZE == 280
    bytes_only = Tokenizer.train(["no merges"], 280)
    assert bytes_only.vocab_size == 280 and len(bytes_only.encode("神")) == 3
    assert sorted(bytes_only._token_bytes[24:]) == [bytes([b]) for b in range(256)]
    with pytest.raises(MinglmError, match="279.*280"):
        Tokenizer.train(["no merges"], 279)


def test_the_example_of_the_docstring():
    tokenizer = Tokenizer.train(["aa aa"], 281)
    assert tokenizer.encode("aaa") == [280, 88] and tokenizer.pieces([280, 88]) == ["aa", "a"]


def test_training_twice_gives_the_same_file_in_any_process(tokenizer, tmp_path):
    assert Tokenizer.train(iter(TEXTS), 370).fingerprint == tokenizer.fingerprint
    assert Tokenizer.train(TEXTS[:1], 370).fingerprint != tokenizer.fingerprint
    program = (
        "import sys, json; from minglm.data.tokenizer import Tokenizer; "
        "print(Tokenizer.train(json.load(sys.stdin), 370).fingerprint)"
    )
    environment = {"PYTHONHASHSEED": "7", "RAYON_NUM_THREADS": "1"}
    other = python("-c", program, input=json.dumps(TEXTS), env=environment)
    assert other.stdout.strip() == tokenizer.fingerprint, other.stderr


def test_training_reads_no_further_than_its_bounds(monkeypatch):
    def texts(text, taken):
        for _ in range(1000):
            taken.append(text)
            yield text

    monkeypatch.setattr(minglm.data.tokenizer, "TRAIN_CHARS", 1000)
    monkeypatch.setattr(minglm.data.tokenizer, "TRAIN_CHARS_UNBROKEN", 300)
    words, clauses = [], []
    read = list(minglm.data.tokenizer._enough_text(texts("in the beginning " * 3, words)))
    assert sum(map(len, read)) == 1000 and len(words) < 1000
    # 35 characters without a space
    read = list(minglm.data.tokenizer._enough_text(texts("起初神创造天地" * 5, clauses)))
    assert 300 <= sum(map(len, read)) < 400 and len(clauses) < 1000


def test_a_saved_tokenizer_is_the_same_one_and_a_standard_file(tokenizer, tmp_path):
    tokenizer.encode("x", special=False)
    tokenizer.save_pretrained(tmp_path / "new" / "folder")
    again = Tokenizer.from_pretrained(tmp_path / "new" / "folder")
    plain = tokenizers.Tokenizer.from_file(str(tmp_path / "new" / "folder" / "tokenizer.json"))
    text = "And God [MASK] the light。 <|endoftext|> 神"
    assert again.fingerprint == tokenizer.fingerprint and again.special == tokenizer.special
    assert again.encode(text) == tokenizer.encode(text)
    assert plain.encode(text).ids == again.encode(text, special=True) != again.encode(text)
    assert os.listdir(tmp_path / "new" / "folder") == ["tokenizer.json"]


def test_settings_that_a_file_carries_neither_cut_nor_pad_a_text(tokenizer, tmp_path):
    library = tokenizers.Tokenizer.from_str(tokenizer._library.to_str())
    library.enable_truncation(3)
    library.enable_padding(length=10)
    library.save(str(tmp_path / "tokenizer.json"))
    again = Tokenizer.from_pretrained(tmp_path)
    assert again.encode_batch(["xyzzy xyzzy", "a"]) == tokenizer.encode_batch(["xyzzy xyzzy", "a"])


def test_a_file_that_is_no_tokenizer_is_named(tokenizer, tmp_path):
    with pytest.raises(MinglmError, match="tokenizer.json.*No such file"):
        Tokenizer.from_pretrained(tmp_path)
    path = tmp_path / "tokenizer.json"
    whole = tokenizer._library.to_str()
    other = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({s: i for i, s in enumerate(STRINGS)} | {"神": 24}, STRINGS[0])
    )
    for broken, reason in [
        (b"{", "not a tokenizer.json"),
        (whole[: len(whole) // 2].encode(), "not a tokenizer.json"),
        (b"\xff", "not a tokenizer.json"),
        (b"", "not a tokenizer.json"),
        (tokenizers.Tokenizer(tokenizers.models.BPE()).to_str().encode(), r"lacks \[PAD\]"),
        (whole.replace("[MASK]", "[NASK]").encode(), r"lacks \[MASK\],"),
        (other.to_str().encode(), "byte-level"),
    ]:
        path.write_bytes(broken)
        with pytest.raises(MinglmError, match=reason) as error:
            Tokenizer.from_pretrained(tmp_path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)
    path.write_text("a file where a folder should be")
    with pytest.raises(MinglmError, match="cannot be written"):
        tokenizer.save_pretrained(path)


def test_a_vocabulary_without_pad_or_task_masks_has_others_in_their_place(tokenizer):
    def without(*strings):
        text = tokenizer._library.to_str()
        for string in strings:
            text = text.replace(string, string.replace("[", "(").replace("]", ")"))
        return Tokenizer(tokenizers.Tokenizer.from_str(text))

    assert without("[PAD]").special == SpecialTokens(pad=2)
    one_mask = without("[sMASK]", "[gMASK]")
    assert one_mask.special == SpecialTokens(smask=3, gmask=3)
    for string in ("[sMASK]", "[gMASK]"):
        assert one_mask.decode(one_mask.encode(f"light {string} good")) == f"light {string} good"
        with pytest.raises(
            MinglmError, match=rf"text: \{string} means nothing to this model; .*\[MASK\] is accepted"
        ):
            one_mask.encode(f"light {string} good", special=True)


def test_sentence_ends_are_the_tokens_that_hold_a_mark(tokenizer):
    ends = tokenizer.sentence_ends()
    assert ends.shape == (370,) and ends.dtype == bool and not ends[:24].any()
    for text in (".", "?", "!", "\n", " ...", "。"):
        assert ends[tokenizer.encode(text)].any(), text
    for text in ("light", ",", ":", ";", " ", "，", "神", "and there was light"):
        assert not ends[tokenizer.encode(text)].any(), text
    # one token here; three in a vocabulary of bytes, none of which ends a sentence
    (full_stop,) = tokenizer.encode("。")
    assert ends[full_stop]
    bytes_only = Tokenizer.train([""], 280)
    assert not bytes_only.sentence_ends()[bytes_only.encode("。")].any()


def test_openers_lack_the_leading_space_where_there_is_such_a_token(tokenizer):
    openers = tokenizer.openers()
    assert openers.shape == (370,) and openers[:24].tolist() == list(range(24))
    (spaced,), (bare,) = tokenizer.encode(" the"), tokenizer.encode("the")
    assert openers[spaced] == openers[bare] == bare
    alone = [i for i in range(24, 370) if tokenizer.decode([i]).startswith(" ") and openers[i] == i]
    strings = {tokenizer.decode([i]) for i in range(24, 370)}
    assert alone and not any(tokenizer.decode([i])[1:] in strings for i in alone)


def test_lengths_in_bytes_count_text_only(tokenizer):
    lengths = tokenizer.byte_lengths()
    assert lengths.shape == (370,) and lengths.dtype == np.int64
    assert not lengths[:24].any() and (lengths[24:] > 0).all()
    assert lengths[tokenizer.encode("né", special=True)].sum() == 3
    lengths[:] = 0  # the caller's own copy
    assert tokenizer.byte_lengths().any()


def test_pieces_can_be_read_by_people():
    tokenizer = Tokenizer.train([" light light"], 290)
    assert tokenizer.pieces(tokenizer.encode(" light")) == [" light"]
    assert tokenizer.pieces(tokenizer.encode("é\n\0")) == ["\\xc3", "\\xa9", "\\n", "\\x00"]
    assert tokenizer.decode(tokenizer.encode("é")[:1]) == "\ufffd"


def test_ids_and_texts_that_cannot_be_are_refused(tokenizer):
    for id in (-1, 370):
        with pytest.raises(MinglmError, match=f"{id} given, 0 to 369"):
            tokenizer.decode([id])
    for call in (
        tokenizer.encode,
        lambda t: tokenizer.encode_batch(["ok", t]),
        lambda t: Tokenizer.train([t], 300),
    ):
        with pytest.raises(MinglmError, match=r"udc80.*character 2"):
            call("ab\udc80")
        with pytest.raises(TypeError, match="bytes given"):
            call(b"ab")


def test_numpy_ids_decode_too(tokenizer):
    ids = np.array(tokenizer.encode("And God said"), dtype=np.uint16)
    assert tokenizer.decode(ids) == "And God said"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_importing_encoding_and_forking_print_nothing(monkeypatch):
    program = (
        "import os; from minglm.data.tokenizer import Tokenizer\n"
        "t = Tokenizer.train(['a b c'] * 100, 300); t.encode_batch(['a b c'] * 1000)\n"
        "if os.fork() == 0: t.encode_batch(['a b c'] * 1000); os._exit(0)\n"
        "os._exit(os.wait()[1])"
    )
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    run = python("-c", program)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
