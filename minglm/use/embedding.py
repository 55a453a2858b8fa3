"""A text as one vector: Part A alone, which sees itself left and right, as BERT is used.

Nothing is blanked and nothing is written: the mask is all Part A (a model trained as gpt reads from left to
right, as it learned to), and the states of the last layer are averaged.
"""

import numpy as np
import torch
import torch.nn.functional as F

from ..batch import micro_batches, pack
from ..checks import check_pair, finite
from ..errors import MinglmError, note
from ..families import text_example
from ..modules import evaluating
from .generate import texts_of

POOLS = ("mean", "first")


def embed(model, tokenizer, texts, *, pool="mean", batch_tokens=8192):
    """One vector per text: (n, C) float32, in the order of the texts; of a text alone its vector, (C,).

    pool: "mean" of the states of the text's tokens, or "first", the state of cls. A text longer than the
    model reads keeps its beginning, with one note that counts such texts. Raises MinglmError for a text that
    is empty, for states that are not finite, and for "first" of a model trained as gpt, whose cls sees
    nothing but itself.
    """
    if pool not in POOLS:
        raise MinglmError(f"pool: {pool!r} is not accepted; {' or '.join(POOLS)} is")
    family = model.config.family
    if family == "gpt" and pool == "first":
        raise MinglmError("pool: the first token of a model trained as gpt sees no other; mean is accepted")
    check_pair(model, tokenizer)
    special, room = tokenizer.special, model.config.max_positions
    examples, cut = [], 0
    for number, text in enumerate(texts_of(texts, "texts")):
        ids = tokenizer.encode(text)
        if not ids:
            raise MinglmError(f"texts: number {number} is empty; at least one character is needed")
        cut += len(ids) > room - 2
        examples.append(text_example(family, [special.cls, *ids[: room - 2], special.eos], special))
    if cut:
        note(
            f"{cut} of {len(examples)} texts are longer than this model reads ({room} tokens); their ends were cut"
        )
    found, device = [torch.zeros(0, model.config.hidden_size)], next(model.parameters()).device
    model = evaluating(model)
    for run in micro_batches(examples, batch_tokens) if examples else []:
        batch = pack(run).to(device)
        with torch.inference_mode():
            states = model.hidden(
                batch.tokens, batch.position_ids, batch.block_position_ids, batch.mask
            )  # (N, C)
        samples = states.float().split([len(e.tokens) for e in run])
        vectors = torch.stack([x[0] if pool == "first" else x[1:-1].mean(0) for x in samples]).cpu()
        found.append(finite(vectors, "the model's states"))
    return found[1][0] if isinstance(texts, str) else torch.cat(found)


def most_similar(vectors, query, top=10):
    """The texts whose vectors point most nearly where the query's does: a list of (index, cosine), best first.

    vectors: (n, C), query: (C,). What all vectors have in common is taken away first: untrained directions of
    a small model make any two texts look alike (Mu and Viswanath 2018, arXiv 1702.01417). Raises MinglmError
    for vectors that are not finite, and for a top below 1.
    """
    if not isinstance(top, int) or top < 1:
        raise MinglmError(f"top: {top!r} is not accepted; a whole number >= 1 is")
    mean = vectors.mean(0)
    cosine = finite(F.cosine_similarity(vectors - mean, (query - mean)[None], dim=1), "vectors and query")
    best = np.argsort(-cosine.numpy(), kind="stable")[:top]
    return [(int(i), float(cosine[i])) for i in best]
