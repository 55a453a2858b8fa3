"""A text as one vector: Part A alone, which sees itself left and right, as BERT is used.

Nothing is blanked and nothing is written: the mask is all Part A (a model trained as gpt reads from left to right, as it
learned to), and the states of the last layer are averaged.
"""

import numpy as np
import torch
import torch.nn.functional as F

from .arguments import add_model
from .batch import micro_batches, pack
from .errors import MinglmError, note
from .generate import evaluating
from .layout import text_example

POOLS = ("mean", "first")


def embed(model, tokenizer, texts, *, pool="mean", batch_tokens=8192):
    """One vector a text: (n, C) float32, in the order of the texts.

    pool: "mean" of the states of the text's tokens, or "first", the state of cls. A text longer than the model reads keeps
    its beginning, with one note that counts such texts. Raises MinglmError for a text that is empty, and for "first" of a
    model trained as gpt, whose cls sees nothing but itself.
    """
    if pool not in POOLS:
        raise MinglmError(f"pool: {pool!r} is not accepted; {' or '.join(POOLS)} is")
    family = model.config.family
    if family == "gpt" and pool == "first":
        raise MinglmError("pool: the first token of a model trained as gpt sees no other; mean is accepted")
    special, room = tokenizer.special, model.config.max_positions
    examples, cut = [], 0
    for number, text in enumerate(texts):
        ids = tokenizer.encode(text)
        if not ids:
            raise MinglmError(f"texts: number {number} is empty; at least one character is needed")
        cut += len(ids) > room - 2
        examples.append(text_example(family, [special.cls, *ids[: room - 2], special.eos], special))
    if cut:
        note(f"{cut} of {len(examples)} texts are longer than this model reads ({room} tokens); their ends were cut")
    found, device = [torch.zeros(0, model.config.hidden_size)], next(model.parameters()).device
    for run in micro_batches(examples, batch_tokens) if examples else []:
        batch = pack(run).to(device)
        with torch.inference_mode(), evaluating(model):
            states = model.hidden(batch.tokens, batch.position_ids, batch.block_position_ids, batch.mask)  # (N, C)
        samples = states.float().split([len(e.tokens) for e in run])
        found.append(torch.stack([x[0] if pool == "first" else x[1:-1].mean(0) for x in samples]).cpu())
    return torch.cat(found)


def most_similar(vectors, query, top=10):
    """The texts whose vectors point most nearly where the query's does: a list of (index, cosine), best first.

    vectors: (n, C), query: (C,). What all vectors have in common is taken away first: untrained directions of a small model
    make any two texts look alike (Mu and Viswanath 2018, arXiv 1702.01417).
    """
    mean = vectors.mean(0)
    cosine = F.cosine_similarity(vectors - mean, (query - mean)[None], dim=1)
    best = np.argsort(-cosine.numpy(), kind="stable")[:top]
    return [(int(i), float(cosine[i])) for i in best]


# ---- the command -----------------------------------------------------------------------------------------------------------


def similar_command(args):
    from .corpus import find_files, read_documents
    from .runs import load

    texts = [text for path in find_files(args.file)
             for text in read_documents(path, documents="line", text_key=args.text_key) if text]  # fmt: skip
    if len(texts) < 2:
        raise MinglmError(f"{args.file}: {len(texts)} texts in it; at least two lines are needed")
    model, tokenizer = load(args.model)
    vectors = embed(model, tokenizer, [*texts, args.query], pool=args.pool)
    for i, cosine in most_similar(vectors[:-1], vectors[-1], args.top):
        print(f"{cosine:6.3f}  {i + 1:>6}  {' '.join(texts[i].split())}")


def add_similar(commands):
    about = "the lines of a file that are most like a text, by the model's own vectors"
    p = commands.add_parser("similar", help=about, description=f"Prints {about}: cosine, number of the line, the line.")
    p.set_defaults(run=similar_command)
    p.add_argument("file", metavar="FILE", help="a text a line: .txt, .jsonl, also .xz and .gz; empty lines do not count")
    p.add_argument("query", metavar="QUERY", help="the text to compare with")
    add_model(p)
    p.add_argument("--top", type=int, default=10, metavar="N", help="how many lines (default 10)")
    p.add_argument("--pool", default="mean", choices=POOLS, help="mean of the tokens' states (default), or the first token's")
    p.add_argument("--text-key", default="text", metavar="KEY", help="key of the text in a line of .jsonl (default text)")
