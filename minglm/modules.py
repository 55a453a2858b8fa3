"""Models whose modules were changed (LoRA, hooks, pruning, quantisation, wrappers) or that threads share.

GLM calls its modules and never reads their weights directly, so a changed module takes full effect. The head
is no module of its own; `table_of` gives its weights. A model that other threads may be using is never
switched to eval mode and back; see `evaluating`.
"""

from types import MethodType

import torch
from torch import nn

from .errors import MinglmError


def table_of(embedding, size):
    """The table of an embedding, (size, C), for the head that is tied to it.

    For a plain embedding (which may be pruned or parametrized) it is the weight. Anything else, such as LoRA
    or a quantised embedding, is called with every id, so that the head matches the embedding.
    """
    if type(embedding).forward is nn.Embedding.forward and "forward" not in vars(embedding):
        return embedding.weight
    device = next(embedding.parameters(), torch.empty(0)).device
    return embedding(torch.arange(size, device=device))


class TokenLoss(nn.Module):
    """The loss of a GLM as a module: DistributedDataParallel and others only wrap what `forward` computes.

    Example: ddp = DistributedDataParallel(TokenLoss(model)); ddp(batch).backward().
    """

    def __init__(self, model, reduction="mean"):
        super().__init__()
        self.model, self.reduction = model, reduction

    def forward(self, batch):
        return self.model.loss(batch, self.reduction)


def evaluating(model):
    """A view of the model in eval mode that shares its weights, buffers and hooks; the model is not changed.

    So threads may use one model at the same time, whatever its own mode is or becomes. Hooks of a model in
    train mode are called with the view's modules; a model in eval mode with hooks is returned itself. Raises
    MinglmError for a module in train mode that cannot be viewed: its `forward` was replaced, or it is a
    ScriptModule.
    """
    modules = list(model.modules())
    trains = any(module.training for module in modules)
    if not isinstance(model, nn.Module) or not trains and any(map(_is_special, modules)):
        return model
    return _view(model, {})


def _is_special(module):
    """Whether a module has hooks, which may depend on its identity, or cannot be viewed."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, name) for name in hooks) or not _can_be_viewed(module)


def _can_be_viewed(module):
    forward = vars(module).get("forward")
    own = forward is None or isinstance(forward, MethodType) and forward.__self__ is module
    return own and not isinstance(module, torch.jit.ScriptModule)


def _view(module, views):
    """A shallow copy of a module and its submodules. views: {id: view} of those already copied."""
    module = getattr(module, "_orig_mod", module)  # torch.compile's wrapper would call the original module
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
    submodules = module._modules.items()
    children = {name: None if child is None else _view(child, views) for name, child in submodules}
    vars(view).update(state, training=False, _modules=children)
    return view


def device_of(model):
    """The device of a model's (first) weight."""
    return next(model.parameters()).device
