"""Are two results equal, and if not, in what general way do they differ?"""

import torch

from .words import tell

TOLERANCE = 1e-4  # relative, and 1e-5 absolute: results are float32


def plain(value):
    """A result made of Python's own numbers and lists, and tensors: NumPy's are converted."""
    if torch.is_tensor(value) or value is None or isinstance(value, str | bool | int | float):
        return value
    if type(value).__module__ == "numpy":
        return torch.as_tensor(value) if getattr(value, "ndim", 0) else value.item()
    if isinstance(value, range):
        return list(value)
    if isinstance(value, list | tuple):
        return type(value)(map(plain, value)) if type(value) in (list, tuple) else [*map(plain, value)]
    return value


def number(value):
    """A tensor of one number as that number, anything else as it is."""
    return value.item() if torch.is_tensor(value) and value.numel() == 1 and value.dim() == 0 else value


def equal(a, b, nan=False):
    """Whether two results are equal: lists and tuples alike, floats to about four digits.

    nan: whether NaN equals NaN.
    """
    a, b = number(a), number(b)
    if torch.is_tensor(a) and torch.is_tensor(b):
        if a.shape != b.shape or (a.dtype == torch.bool) != (b.dtype == torch.bool) or a.is_complex():
            return False
        close = torch.isclose(a.double(), b.double(), rtol=TOLERANCE, atol=1e-5, equal_nan=nan)
        return bool(close.all())
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(equal(x, y, nan) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key], nan) for key in a)
    if isinstance(a, int | float) and isinstance(b, int | float):
        numbers = torch.tensor([float(a), float(b)], dtype=torch.float64)
        return isinstance(a, bool) == isinstance(b, bool) and equal(numbers[:1], numbers[1:], nan)
    return type(a) is type(b) and not torch.is_tensor(a) and a == b


def shape_of(value):
    """A result's type and size.  Example: [1, 2] -> a list of 2."""
    if torch.is_tensor(value):
        return tell("a tensor {shape}", shape=tuple(value.shape))
    kind = type(value).__name__
    if isinstance(value, list | tuple | dict):
        return tell("a {kind} of {size}", kind=kind, size=len(value))
    return tell("an {kind}" if kind[0] in "aeiou" else "a {kind}", kind=kind)


def difference(got, want):
    """A sentence about how two results differ in general, or None."""
    got, want = number(got), number(want)
    if torch.is_tensor(got) and torch.is_tensor(want):
        return of_tensors(got, want)
    if isinstance(got, list | tuple) and isinstance(want, list | tuple):
        return of_lists(list(got), list(want))
    if isinstance(got, int | float) and isinstance(want, int | float):
        return of_numbers(got, want)
    if type(got) is not type(want):
        return tell("It returned {got}; {want} is expected.", got=shape_of(got), want=shape_of(want))
    return None


def of_numbers(got, want):
    """How two numbers differ."""
    if isinstance(got, int) and isinstance(want, int):
        said = "Yours is {by} too large." if got > want else "Yours is {by} too small."
        return tell(said, by=abs(got - want))
    return of_tensors(torch.tensor([float(got)]), torch.tensor([float(want)]))


def of_lists(got, want):
    """How two lists differ."""
    if any(torch.is_tensor(x) for x in got + want):
        pairs = zip(got, want, strict=False)
        return next((difference(a, b) for a, b in pairs if not equal(a, b)), None)
    if all(isinstance(x, int) for x in got + want) and len(got) == len(want):
        off = {a - b for a, b in zip(got, want, strict=True)}
        if len(off) == 1:
            [by] = off
            said = "Every number is {by} too large." if by > 0 else "Every number is {by} too small."
            tail = tell(" Everything here counts from 0.") if by == 1 else ""
            return tell(said, by=abs(by)) + tail
    if got == want[::-1]:
        return tell("That is the right answer in reverse.")
    if any(isinstance(x, list | tuple) for x in got) and not any(isinstance(x, list | tuple) for x in want):
        return tell(
            "Yours is a list of lists; one flat list is expected. `+=` adds each entry, .append one list."
        )
    flat = [piece for x in got for piece in (x.split() if isinstance(x, str) else [x])]
    if flat == want:
        return tell("Words were joined into one string; each word is an entry of its own.")
    if "".join(map(str, got)) == "".join(map(str, want)) and len(got) > len(want):
        return tell('`tokens += "[S]"` adds a string letter by letter; `tokens += ["[S]"]` adds one entry.')
    if [*map(str, got)] == [*map(str, want)]:
        wrong = next(n for n, (a, b) in enumerate(zip(got, want, strict=True)) if not equal(a, b))
        said = "It looks right, but place {n} is {got}; {want!r} is expected."
        return tell(said, n=wrong, got=shape_of(got[wrong]), want=want[wrong])
    if got and all(isinstance(x, bool) for x in got):
        return tell("Yours is a list of True and False.")
    if len(got) == len(want) and sorted(map(str, got)) == sorted(map(str, want)):
        return tell("The right entries, in another order.")
    if got == want[: len(got)]:
        return tell("Right as far as it goes; the last {count} missing.", count=_count(len(want) - len(got)))
    if got and got == want[-len(got) :]:
        return tell("The first {count} missing.", count=_count(len(want) - len(got)))
    if got[: len(want)] == want:
        return tell("Right, but {count} too many at the end.", count=_count(len(got) - len(want)))
    if len(got) != len(want):
        return tell("Yours has {mine} entries, the right one {right}.", mine=len(got), right=len(want))
    wrong = [n for n, (a, b) in enumerate(zip(got, want, strict=True)) if not equal(a, b)]
    said = "{n} of {size} entries differs." if len(wrong) == 1 else "{n} of {size} entries differ."
    return tell(said, n=len(wrong), size=len(want))


