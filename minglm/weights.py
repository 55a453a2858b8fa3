"""Named tensors into a model, each weight in its shape, and whether a model still is one that a file can hold."""

import re

import torch
from torch.overrides import TorchFunctionMode

from .errors import MinglmError, first_line, listed, note


def build_model(kind, config, tensors, source, device="cpu", spell=str):
    """A model of class `kind` in eval mode, built from a GLMConfig and filled with named tensors, as by `load_weights`."""
    _check_layers(config, tensors, source, spell)  # before a damaged config makes us build a billion layers
    try:
        with torch.device("meta"), ShapesOnly():  # no memory and no random numbers before the weights fit
            model = kind(config)
    except (OverflowError, RuntimeError, TypeError) as error:
        raise MinglmError(f"{source}: {config} cannot be built: {first_line(error)}") from error
    load_weights(model, tensors, source, device, spell)
    return model.eval()


class ShapesOnly(TorchFunctionMode):
    """Skips in-place functions. On the meta device they have no values to write, only their cost:
    `normal_` imports torch._dynamo there, which takes longer than importing torch itself.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        is_in_place = func.__name__.endswith("_") and not func.__name__.endswith("__")
        return None if is_in_place else func(*args, **(kwargs or {}))


def load_weights(model, tensors, source, device="cpu", spell=str):
    """Copy named tensors into a model: each weight in its shape; others are ignored with a note.

    Any floating dtype is accepted; the model keeps its own. source: what errors call the tensors. spell: how
    they write a weight's name. A model on the meta device gets memory on `device` once all has been checked.
    """
    _check_layers(model.config, tensors, source, spell)
    weights = model.state_dict()
    missing = [name for name in weights if name not in tensors]
    if missing:
        more = f" (and {len(missing) - 1} more)" if missing[1:] else ""
        raise MinglmError(f"{source}: weight {spell(missing[0])} is missing{more}")
    for name, weight in weights.items():
        given = tensors[name]
        if given.shape != weight.shape:
            raise MinglmError(
                f"{source}: {spell(name)} has shape {tuple(given.shape)}, "
                f"the config asks for {tuple(weight.shape)}"
            )
        if not given.is_floating_point():
            raise MinglmError(f"{source}: {spell(name)} has type {given.dtype}; accepted: floating point")
    unknown = sorted(tensors.keys() - weights.keys())
    if unknown:
        note(f"{source}: ignored {listed(unknown)}: no weights of this model")
    if any(weight.is_meta for weight in weights.values()):
        # what model.to_empty does, which imports sympy on the way
        memory = {
            name: torch.empty(weight.shape, dtype=weight.dtype, device=device)
            for name, weight in weights.items()
        }
        model.load_state_dict(memory, assign=True)
        weights = model.state_dict()
    for name, weight in weights.items():
        weight.copy_(tensors[name])


def count_layers(tensors):
    """How many layers there are weights of."""
    return len({match[1] for name in tensors if (match := re.match(r"layers\.(\d+)\.", name))})


def _check_layers(config, tensors, source, spell):
    """Fewer layers are a missing weight; more would load silently as another model: an error too."""
    found, wanted = count_layers(tensors), config.num_layers
    if found != wanted:
        name = spell(f"layers.{min(found, wanted)}.norm1.weight")
        what = "is missing" if found < wanted else "is one too many"
        raise MinglmError(f"{source}: {found} layers, the config asks for {wanted}: weight {name} {what}")


def unwrapped(model):
    """The model inside DistributedDataParallel or torch.compile, which wrap it and prefix all names."""
    for name in ("module", "_orig_mod"):
        if hasattr(model, name):
            return unwrapped(getattr(model, name))
    return model


def names_of_weights(config):
    """The names of all weights of a GLM with this config: what a file of it holds."""
    tables = [
        f"{name}.weight" for name in ("token_embedding", "position_embedding", "block_position_embedding")
    ]
    parts = [
        f"layers.{i}.{part}"
        for i in range(config.num_layers)
        for part in ("norm1", "qkv", "out", "norm2", "up", "down")
    ]
    return tables + [f"{part}.{name}" for part in (*parts, "final_norm") for name in ("weight", "bias")]


def check_plain(model):
    """Raise MinglmError for a GLM with other weights than those of its config: no reader could make them a model again."""
    if other := sorted(set(names_of_weights(model.config)) ^ model.state_dict().keys()):
        part = max(
            (name for name, _ in model.named_modules() if other[0].startswith(f"{name}.")),
            key=len,
            default="",
        )
        what = f"{part or 'model'} ({type(model.get_submodule(part)).__name__})"
        raise MinglmError(
            f"{what}: it was changed, and a file holds the plain weights of a GLM; merge adapters, make pruning "
            "permanent or remove what wraps it, then it can be saved"
        )
