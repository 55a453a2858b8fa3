"""Loading named tensors into a model, and checking that a model can be saved."""

import re

import torch
from torch.overrides import TorchFunctionMode

from ..errors import MinglmError, first_line, listed, note


def build_model(kind, config, tensors, source, device="cpu", spell=str):
    """A model of class `kind` in eval mode from a GLMConfig and named tensors. See `load_weights`."""
    _check_layers(config, tensors, source, spell)  # check first: a corrupt config could ask for a huge model
    try:
        with torch.device("meta"), ShapesOnly():  # no memory and no random numbers before the weights fit
            model = kind(config)
    except (OverflowError, RuntimeError, TypeError) as error:
        raise MinglmError(f"{source}: {config} cannot be built: {first_line(error)}") from error
    load_weights(model, tensors, source, device, spell)
    return model.eval()


class ShapesOnly(TorchFunctionMode):
    """Skips in-place functions. On the meta device there is nothing to write, but calling them is expensive:
    `normal_` imports torch._dynamo there, which takes longer than importing torch itself.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        is_in_place = func.__name__.endswith("_") and not func.__name__.endswith("__")
        return None if is_in_place else func(*args, **(kwargs or {}))


def load_weights(model, tensors, source, device="cpu", spell=str):
    """Copy named tensors into a model's weights of the same shapes. Other tensors are ignored with a note.

    Any floating dtype is accepted; the model keeps its own. source: the name of the tensors in messages.
    spell: how messages write a weight's name. A model on the meta device gets memory on `device` after the
    checks.
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
        # like model.to_empty, which would import sympy
        memory = {name: torch.empty(w.shape, dtype=w.dtype, device=device) for name, w in weights.items()}
        model.load_state_dict(memory, assign=True)
        weights = model.state_dict()
    for name, weight in weights.items():
        weight.copy_(tensors[name])


def count_layers(tensors):
    """The number of layers that have weights."""
    return len({match[1] for name in tensors if (match := re.match(r"layers\.(\d+)\.", name))})


def _check_layers(config, tensors, source, spell):
    """Raise MinglmError for missing layers, and for extra ones, which would silently be left out."""
    layers, wanted = count_layers(tensors), config.num_layers
    if layers != wanted:
        name = spell(f"layers.{min(layers, wanted)}.norm1.weight")
        what = "is missing" if layers < wanted else "is one too many"
        raise MinglmError(f"{source}: {layers} layers, the config asks for {wanted}: weight {name} {what}")


def unwrapped(model):
    """The model inside DistributedDataParallel or torch.compile, which wrap it and prefix all names."""
    for name in ("module", "_orig_mod"):
        if hasattr(model, name):
            return unwrapped(getattr(model, name))
    return model


def names_of_weights(config):
    """The names of all weights of a GLM with this config, as in its file."""
    tables = ["token_embedding.weight", "position_embedding.weight", "block_position_embedding.weight"]
    modules = ("norm1", "qkv", "out", "norm2", "up", "down")
    parts = [f"layers.{i}.{module}" for i in range(config.num_layers) for module in modules]
    return tables + [f"{part}.{name}" for part in (*parts, "final_norm") for name in ("weight", "bias")]


def check_plain(model):
    """Raise MinglmError for a GLM whose weights are not those of its config: it could not be loaded again."""
    state = model.state_dict()
    if other := sorted(set(names_of_weights(model.config)) ^ state.keys()):
        parts = [name for name, _ in model.named_modules() if other[0].startswith(f"{name}.")]
        part = max(parts, key=len, default="")
        what = f"{part or 'model'} ({type(model.get_submodule(part)).__name__})"
        cure = "merge adapters, make pruning permanent or remove what wraps it, then it can be saved"
        raise MinglmError(f"{what}: it was changed, and a file holds the plain weights of a GLM; {cure}")
    for name, weight in state.items():
        if type(weight) is not torch.Tensor and not hasattr(weight, "full_tensor"):  # quantised by torchao
            kind = type(weight).__name__
            raise MinglmError(f"{name} ({kind}): not a plain tensor; save the model before it is quantised")
