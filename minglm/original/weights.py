"""Weights of the original GLM, in the forms in which they were published.

    latest_checkpointed_iteration.txt, 250000/mp_rank_00_model_states.pt, mp_rank_01...    Megatron
    config.json, pytorch_model.bin or model.safetensors, or an index of several            Hugging Face hub
    one file of tensors (torch, .safetensors, .npz), or a state dict in memory

A Megatron checkpoint may be split into ranks, each with its share of every large matrix; these are joined.
Unpickling runs no code: a file may contain tensors, plain values and the few classes of `allowed`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from ..errors import MinglmError, first_line, listed, note
from ..files.checkpoint import load_plain, read_safetensors
from ..files.strict_json import read_json
from ..files.weights import build_model, count_layers
from ..model_config import GLMConfig

NAMES = {  # module there -> module here; weight and bias are called the same
    "word_embeddings": "token_embedding",
    "transformer.position_embeddings": "position_embedding",
    "transformer.block_position_embeddings": "block_position_embedding",
    "transformer.layers.{i}.input_layernorm": "layers.{i}.norm1",
    "transformer.layers.{i}.attention.query_key_value": "layers.{i}.qkv",
    "transformer.layers.{i}.attention.dense": "layers.{i}.out",
    "transformer.layers.{i}.post_attention_layernorm": "layers.{i}.norm2",
    "transformer.layers.{i}.mlp.dense_h_to_4h": "layers.{i}.up",
    "transformer.layers.{i}.mlp.dense_4h_to_h": "layers.{i}.down",
    "transformer.final_layernorm": "final_norm",
}
SAT_NAMES = {  # two names differ in SwissArmyTransformer
    "transformer.word_embeddings": "token_embedding",
    "mixins.block_position_embedding.block_position_embeddings": "block_position_embedding",
}
# of wrappers: DDP and deepspeed; cloze and classifier; Hugging Face
PREFIX = re.compile(r"^((module|model|glm)\.)*")
RANK_FILE = re.compile(r"mp_rank_(\d+)_model_states\.pt")
HUB_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
ACCEPTED = (
    "accepted: a folder with latest_checkpointed_iteration.txt or mp_rank_00_model_states.pt, "
    "a Hugging Face folder, or a .npz, .safetensors or torch file of weights"
)
# Only 10B-chinese has a table of this shape. In its training [gMASK] and eop shared row 50007; the Hugging
# Face form has a copy in row 50009, which was unused in training, and so has ours.
SHARED_GMASK, EOP_ROW, GMASK_ROW = (50048, 4096), 50007, 50009


@dataclass
class Original:
    """Weights as they were read: tensors under our names, their source, and what their shapes do not tell."""

    source: str
    layout: str  # a description: form, number of ranks, names
    tensors: dict
    ignored: list = field(default_factory=list)  # keys that are not part of the backbone
    is_hub: bool = False  # in the form of the Hugging Face hub
    num_heads: int | None = None  # None: the source does not say
    gelu: str = "tanh"
    why_gelu: str = "as the training code computes"
    gmask_moved: bool = False
    more: dict = field(default_factory=dict)  # dropout and family, if `export` wrote the source

    def config(self, num_heads=None, gelu=None):
        """The GLMConfig of the shapes; what is None comes from the source (else hidden_size / 64 heads)."""
        V, C = self.tensors["token_embedding.weight"].shape
        num_heads = self.num_heads if num_heads is None else num_heads
        if num_heads is None and C % 64:
            cure = "give a config (minglm convert --heads N)"
            raise MinglmError(f"{self.source}: hidden size {C}, no multiple of 64: {cure}")
        num_heads = C // 64 if num_heads is None else num_heads
        layers, positions = count_layers(self.tensors), len(self.tensors["position_embedding.weight"]) - 1
        return GLMConfig(V, C, max(1, layers), num_heads, positions, gelu=gelu or self.gelu, **self.more)


def from_original(kind, path_or_state_dict, config=None):
    """A model of class `kind` (GLM) in eval mode with the weights of the original code.

    Accepts a folder or a file as at the top of this module, or a state dict of tensors or arrays. Prefixes of
    wrappers (module. model. glm.) are stripped; heads and other keys are ignored with one note; a missing
    weight is an error. Without a config, sizes come from the shapes; num_heads from the config.json of a
    Hugging Face folder, else hidden_size / 64, as in every published GLM; gelu is "erf" in the Hugging Face
    forms, as in that code, and "tanh" in all others; dropout is 0.1. If the config has more positions than
    the weights, the new rows are initialised at random.
    """
    original = read_original(path_or_state_dict)
    if original.ignored:
        note(f"{original.source}: ignored {listed(original.ignored)}: not part of the backbone")
    if original.gmask_moved:
        what = f"row {EOP_ROW}, which [gMASK] shared with eop, was copied to row {GMASK_ROW}"
        note(f"{original.source}: {what}")
    return build(kind, original, config or original.config())


def build(kind, original, config):
    """A model of class `kind` (GLM) in eval mode from an Original."""
    tensors = dict(original.tensors)
    for name in ("position_embedding.weight", "block_position_embedding.weight"):
        (rows, C), wanted = tensors[name].shape, config.max_positions + 1
        if rows < wanted:
            have = f"{original_name(name)} has {rows:,} of {wanted:,} rows"
            note(f"{original.source}: {have}; those above start fresh")
            tensors[name] = torch.cat([tensors[name].float(), 0.02 * torch.randn(wanted - rows, C)])
    return build_model(kind, config, tensors, original.source, spell=original_name)


# ---- reading ---------------------------------------------------------------------------------------------


def read_original(path_or_state_dict):
    """Find, read and join the weights -> Original. Raises MinglmError for missing or contradictory parts."""
    if isinstance(path_or_state_dict, Mapping):
        original = gather([("state dict", path_or_state_dict)], "state dict", "a state dict")
    else:
        original = read_path(Path(path_or_state_dict))
    check(original)
    table = original.tensors["token_embedding.weight"]
    if tuple(table.shape) == SHARED_GMASK and not torch.equal(table[GMASK_ROW], table[EOP_ROW]):
        original.tensors["token_embedding.weight"] = table = table.clone()
        table[GMASK_ROW], original.gmask_moved = table[EOP_ROW], True
    return original


def read_path(path):
    """The Original in a file or folder, not yet checked."""
    files = find(path)
    if RANK_FILE.fullmatch(files[0].name):
        return read_ranks(files, path)
    if not is_hub(files[0]):
        return gather([(str(path), load(path))], str(path), f"one file, {path.name}")
    names = listed([file.name for file in files], 3)
    original = gather([(str(path), read_hub(files))], str(path), f"Hugging Face, {names}", is_hub=True)
    if (config := files[0].with_name("config.json")).is_file():
        read_hub_config(original, config)
    return original


def read_ranks(files, path):
    """The Original in a Megatron checkpoint, whose files must belong together."""
    parts = [(str(file), load(file)) for file in files]
    steps = [step(part) for _, part in parts]
    if len(set(steps)) > 1:
        names = listed([f"{file.name}: {at}" for file, at in zip(files, steps, strict=True)])
        what = f"files of different iterations ({names})"
        raise MinglmError(f"{files[0].parent}: {what}; accepted: those of one checkpoint")
    world = parts[0][1].get("mp_world_size")
    if isinstance(world, int) and world != len(files):
        what = f"{len(files)} of {world} ranks"
        raise MinglmError(f"{files[0].parent}: {what}; accepted: all of them in one folder")
    layout = f"Megatron, {len(files)} rank{'s' if files[1:] else ''}"
    layout += f" of iteration {steps[0]}" if steps[0] is not None else ""
    original = gather(parts, str(path), layout)
    recall(original, parts[0][1].get("minglm"), files[0])
    return original


def step(state):
    """The training iteration in the contents of a file, or None."""
    number = state.get("iteration", state.get("global_steps"))
    return number if isinstance(number, int | str) else None


def find(path):
    """The files of a checkpoint, in order: all Megatron ranks, one file, or an index and its shards."""
    folder = path
    if path.is_dir():
        for name in ("latest_checkpointed_iteration.txt", "latest"):
            if (path / name).is_file():
                tag = (path / name).read_text(encoding="utf-8", errors="replace").strip()
                if not re.fullmatch(r"\w[\w.-]{0,99}", tag) or not (path / tag).is_dir():
                    accepted = "accepted: the name of a folder beside it"
                    raise MinglmError(f"{path / name}: names {tag[:40]!r}; {accepted}")
                folder = path / tag
                break
    elif not path.is_file():
        raise MinglmError(f"{path}: not found; {ACCEPTED}")
    elif RANK_FILE.fullmatch(path.name):
        folder = path.parent
    elif not path.name.endswith(".index.json"):
        return [path]
    if folder.is_dir():
        files = ((RANK_FILE.fullmatch(file.name), file) for file in folder.iterdir())
        ranks = {int(match[1]): file for match, file in files if match}
        if ranks:
            for rank in range(max(ranks) + 1):
                if rank not in ranks:
                    missing = folder / f"mp_rank_{rank:02}_model_states.pt"
                    raise MinglmError(f"{missing}: not found, though {ranks[max(ranks)].name} is there")
            return [ranks[rank] for rank in sorted(ranks)]
        path = next((folder / name for name in HUB_FILES if (folder / name).is_file()), None)
        if path is None:
            raise MinglmError(f"{folder}: no weights in this folder; {ACCEPTED}")
    if path.name.endswith(".index.json"):
        where = read_json(path).get("weight_map")
        names = where.values() if isinstance(where, dict) else [None]
        if not all(isinstance(name, str) and name and Path(name).name == name for name in names):
            raise MinglmError(f"{path}: accepted: a weight_map from keys to files beside it")
        return [path, *(path.with_name(name) for name in sorted(set(names)))]
    return [path]


def is_hub(file):
    """Whether a file has a name of the Hugging Face hub."""
    return file.name in HUB_FILES or file.name.endswith(".index.json")


def read_hub(files):
    """The state dict of one file, or of an index and its shards."""
    if len(files) == 1:
        return load(files[0])
    index, *shards = files
    wanted, state = read_json(index)["weight_map"], {}
    for file in shards:
        part = load(file)
        if missing := [key for key, name in wanted.items() if name == file.name and key not in part]:
            raise MinglmError(f"{file}: lacks {listed(missing, 3)}, which {index.name} says is there")
        state |= {key: part[key] for key in part if wanted.get(key) == file.name}
    return state


def read_hub_config(original, path):
    """Set num_heads from a config.json, which must agree with the weights."""
    values = read_json(path)
    if values.get("model_type") == "minglm":
        raise MinglmError(f"{path}: a model of minglm, which --model and GLM.from_pretrained read")
    table = original.tensors.get("token_embedding.weight")
    size, shape = values.get("hidden_size"), tuple(table.shape) if table is not None else ()
    if size is not None and len(shape) == 2 and size != shape[1]:
        raise MinglmError(f"{path}: hidden_size is {size!r}, the weights have {shape[1]}")
    heads = values.get("num_attention_heads")
    if heads is not None and (type(heads) is not int or heads < 1):
        raise MinglmError(f"{path}: num_attention_heads is {heads!r}; accepted: a whole number of at least 1")
    original.num_heads = heads
    recall(original, values.get("minglm"), path)


def recall(original, settings, path):
    """Set what `export` wrote beyond the original's settings; GLMConfig checks the values."""
    if settings is None:
        return
    accepted = ("num_heads", "gelu", "dropout", "family")
    if not isinstance(settings, dict) or settings.keys() - {*accepted}:
        raise MinglmError(
            f"{path}: 'minglm' is {str(settings)[:80]}; accepted: {', '.join(accepted)} and values"
        )
    original.num_heads = settings.get("num_heads", original.num_heads)
    if "gelu" in settings:
        original.gelu, original.why_gelu = settings["gelu"], f"as {path.name} says"
    original.more = {name: settings[name] for name in ("dropout", "family") if name in settings}


