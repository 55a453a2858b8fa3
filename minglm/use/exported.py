"""A model without Python: `torch.export` and ONNX of the scoring network, for packed samples of any number.

The GLM itself cannot be traced: a GLMMask holds its lengths on the host, where Python decides by them which
tiles and rows exist. So the exported network gets the mask as two more columns, and row i sees the keys
first[i] .. end[i] - 1. It computes attention by PyTorch, on all N keys, in eval mode.

    program = export(model)
    logits = program.module()(*packed_inputs(batch))    # (N, V); those of model(*columns(batch))
    save_onnx(model, "model.onnx")                      # inputs of the same names and order
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.export import Dim

from ..errors import MinglmError, need
from ..files.weights import check_plain, unwrapped
from ..files.whole import write_whole
from ..modules import device_of, evaluating

MOST_ONNX = 2**31  # bytes in a file, by its format
INPUTS = ("tokens", "position_ids", "block_position_ids", "first", "end")


def packed_inputs(batch):
    """The inputs of an exported network from a Batch: tokens, both positions, first, end, (N,) int64 each.

    Example: samples of 10 and 7 rows with Part A of 5 and 4 -> first 0 x 10, 10 x 7; end 5 x 5, 6, 7, ...
    """
    mask = batch.mask
    first = mask.cu_seqlens_k.long()[mask.rows()[0]]
    end = first + mask.visible_keys()
    device = batch.tokens.device
    return batch.tokens, batch.position_ids, batch.block_position_ids, first.to(device), end.to(device)


class Packed(nn.Module):
    """The GLM as a function of tensors alone: five (N,) int64 -> logits (N, V)."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, tokens, position_ids, block_position_ids, first, end):
        key = torch.arange(tokens.shape[0], device=tokens.device)
        may_attend = (key >= first[:, None]) & (key < end[:, None])  # (N, N)
        x = self.model.embed(tokens, position_ids, block_position_ids)
        for layer in self.model.layers:
            q, k, v = (part.transpose(0, 1)[None] for part in layer.project(x))  # (1, H, N, D)
            attended = F.scaled_dot_product_attention(q, k, v, may_attend)[0].transpose(0, 1)
            x = layer.combine(x, attended.flatten(1))
        return self.model.head(self.model.final_norm(x))


def export(model):
    """The ExportedProgram of a model, for any number of rows from 2 on, on its device, without its hooks.

    torch.export.save writes it. Raises MinglmError for a model that was changed, such as by adapters: merge
    them first.
    """
    network, example = _prepared(model)
    return torch.export.export(network, example, dynamic_shapes=({0: Dim("rows", min=2)},) * len(INPUTS))


def save_onnx(model, path):
    """Write a model as ONNX, with the inputs of INPUTS and the output "logits", atomically.

    Raises MinglmError as `export` does, without the extra "onnx", and for a model of 2 GiB and more.
    """
    need("onnxscript", "ONNX")
    size = 4 * sum(p.numel() for p in model.parameters())
    if size >= MOST_ONNX:
        raise MinglmError(
            f"ONNX: weights of {size:,} bytes; a file holds less than {MOST_ONNX:,}; use export"
        )
    network, example = _prepared(model)
    shapes = dict.fromkeys(INPUTS, {0: Dim("rows", min=2)})
    names = dict(input_names=INPUTS, output_names=("logits",), dynamic_shapes=shapes)
    program = torch.onnx.export(network, example, dynamo=True, verbose=False, **names)
    write_whole(path, program.model_proto.SerializeToString())


def _prepared(model):
    """The network to trace, and a sample for it (subtle: five tensors; the same one twice is one input)."""
    model = unwrapped(model)
    check_plain(model)
    columns = torch.zeros(len(INPUTS), 5, dtype=torch.int64, device=device_of(model))
    columns[-1] = 5
    return Packed(evaluating(model)).eval(), tuple(column.clone() for column in columns)
