"""A text as one vector: the text is Part A, which is bidirectional, and there is no Part B, as in BERT.

Nothing is blanked and nothing is written; the states of the last layer are averaged. (A model trained as gpt
reads from left to right, as it learned to.)
"""

import numpy as np
import torch
import torch.nn.functional as F

from ..batch import columns, micro_batches, pack
from ..checks import check_pair, finite
from ..errors import MinglmError, note
from ..families import text_example
from ..modules import device_of, evaluating
from .generate import texts_of

POOLS = ("mean", "first")


def embed(model, tokenizer, texts, *, pool="mean", batch_tokens=8192):
    """One vector per text: (n, C) float32, in the order of the texts; for a single text its vector, (C,).

    pool: "mean" of the states of the text's tokens, or "first", the state of cls. A text longer than the
    model reads is cut at its end, with one note that counts such texts. Raises MinglmError for an empty text,
    for states that are not finite, and for "first" with a model trained as gpt, whose cls sees only itself.
    """
    if pool not in POOLS:
        raise MinglmError(f"pool: {pool!r} is not accepted; {' or '.join(POOLS)} is")
    check_pair(model, tokenizer)
    family = model.config.family
    if family == "gpt" and pool == "first":
        raise MinglmError("pool: the first token of a model trained as gpt sees no other; mean is accepted")
    special, room = tokenizer.special, model.config.max_positions
    examples, cut = [], 0
    for number, text in enumerate(texts_of(texts, "texts")):
        ids = tokenizer.encode(text)
        if not ids:
            raise MinglmError(f"texts: number {number} is empty; at least one character is needed")
        cut += len(ids) > room - 2
        examples.append(text_example(family, [special.cls, *ids[: room - 2], special.eos], special))
    if cut:
        what = f"{cut} of {len(examples)} texts are longer than this model reads ({room} tokens)"
        note(f"{what}; their ends were cut")
    parts, device, model = [torch.zeros(0, model.config.hidden_size)], device_of(model), evaluating(model)
    for run in micro_batches(examples, batch_tokens) if examples else []:
        batch = pack(run).to(device)
        with torch.inference_mode():
            states = model(*columns(batch), states=True).float()  # (N, C)
        samples = states.split([len(e.tokens) for e in run])
        vectors = torch.stack([x[0] if pool == "first" else x[1:-1].mean(0) for x in samples]).cpu()
        parts.append(finite(vectors, "the model's states"))
    return parts[1][0] if isinstance(texts, str) else torch.cat(parts)


def most_similar(vectors, query, top=10):
    """The `top` vectors most similar to a query's: a list of (index, cosine), best first.

    vectors: (n, C), query: (C,). The mean of all vectors is subtracted first: in a small model, what they
    have in common makes any two texts look alike (Mu and Viswanath 2018, arXiv 1702.01417). Raises
    MinglmError for vectors that are not finite, and for a top below 1.
    """
    if not isinstance(top, int) or top < 1:
        raise MinglmError(f"top: {top!r} is not accepted; a whole number >= 1 is")
    mean = vectors.mean(0)
    cosine = finite(F.cosine_similarity(vectors - mean, (query - mean)[None], dim=1), "vectors and query")
    best = np.argsort(-cosine.numpy(), kind="stable")[:top]
    return [(int(i), float(cosine[i])) for i in best]
