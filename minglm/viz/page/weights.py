"""A model as JSON for the page: its weights, or for a larger model a recording of it filling one text.

A live model is quantised: each row of a matrix becomes int8 with one scale, so a million weights take 1.4 MB
of base64. A recording has the most likely tokens of each row, the same after every layer (a logit lens), and
the attention weights. The model itself is not changed.
"""

import base64
import json
import math

import numpy as np
import torch

from ...batch import pack
from ...checks import check_pair, finite
from ...errors import MinglmError
from ...files.weights import check_plain
from ...infilling import Example
from ...mask import keys_of_row
from ...modules import evaluating
from ...special import SPECIAL_STRINGS, byte_of_character
from ...use.drafts import Dials, Draft
from ...use.generate import fill

MAX_LIVE_PARAMETERS = 8_000_000  # 11 MB of base64, and about a tenth of a second per token
MAX_ATTENTION = 2_500_000  # characters of base64
MAX_SPEC = 3_700_000  # characters of JSON of a recording: its whole page stays under 4 MB
TOP, LENS_TOP = 10, 5  # most likely tokens kept for a row's output, and for an earlier layer


def model_spec(model, tokenizer, text="", name=""):
    """Return the dict that `glmModel` of glm.js reads: `live_spec` of a small model, else `recorded_spec`."""
    make = live_spec if model.num_parameters() <= MAX_LIVE_PARAMETERS else recorded_spec
    spec = make(model, tokenizer, text, name)
    Draft(model, tokenizer, text, Dials())  # refuses a text that is too long, which the page would refuse
    return spec


def live_spec(model, tokenizer, text="", name="", families=("glm",)):
    """Return the quantised weights and the tokenizer. text: the page's first text.

    families: those that are accepted; the page's lab fills blanks as glm alone does. tensors: [name, rows,
    columns], 0 columns for a vector. levels: base64 of the int8 of all matrices, one after the other. scales:
    base64 of float32, for each tensor the scales of its rows, or the vector itself.
    """
    _check(model, tokenizer, families)
    check_plain(model)  # because the page computes with the weights
    tensors, levels, scales = [], [], []
    for key, value in model.state_dict().items():
        value = value.detach().float().cpu()
        tensors.append([key, len(value), value[0].numel() if value.dim() == 2 else 0])
        level, scale = quantised(value) if value.dim() == 2 else (None, value)
        levels += [] if level is None else [level.numpy().ravel()]
        scales.append(scale.numpy().ravel())
    spec = _head("live", model, tokenizer, text, name) | {"tensors": tensors}
    parts = {"levels": np.concatenate(levels), "scales": np.concatenate(scales).astype("<f4")}
    return spec | {key: _base64(array) for key, array in parts.items()}


def quantised(matrix):
    """Return ((R, C) int8, (R, 1) float32), whose product is nearly the (R, C) matrix.

    The largest weight of each row becomes 127 or -127.
    """
    scale = matrix.abs().amax(1, keepdim=True) / 127
    level = (matrix / scale.clamp(min=torch.finfo(torch.float32).tiny)).round()
    return level.to(torch.int8), scale


def recorded_spec(model, tokenizer, text, name=""):
    """Return what the page shows of `fill(model, tokenizer, text)`, blank by blank.

    chosen: (T - part_a_len) tokens, the one after each row of Part B. lens: for layers 0 (the embeddings) ..
    num_layers and each such row, [log P(chosen), its rank, most likely token, its P, second, its P, ...].
    attention: for each layer base64 of bytes, round(255 * weight) of what each row sees, row by row, head by
    head. Layers that would make the page too large are left out, the middle ones first: `dropped`.
    """
    _check(model, tokenizer)
    Draft(
        model, tokenizer, text, Dials()
    )  # refuses a text that is too long, because the page shows all of it
    model = evaluating(model)
    filled = fill(model, tokenizer, text)
    example, chosen = _whole_reading(tokenizer, text, filled)
    states, attention = _look_inside(model, example)
    lens = _lens(model, tokenizer, states, chosen)
    spec = _head("recorded", model, tokenizer, text, name)
    tokens = tokenizer.encode(text, special=True)
    spec["recording"] = {"tokens": tokens, "chosen": chosen, "lens": lens, "attention": attention}
    budget = min(MAX_ATTENTION, MAX_SPEC - _size(spec) + _size(attention))
    dropped = {"attention": _thin_out(attention, budget)}
    dropped["lens"] = _thin_out(lens, MAX_SPEC - _size(spec) + _size(lens), keep=1)  # the output stays
    dropped["attention"] = [layer + 1 for layer in dropped["attention"]]  # layer 0 of the lens: embeddings
    spec["dropped"] = dropped
    if _size(spec) > MAX_SPEC:
        raise MinglmError(f"text: a page of it would take {_size(spec):,} bytes; {MAX_SPEC:,} are accepted")
    return spec