# ---- unpickling ------------------------------------------------------------------------------------------


class Ignored:
    """A stand-in for unneeded objects of the training code; it accepts anything and does nothing."""

    def __new__(cls, *_, **__):
        return super().__new__(cls)

    def __setstate__(self, state):
        pass


def allowed():
    """What a file may contain besides tensors and plain values: classes, or (stand-in, name in the file)."""
    loss_scalers = [
        f"{module}.loss_scaler.{name}"
        for module in ("fp16", "deepspeed.runtime.fp16")
        for name in ("LossScaler", "DynamicLossScaler")
    ]
    ignored = [(Ignored, name) for name in ("argparse.Namespace", *loss_scalers)]
    # the states of random generators contain numpy arrays and scalars; numpy 2 renamed the module
    array, scalar = np.empty(0).__reduce__()[0], np.float64(0).__reduce__()[0]
    made = [
        (f, f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")
        for f, name in ((array, "_reconstruct"), (scalar, "scalar"))
    ]
    kinds = [type(np.dtype(kind)) for kind in ("?", "u1", "i4", "u4", "i8", "u8", "f4", "f8")]
    return [*ignored, *made, np.ndarray, np.dtype, *kinds]


def load(path):
    """The dict in a .npz, .safetensors or torch file."""
    if not path.is_file():
        raise MinglmError(f"{path}: not found; {ACCEPTED}")
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return dict(arrays)
        return load_plain(path, allowed())
    except Exception as error:  # a damaged or hostile file can raise nearly anything
        raise MinglmError(f"{path}: no weights that are safe to read: {first_line(error)}") from error


# ---- names -----------------------------------------------------------------------------------------------


def rename(state_dict, source="state dict"):
    """The tensors of an original state dict under our names, and the keys that are not of the backbone.

    Example: {"glm.word_embeddings.weight": E, "glm.dense.weight": D} -> {"token_embedding.weight": E},
    ["glm.dense.weight"]
    """
    tensors, unknown = {}, []
    for key, value in unwrapped(state_dict).items():
        name = translated(PREFIX.sub("", str(key)), NAMES | SAT_NAMES)
        if name is None:
            unknown.append(str(key))
            continue
        if name in tensors:
            raise MinglmError(f"{source}: two keys mean {original_name(name)}; {key} is the second")
        try:
            tensors[name] = plain(value) if isinstance(value, torch.Tensor) else torch.tensor(np.array(value))
        except (TypeError, ValueError) as error:
            raise MinglmError(f"{source}: {key} is not an array of numbers") from error
    return tensors, unknown


def plain(tensor):
    """The tensor, detached. Raises TypeError unless it is plain and has the memory that its shape needs."""
    if tensor.layout is not torch.strided or tensor.is_meta or tensor.is_quantized:
        raise TypeError("no plain tensor")
    if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        raise TypeError("fewer numbers than its shape")
    return tensor.detach()


def unwrapped(state_dict):
    """The dict of tensors inside the dicts that a checkpoint wraps around it."""
    for key in ("module", "model", "state_dict") * 3:  # bounded: a hostile file may contain itself
        if isinstance(state_dict.get(key), Mapping):
            state_dict = state_dict[key]
    return state_dict


def original_name(name):
    """The name of one of our weights in the original code.

    Example: "layers.3.qkv.bias" -> "transformer.layers.3.attention.query_key_value.bias"
    """
    return translated(name, {here: original for original, here in NAMES.items()})


def translated(name, table):
    """The name of a weight after its module is looked up in a table like NAMES, or None."""
    module, _, kind = name.rpartition(".")
    number = re.search(r"(?<=layers\.)\d+(?=\.)", module)
    known = table.get(module[: number.start()] + "{i}" + module[number.end() :] if number else module)
    if known is None or kind not in ("weight", "bias"):
        return None
    return f"{known.replace('{i}', number[0]) if number else known}.{kind}"


# ---- putting ranks together ------------------------------------------------------------------------------


def gather(parts, source, layout, is_hub=False):
    """The Original of a checkpoint; parts: its [(file, state dict)], rank by rank."""
    keys = [str(key) for _, part in parts for key in unwrapped(part)]
    renamed = [rename(part, file) for file, part in parts]
    tensors = {}
    for name in sorted(set().union(*(part for part, _ in renamed))):
        for (file, _), (part, _) in zip(parts, renamed, strict=True):
            if name not in part:
                raise MinglmError(f"{file}: weight {original_name(name)} is missing")
        tensors[name] = joined(name, [part.pop(name) for part, _ in renamed], source)
    prefixes = sorted({PREFIX.match(key)[0] for key in keys} - {""})
    is_sat = any(PREFIX.sub("", key).startswith("mixins.") for key in keys)
    layout += f", names after {listed(prefixes)}" if prefixes else ""
    layout += ", names of SwissArmyTransformer" if is_sat else ""
    ignored = list(dict.fromkeys(key for _, unknown in renamed for key in unknown))
    original = Original(source, layout, tensors, ignored, is_hub)
    if not is_sat and (is_hub or any("glm." in prefix for prefix in prefixes)):
        original.gelu, original.why_gelu = "erf", "as the Hugging Face code computes"
    return original


def joined(name, pieces, source):
    """One weight from its pieces on all ranks.

    Megatron splits qkv (each third of it), up and the token table along the first dimension, the weights of
    out and down along the second. All others are the same on every rank.
    """
    if len(pieces) == 1:
        return pieces[0]
    shapes = [str(tuple(piece.shape)) for piece in pieces]
    original = f"{source}: {original_name(name)}"
    if len(set(shapes)) > 1:
        raise MinglmError(f"{original} has shapes {listed(shapes)} on ranks 0 to {len(pieces) - 1}")
    module, kind = name.split(".")[-2:]
    try:
        if module == "qkv":
            thirds = [piece.chunk(3) for piece in pieces]  # Q, K and V of each rank
            return torch.cat([third for same in zip(*thirds, strict=True) for third in same])
        if module in ("token_embedding", "up"):
            return torch.cat(pieces)
        if module in ("out", "down") and kind == "weight":
            return torch.cat(pieces, dim=1)
    except (IndexError, RuntimeError) as error:
        raise MinglmError(f"{original} has shape {shapes[0]} on every rank: cannot be joined") from error
    for rank, piece in enumerate(pieces):
        if not torch.allclose(piece.float(), pieces[0].float(), rtol=1e-2, atol=1e-3):
            raise MinglmError(f"{original} is not the same on ranks 0 and {rank}: not of one checkpoint")
    return pieces[0]


def check(original):
    """Raise MinglmError if a table is missing or not two-dimensional, or if ranks are missing."""
    for name in ("token_embedding.weight", "position_embedding.weight", "block_position_embedding.weight"):
        if name not in original.tensors:
            raise MinglmError(f"{original.source}: weight {original_name(name)} is missing")
        if original.tensors[name].dim() != 2:
            shape = tuple(original.tensors[name].shape)
            what = f"{original_name(name)} has shape {shape}"
            raise MinglmError(f"{original.source}: {what}; accepted: two dimensions")
    C, qkv = original.tensors["token_embedding.weight"].shape[1], original.tensors.get("layers.0.qkv.weight")
    if qkv is not None and qkv.dim() == 2 and qkv.shape[1] == C and 0 < len(qkv) < 3 * C:
        what = f"{original_name('layers.0.qkv.weight')} has {len(qkv)} of {3 * C} rows: ranks are missing"
        accepted = "the files mp_rank_00_model_states.pt, mp_rank_01... of all ranks in one folder"
        raise MinglmError(f"{original.source}: {what}; accepted: {accepted}")
