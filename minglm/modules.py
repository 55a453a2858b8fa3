"""Models whose modules were changed from outside (LoRA, hooks, pruning, quantised or wrapped parts), or are shared by threads.

Every module is called, and its weight is never read past it: GLM (model.py) keeps this rule everywhere. The
head alone is no module but a table (`table_of`). A model that others may be using is never switched to eval
mode and back (`evaluating`).
"""

from types import MethodType

import torch
from torch import nn

from .errors import MinglmError


def table_of(embedding, size):
    """The table of an embedding, (size, C), for the head that it is tied to.

    That of a plain one is its weight (pruned or parametrized, if it is). Anything else, LoRA or a quantised
    embedding, is asked for every id, so that the head is what the embedding has become.
    """
    if type(embedding).forward is nn.Embedding.forward and "forward" not in vars(embedding):
        return embedding.weight
    device = next(embedding.parameters(), torch.empty(0)).device
    return embedding(torch.arange(size, device=device))


def evaluating(model):
    """The model without dropout -> a view in eval mode that shares its weights, buffers and hooks; the model stays as it is.

    So threads may use one model at the same time, and what its own mode is, or becomes meanwhile, changes
    nothing. Hooks of a model that trains are handed the view's modules; a model in eval mode that has hooks
    is its own view. Raises MinglmError for a module that trains and cannot be viewed: its `forward` was
    replaced, or it is a ScriptModule.
    """
    modules = list(model.modules())
    trains = any(module.training for module in modules)
    if not isinstance(model, nn.Module) or not trains and any(map(_is_special, modules)):
        return model
    return _view(model, {})


def _is_special(module):
    """Whether a module has hooks, which may know it by its identity, or cannot be viewed."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, name) for name in hooks) or not _can_be_viewed(module)


def _can_be_viewed(module):
    forward = vars(module).get("forward")
    own = forward is None or isinstance(forward, MethodType) and forward.__self__ is module
    return own and not isinstance(module, torch.jit.ScriptModule)


def _view(module, views):
    """A shallow copy of a module and of all below it. views: {id: view} of those that are done, as modules may be shared."""
    module = getattr(
        module, "_orig_mod", module
    )  # torch.compile's wrapper holds on to the module that it wraps
    if id(module) in views:
        return views[id(module)]
    if not _can_be_viewed(module):
        kind = type(module).__name__
        raise MinglmError(
            f"{kind}: its forward was replaced, so it cannot be used while it trains; call model.eval() first"
        )
    views[id(module)] = view = object.__new__(type(module))
    state = vars(module).copy()
    for name, value in state.items():
        if isinstance(value, MethodType) and value.__self__ is module:  # as `GLM.compile` sets them
            state[name] = MethodType(value.__func__, view)
    children = {
        name: child if child is None else _view(child, views) for name, child in module._modules.items()
    }
    vars(view).update(state, training=False, _modules=children)
    return view


def device_of(model):
    return next(model.parameters()).device
