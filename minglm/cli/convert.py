"""`minglm convert`: original GLM weights and tokenizers as a model folder."""

import shlex
from pathlib import Path

from ..errors import listed, note


def add_convert(p):
    p.description = (
        "Convert weights of the original GLM (Megatron, Hugging Face, plain files) into a model folder."
    )
    p.set_defaults(run=convert_command)
    p.add_argument(
        "path",
        metavar="PATH",
        help="a checkpoint folder of the original training code, a Hugging Face folder, or a file",
    )
    p.add_argument("--out", metavar="DIR", required=True, help="the model folder to write")
    about = "vocab.txt, vocab.json, a .model, or their folder (default: what is next to Hugging Face weights)"
    p.add_argument("--tokenizer", metavar="PATH", help=about)
    p.add_argument(
        "--gelu", choices=["tanh", "erf"], help="default: erf for Hugging Face weights, tanh for all others"
    )
    p.add_argument(
        "--heads",
        metavar="N",
        type=int,
        help="attention heads (default: from config.json, else hidden size / 64)",
    )


def convert_command(args):
    """Convert PATH, with the output folder locked meanwhile."""
    from ..files.lock import claimed

    with claimed(args.out):
        convert(args)


def convert(args):
    """Read everything, print what it is, then write the folder."""
    from ..data.tokenizer import Tokenizer
    from ..files.checkpoint import save_pretrained
    from ..model import GLM
    from ..original.vocabularies import find
    from ..original.weights import EOP_ROW, GMASK_ROW, build, read_original

    original = read_original(args.path)
    config = original.config(args.heads, args.gelu)
    model, C = build(GLM, original, config), config.hidden_size
    size = f"{config.vocab_size:,} tokens, {config.max_positions:,} positions"
    why_heads = "config.json" if original.num_heads else "as all published GLMs have them"
    if args.heads:
        why_heads = "--heads"
    print(f"weights     {original.source}: {original.layout}")
    print(
        f"shape       {config.num_layers} layers, width {C:,}, {size}: {model.num_parameters() / 1e6:,.1f} "
        f"M weights"
    )
    print(f"heads       {config.num_heads} of width {C // config.num_heads} ({why_heads})")
    print(f"gelu        {config.gelu} ({'--gelu' if args.gelu else original.why_gelu})")
    print(f"ignored     {listed(original.ignored) or 'nothing'}")
    if original.gmask_moved:
        print(f"gMASK       row {EOP_ROW}, which it shared with eop, copied to row {GMASK_ROW}")
    tokenizer = None
    if path := args.tokenizer or beside(original, Path(args.path)):
        tokenizer = Tokenizer.from_original(path, config.vocab_size)
        ids = ", ".join(f"{name} {i}" for name, i in vars(tokenizer.special).items())
        print(f"tokenizer   {find(Path(path))}: {ids}")
    save_pretrained(model, args.out, tokenizer)
    print(f"wrote       {args.out}: {', '.join(sorted(file.name for file in Path(args.out).iterdir()))}")
    if tokenizer is None:
        note("no tokenizer: fill and write need one; give --tokenizer PATH")
    else:
        print(f"try         minglm fill --model {shlex.quote(args.out)} 'Paris is the capital of [MASK].'")


def beside(original, path):
    """Return the folder of Hugging Face weights if it has a tokenizer, else None."""
    from ..original.vocabularies import vocabularies

    folder = path if path.is_dir() else path.parent
    return folder if original.is_hub and vocabularies(folder) else None
