"""FSDP2: each of P processes keeps 1 / P of the weights, gradients and optimiser state (torch's fully_shard).

A layer's weights are gathered just before it computes and freed after it; the tables and the last norm, which
the first and the last lines of the model need (the head is the token table), stay from forward to backward.
Gathering is a collective: processes that run different numbers of micro-batches wait forever.
"""

import torch

from ..errors import MinglmError


def check_shard(world):
    """Raise MinglmError unless there are several processes and a PyTorch with FSDP2 (2.6)."""
    if world.size == 1:
        what = "a single process has no others to share its weights with"
        how = "start several with torchrun, or leave it out (when resuming: --train.shard false)"
        raise MinglmError(f"train.shard: {what}; {how}")
    try:
        from torch.distributed.fsdp import fully_shard  # noqa: F401
    except ImportError:
        what = f"PyTorch {torch.__version__} has no fully_shard"
        raise MinglmError(f"train.shard: {what}; 2.6 or newer is needed") from None


def shard(make, world, device):
    """The model that make() gives in the first process, shared out over all processes on their devices.

    Only the first process holds the whole model, in host memory, and only until this returns; the others get
    their parts one weight at a time. make(meta): with meta=True, the same model without memory.
    """
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    whole = make(meta=False).cpu().state_dict() if world.first else {}
    model, mesh = make(meta=True), init_device_mesh(device.type, (world.size,))
    for part in (*model.layers, model):
        fully_shard(part, mesh=mesh)
    model.to_empty(device=device)
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    set_model_state_dict(model, whole, options=options)
    return model


def whole(value, keep):
    """`value` (nested dicts and lists) with each sharded tensor gathered, one at a time, into host memory.

    All processes call this; only those with `keep` hold the result, the others get empty tensors.
    """
    if isinstance(value, dict):
        return {key: whole(item, keep) for key, item in value.items()}
    if isinstance(value, list):
        return [whole(item, keep) for item in value]
    if hasattr(value, "full_tensor"):
        value = value.full_tensor()
        return value.cpu() if keep else torch.empty(0)
    return value


def parted(state, optimizer):
    """A whole optimiser state (that of `state_dict`) with the tensors of sharded weights shared out."""
    if hasattr(optimizer, "optimisers"):
        return {name: parted(state[name], part) for name, part in optimizer.optimisers.items()}
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    parts = {i: {k: like(v, weights[i]) for k, v in entry.items()} for i, entry in state["state"].items()}
    return {**state, "state": parts}


def like(value, weight):
    """This process's part of a whole tensor with a sharded weight's shape, as a DTensor; others as they are.

    No process sends anything: all of them hold the whole tensor.
    """
    if not hasattr(weight, "full_tensor") or value.shape != weight.shape:
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor

    moved = value.to(weight.device)
    there = distribute_tensor(moved, weight.device_mesh, weight.placements, src_data_rank=None)
    local = there.to_local().clone()  # subtle: else it keeps the whole tensor (or its file) in memory
    shape = dict(shape=value.shape, stride=value.stride())
    return DTensor.from_local(local, weight.device_mesh, weight.placements, run_check=False, **shape)


def same_number(world, runs, empty):
    """This process's micro-batches, and `empty` ones until it has as many as the process with the most."""
    counts = world.totals([len(runs) * (rank == world.rank) for rank in range(world.size)])
    return runs + [empty] * (int(max(counts)) - len(runs))