def tokenizer_spec(tokenizer):
    """Return what `GlmTokenizer` of glm.js reads: it decodes any tokenizer, but encodes only byte-level BPE.

    tokens: V strings, the bytes of each token in GPT-2's alphabet (of a special one: itself). merges: [left,
    right, left, ...], ids in order of rank, or None if the page cannot cut texts exactly as this tokenizer
    does. added: for each special token [id, whether it absorbs the white space on its left]. lone_blank:
    whether decoding drops a space at the beginning.
    """
    character_of = {byte: character for character, byte in byte_of_character().items()}
    is_text = tokenizer.byte_lengths() > 0
    library = json.loads(tokenizer._library.to_str())
    added = {token["id"]: token for token in library["added_tokens"]}
    return {
        "tokens": [
            "".join(character_of[byte] for byte in tokenizer._bytes_of(i))
            if is_text[i]
            else tokenizer._bytes_of(i).decode()
            for i in range(tokenizer.vocab_size)
        ],
        "merges": _merges(library),
        "added": [[i, added[i]["lstrip"]] for i in (~is_text).nonzero()[0].tolist()],
        "special": {key: getattr(tokenizer.special, key) for key in SPECIAL_STRINGS},
        "lone_blank": not tokenizer._is_byte_level,
    }


def _merges(library):
    """Return the merges of a byte-level BPE as `Tokenizer.train` makes it, as a flat list of ids, or None."""
    model, before = library["model"], library["pre_tokenizer"] or {}
    cut = (before.get("type"), before.get("add_prefix_space"), before.get("use_regex", True))
    extras = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges")
    added = library["added_tokens"]
    plain = (
        model.get("type", "BPE") == "BPE"
        and library["normalizer"] is None
        and cut == ("ByteLevel", False, True)
        and not any(model.get(key) for key in extras)
        and all(t["special"] and not t["rstrip"] and not t["single_word"] for t in added)
        and byte_of_character().keys() <= model["vocab"].keys()
    )
    if not plain:
        return None
    pairs = (pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"])
    return [model["vocab"][part] for pair in pairs for part in pair]


def _head(kind, model, tokenizer, text, name):
    """Return the fields that both kinds of spec share."""
    fields = ("vocab_size", "hidden_size", "num_layers", "num_heads", "max_positions", "gelu")
    config = {field: getattr(model.config, field) for field in fields}
    return {
        "kind": kind,
        "name": name,
        "text": text,
        "config": config,
        "parameters": model.num_parameters(),
        "fingerprint": tokenizer.fingerprint,
        "tokenizer": tokenizer_spec(tokenizer),
    }


def _check(model, tokenizer, families=("glm",)):
    """Raise MinglmError for a model that cannot be shown."""
    check_pair(model, tokenizer)
    if (family := model.config.family) not in families:
        accepted = " or ".join(families)
        raise MinglmError(
            f"model: it was trained as {family}; a page shows models that were trained as {accepted}"
        )
    for name, tensor in model.state_dict().items():
        if not tensor.isfinite().all():
            raise MinglmError(f"{name}: holds values that are not finite; a page cannot show such a model")


def _whole_reading(tokenizer, text, filled):
    """Return the rows that `fill` has read at its end, as an Example, and what it chose after each of Part B.

    `fill` does not say what it chose after the last row of a blank: there it is the possible stops, () at the
    limit.
    """
    special, tokens = tokenizer.special, tokenizer.encode(text, special=True)
    part_a = [special.cls, *tokens] + ([] if tokens[-1] == special.gmask != special.mask else [special.eos])
    rows, chosen = [(token, i, 0) for i, token in enumerate(part_a)], []
    positions = (i + 1 for i, token in enumerate(tokens) if token in special.masks)
    for position, blank in zip(positions, filled.blanks, strict=True):
        answer = blank.answer.tokens
        rows += [(token, position, 1 + j) for j, token in enumerate([special.sop, *answer])]
        stops = (special.eop, special.eos) if tokens[position - 1] == special.gmask else (special.eop,)
        chosen += [*answer, stops if blank.answer.complete else ()]
    columns = [np.array(column, dtype=np.int64) for column in zip(*rows, strict=True)]
    targets = np.zeros(len(chosen), dtype=np.int64)  # nothing is learned here
    return Example(*columns, targets, len(part_a), len(rows), "document", special), chosen


@torch.no_grad()
def _look_inside(model, example):
    """Run a sample layer by layer. Returns Part B's states before and after each layer, and all attention."""
    batch = pack([example]).to(next(model.parameters()).device)
    A, T = example.part_a_len, len(example.tokens)
    sees = torch.arange(T) < keys_of_row(torch.arange(T), A)[:, None]  # (T, T)
    x = model.embed(batch.tokens, batch.position_ids, batch.block_position_ids)
    states, attention = [x[A:]], []
    for number, layer in enumerate(model.layers):
        q, k = model.queries_and_keys(x, number)  # each (T, H, D)
        scores = torch.einsum("qhd,khd->hqk", q, k).float().cpu() / math.sqrt(q.shape[-1])
        weights = finite(scores).masked_fill(~sees, -math.inf).softmax(-1)  # (H, T, T)
        levels = (weights[:, sees] * 255).round().byte().numpy()
        attention.append({"layer": number, "base64": _base64(levels)})
        x = layer(x, batch.mask, model.backend)
        states.append(x[A:])
    return states, attention


@torch.no_grad()
def _lens(model, tokenizer, states, chosen):
    """Apply final norm and head to every state, see `recorded_spec`; completes `chosen`."""
    is_text, lens = torch.from_numpy(tokenizer.byte_lengths() > 0), []
    for number, x in reversed(list(enumerate(states))):
        log_p = finite(model.head(model.final_norm(x)).float().cpu().log_softmax(-1))  # (T - A, V)
        if number == len(model.layers):
            for row, stops in enumerate(chosen):
                if isinstance(stops, tuple):  # the last row of a blank
                    candidates = (
                        list(stops) or is_text.nonzero()[:, 0].tolist()
                    )  # a token if the limit was met
                    chosen[row] = max(candidates, key=log_p[row].tolist().__getitem__)
        target = log_p.gather(1, torch.tensor(chosen)[:, None])  # (T - A, 1)
        rank = 1 + (log_p > target).sum(1)
        top = log_p.topk(min(TOP if number == len(model.layers) else LENS_TOP, log_p.shape[1]))
        rows = [[round(x, 4), n] for x, n in zip(target[:, 0].tolist(), rank.tolist(), strict=True)]
        for row, ids, ps in zip(rows, top.indices.tolist(), top.values.exp().tolist(), strict=True):
            for token, p in zip(ids, ps, strict=True):
                row += [token, float(f"{p:.4g}")]
        lens.append({"layer": number, "rows": rows})
    return lens[::-1]


def _thin_out(layers, budget, keep=0):
    """Drop layers from the middle until they take at most `budget` characters. Returns the dropped ones."""
    dropped = []
    while len(layers) > keep and _size(layers) > budget:
        dropped.append(layers.pop((len(layers) - 1) // 2)["layer"])
    return sorted(dropped)


def _size(value):
    return len(json.dumps(value, separators=(",", ":")))


def _base64(array):
    return base64.b64encode(array.tobytes()).decode()
