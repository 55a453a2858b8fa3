"""`minglm fill`, `minglm write` and `minglm similar`: use a model on a text."""

import sys

from ..errors import MinglmError
from ..files import strict_json
from ..use.models import load
from .arguments import add_model, positive


def fill_command(args):
    from ..use.generate import fill
    from ..viz.columns import charset_of, highlight, wants_colour

    model, tokenizer = load(args.model)
    dials = sampling(args) | dict(top=args.top)
    if args.order:
        from ..viz.typed import parse_order

        blanks = sum(token in tokenizer.special.masks for token in tokenizer.encode(args.text, special=True))
        dials["order"] = parse_order(args.order, blanks)
    if args.json:
        print(strict_json.dumps(as_json(fill(model, tokenizer, args.text, **dials)), ensure_ascii=False))
        return
    look = dict(colour=wants_colour(sys.stdout), charset=charset_of(sys.stdout))
    stream = Stream()
    if wants_stream(args) and not args.order and args.top == 1 and not args.beams:
        dials["on_token"] = stream_blanks(stream, tokenizer, args.text, look)
    filled = fill(model, tokenizer, args.text, **dials)
    stream.end(highlight(filled.pieces, **look))
    if args.top > 1:
        for number, blank in enumerate(filled.blanks, 1):
            print(f"\nblank {number}, {blank.mask}: the likeliest whole fillings, their end included")
            for filling in blank.alternatives:
                text = repr(filling.text.strip())[1:-1] + ("" if filling.complete else " ...")
                print(f"  {probability(filling.log_probability):>9}  {text}")


class Stream:
    """A line that grows on stdout as tokens are generated."""

    def __init__(self):
        self.shown = ""

    def show(self, text):
        """Print what is new; an incomplete character at the end waits for the rest of its bytes."""
        text = text.rstrip("\ufffd")
        if text.startswith(self.shown) and text != self.shown:
            print(text[len(self.shown) :], end="", flush=True)
            self.shown = text

    def end(self, text):
        """Print the rest of the finished line, or all of it if it does not continue what was shown."""
        if text.startswith(self.shown):
            print(text[len(self.shown) :])
        else:
            print(f"\n{text}")


def stream_blanks(stream, tokenizer, text, look):
    """Return an on_token for fill: it shows the text up to the current blank, and what is in it so far."""
    from ..viz.columns import BRACKETS, highlight

    end_of_blank = "\x1b[0m" if look["colour"] else BRACKETS[look["charset"]][1]
    between, answers = [[]], {}  # ids of the text between blanks; {blank: its ids}
    for token in tokenizer.encode(text, special=True):
        if token in tokenizer.special.masks:
            between.append([])
        else:
            between[-1].append(token)

    def on_token(_, blank, ids):
        answers[blank] = ids
        parts = [part for n in range(blank + 1) for part in ((between[n], False), (answers[n], True))]
        pieces = [(tokenizer.decode(ids), is_blank) for ids, is_blank in parts]
        if pieces[-1][0].strip():
            stream.show(highlight(pieces, **look).removesuffix(end_of_blank))

    return on_token


def wants_stream(args):
    """Return whether to print tokens as they are generated: on a terminal, or with --stream."""
    return args.stream or sys.stdout.isatty()


def as_json(filled):
    """Return what --json prints: the text and, per blank, mask, fillings and natural log-probabilities."""

    def filling(f):
        names = ("text", "tokens", "log_probability", "log_probabilities", "complete")
        return {name: getattr(f, name) for name in names}

    blanks = [
        dict(mask=b.mask, **filling(b.answer), alternatives=[filling(a) for a in b.alternatives])
        for b in filled.blanks
    ]
    return dict(text=filled.text, blanks=blanks)


def probability(log_p):
    """Format a natural log-probability as a percentage, e.g. 12.3 % or 4.1e-05 %."""
    from math import exp

    share = 100 * exp(log_p)
    return f"{share:.1f} %" if share >= 0.1 else f"{share:.1e} %"


def write_command(args):
    from ..use.generate import write

    model, tokenizer = load(args.model)
    dials, stream = sampling(args), Stream()
    if wants_stream(args) and not args.beams:
        dials["on_token"] = lambda _, __, ids: stream.show(args.text + tokenizer.decode(ids))
    stream.end(write(model, tokenizer, args.text, **dials))


def sampling(args):
    """Return {name: value} of the options that fill and write share."""
    return {name: getattr(args, name) for name in DIALS}


