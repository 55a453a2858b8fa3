"""`minglm convert`: original GLM weights and tokenizers as a model folder, and the way back."""

import shlex
from pathlib import Path

from ..errors import MinglmError, listed, note


def add_convert(p):
    p.description = (
        "Convert weights of the original GLM (Megatron, Hugging Face, plain files) into a model folder, or, "
        "with --to, a model folder into one that the published code loads."
    )
    p.set_defaults(run=convert_command)
    p.add_argument(
        "path",
        metavar="PATH",
        help="a checkpoint folder of the original training code, a Hugging Face folder, or a file; with "
        "--to hf or megatron: a model or run folder of minglm",
    )
    p.add_argument("--out", metavar="DIR", required=True, help="the folder to write")
    p.add_argument(
        "--to",
        choices=["minglm", "hf", "megatron"],
        default="minglm",
        help="what to write: minglm's form (default), Hugging Face's, or that of the training code",
    )
    about = "vocab.txt, vocab.json, a .model, or their folder (default: what is next to Hugging Face weights)"
    p.add_argument("--tokenizer", metavar="PATH", help=f"{about}; with --to hf: the .model to copy")
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
        convert(args) if args.to == "minglm" else convert_back(args)


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
    source = "config.json" if original.is_hub else "as the file says"
    why_heads = source if original.num_heads else "as all published GLMs have them"
    if args.heads:
        why_heads = "--heads"
    print(f"weights     {original.source}: {original.layout}")
    print(f"shape       {shape(model)}")
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


def convert_back(args):
    """Write a model folder in a form of the original, and print what its code will do differently."""
    from ..data.tokenizer import Tokenizer
    from ..files.checkpoint import TOKENIZER, model_folder
    from ..model import GLM
    from ..original.export import CODE, differences, save_original

    if args.gelu or args.heads:
        raise MinglmError("--gelu, --heads: the model's own config.json says them; accepted without --to")
    if args.tokenizer and args.to == "megatron":
        raise MinglmError("--tokenizer: the training code takes it from elsewhere; accepted with --to hf")
    folder = model_folder(args.path)
    model, has_tokenizer = GLM.from_pretrained(folder), (folder / TOKENIZER).is_file()
    tokenizer = Tokenizer.from_pretrained(folder) if has_tokenizer and args.to == "hf" else None
    names = save_original(model, args.out, args.to, tokenizer, args.tokenizer)
    print(f"weights     {folder}")
    print(f"shape       {shape(model)}")
    print(f"wrote       {args.out}: {', '.join(names)}")
    if args.to == "hf":
        print(f"code        put {CODE} of a published GLM beside them")
    for sentence in differences(model.config, args.to):
        note(sentence)
    if args.to == "megatron":
        note("no tokenizer: the training code has its own, and its ids must be those of the model")
    elif tokenizer is None:
        note(f"no tokenizer: {folder} has none")


def shape(model):
    """Layers, width, tables and the number of weights, in words."""
    config = model.config
    size = f"{config.vocab_size:,} tokens, {config.max_positions:,} positions"
    millions = f"{model.num_parameters() / 1e6:,.1f} M weights"
    return f"{config.num_layers} layers, width {config.hidden_size:,}, {size}: {millions}"


def beside(original, path):
    """Return the folder of Hugging Face weights if it has a tokenizer, else None."""
    from ..original.vocabularies import vocabularies

    folder = path if path.is_dir() else path.parent
    return folder if original.is_hub and vocabularies(folder) else None