def _count(n):
    return tell("entry is") if n == 1 else tell("{n} entries are", n=n)


def of_tensors(got, want):
    """How two tensors differ."""
    if got.shape != want.shape:
        return of_shapes(got, want)
    if want.dtype == torch.bool:
        return of_masks(got, want)
    if got.is_complex():
        return tell("It has complex numbers.")
    a, b = got.double(), want.double()
    if a.isnan().any():
        return tell(
            "There is NaN in it: 0 / 0, inf / inf, inf - inf or the root or logarithm of a negative number."
        )
    if a.isinf().any():
        return tell("There is inf in it: an exp of something large, a division by 0, or log(0).")
    pairs = [
        (a, -b, tell("The sign is wrong.")),
        (a, b.new_zeros(()).expand_as(b), tell("It is all zeros.")),
    ]
    if b.numel() > 1:
        off = float((a - b).mean())
        said = "Every number is {by} too large." if off > 0 else "Every number is {by} too small."
        pairs.append((a, b + off, tell(said, by=f"{abs(off):.3g}")))
    if want.dim() >= 2 and want.shape[-1] == want.shape[-2]:
        pairs.append((a, b.transpose(-1, -2), tell("That is the transpose of the right answer.")))
    for mine, other, say in pairs:
        if equal(mine, other) and not equal(other, b):
            return say
    if b.numel() == 1:
        return None
    ratio = (a / b)[b != 0]
    if len(ratio) and equal(ratio, ratio.mean().expand_as(ratio)):
        said = "Everything is {ratio:.4g} times as large as it should be."
        return tell(said, ratio=float(ratio.mean()))
    wrong = int((~torch.isclose(a, b, rtol=TOLERANCE, atol=1e-5)).sum())
    if wrong == 0:
        said = "The numbers are right, but they are {got}; {want} is expected."
        return tell(said, got=got.dtype, want=want.dtype)
    off = float((a - b).abs().max())
    said = "{n} of {size} numbers differ, by at most {off:.2g}."
    if off < 0.03 * float(b.abs().max()):
        said = (
            "{n} of {size} numbers differ, by at most {off:.2g} "
            "(close, but not equal: what is small in the formula?)."
        )
    return tell(said, n=wrong, size=b.numel(), off=off)


def of_shapes(got, want):
    """Two tensors of different shapes."""
    said = "Its shape is {got}; it should be {want}."
    if got.numel() == want.numel():
        said = "Its shape is {got}; it should be {want}: the same numbers, in other dimensions?"
    elif want.shape and got.shape == want.shape[:-1]:
        said = "Its shape is {got}; it should be {want}: a dimension is missing. Was keepdim=True forgotten?"
    return tell(said, got=tuple(got.shape), want=tuple(want.shape))


def of_masks(got, want):
    """Two masks of the same shape."""
    if got.equal(~want):
        return tell("Open and shut are swapped.")
    if want.dim() >= 2 and got.equal(want.transpose(-1, -2)):
        return tell("That is the transpose: rows are queries (who sees), columns are keys (who is seen).")
    if got.equal(want.flip(-1, -2)):
        return tell("It is turned by half a turn: row 0 is at the top, token 0 on the left.")
    more, less = int((got & ~want).sum()), int((want & ~got).sum())
    many = "{n} cell is open that should be shut" if more == 1 else "{n} cells are open that should be shut"
    few = "{n} cell is shut that should be open" if less == 1 else "{n} cells are shut that should be open"
    found = [tell(many, n=more)] if more else []
    found += [tell(few, n=less)] if less else []
    return tell("{found}.", found=tell(", and ").join(found))