POOLS = ("mean", "first")  # = embedding.POOLS, which would import torch; a test compares them
DIALS = (
    "temperature",
    "top_k",
    "top_p",
    "seed",
    "max_tokens",
    "min_tokens",
    "beams",
    "length_penalty",
    "no_repeat_ngram",
    "repetition_penalty",
)


def add_fill(p):
    p.description = "Fill the blanks of a text one after the other; each sees the earlier answers."
    p.set_defaults(run=fill_command)
    example = '"The cat drank some [MASK] and went to [MASK]."'
    p.add_argument(
        "text",
        metavar="TEXT",
        help=f"a text with [MASK] (some words), [sMASK] (a sentence) or [gMASK] (the rest), e.g. {example}",
    )
    add_dials(p)
    p.add_argument(
        "--top",
        type=int,
        default=1,
        metavar="N",
        help="also list the N most likely complete fillings of each blank",
    )
    p.add_argument(
        "--order",
        metavar="2,1",
        help="order in which to fill the blanks, counted from 1 (default: left to right)",
    )
    p.add_argument("--json", action="store_true", help="print one line of JSON")


def add_write(p):
    p.description = "Continue a text by filling a [gMASK] at its end."
    p.set_defaults(run=write_command)
    p.add_argument("text", metavar="TEXT", help="the beginning of the text")
    add_dials(p)


def add_dials(p):
    """Add the options that fill and write share: the model and how a blank is filled."""
    add_model(p)
    p.add_argument(
        "--temperature",
        type=float,
        default=0.0,
        metavar="T",
        help="0: greedy decoding (default); above 0: sample",
    )
    p.add_argument(
        "--top-k",
        type=int,
        default=0,
        metavar="K",
        help="sample from the K most likely tokens (default 0: all)",
    )
    p.add_argument(
        "--top-p",
        type=float,
        default=1.0,
        metavar="P",
        help="sample from the fewest tokens whose probabilities sum to P (default 1: all)",
    )
    p.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the sampling (default 0)")
    p.add_argument("--max-tokens", type=positive, metavar="N", help="maximum tokens per blank")
    p.add_argument(
        "--min-tokens", type=int, default=1, metavar="N", help="minimum tokens per blank (default 1)"
    )
    p.add_argument(
        "--beams", type=int, default=0, metavar="N", help="beam search with N beams (default 0: off)"
    )
    p.add_argument(
        "--length-penalty",
        type=float,
        default=0.0,
        metavar="P",
        help="score beams by log-probability / tokens ** P (default 0)",
    )
    p.add_argument(
        "--no-repeat-ngram",
        type=int,
        default=0,
        metavar="N",
        help="never repeat a sequence of N tokens within a blank (default 0: off)",
    )
    p.add_argument(
        "--repetition-penalty",
        type=float,
        default=1.0,
        metavar="R",
        help="above 1: repeat fewer tokens (default 1)",
    )
    p.add_argument(
        "--stream", action="store_true", help="print tokens as they are generated, also to a pipe or file"
    )


def similar_command(args):
    from ..data.documents import find_files, read_documents
    from ..use.embedding import embed, most_similar

    texts = [
        text
        for path in find_files(args.file)
        for text in read_documents(path, documents="line", text_key=args.text_key)
        if text
    ]
    if len(texts) < 2:
        raise MinglmError(f"{args.file}: {len(texts)} texts in it; at least two are needed")
    model, tokenizer = load(args.model)
    vectors = embed(model, tokenizer, [*texts, args.query], pool=args.pool)
    for i, cosine in most_similar(vectors[:-1], vectors[-1], args.top):
        print(f"{cosine:6.3f}  {i + 1:>6}  {' '.join(texts[i].split())}")


def add_similar(p):
    p.description = (
        "Print the lines of a file that are most similar to a text, by the cosine of their vectors: cosine, "
        "line number, line."
    )
    p.set_defaults(run=similar_command)
    p.add_argument(
        "file",
        metavar="FILE",
        help="one text per line: .txt or .jsonl, also .xz and .gz; empty lines are skipped",
    )
    p.add_argument("query", metavar="QUERY", help="the text to compare with")
    add_model(p)
    p.add_argument("--top", type=int, default=10, metavar="N", help="how many lines (default 10)")
    p.add_argument(
        "--pool",
        default="mean",
        choices=POOLS,
        help="mean of the tokens' states (default), or the first token's",
    )
    p.add_argument(
        "--text-key", default="text", metavar="KEY", help="key of the text in a line of .jsonl (default text)"
    )
