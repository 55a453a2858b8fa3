"""The rule of GLM's mask for one sample; mask.py explains it and applies it to a batch."""


def keys_of_row(i, part_a_len):
    """How many keys row `i` may attend to: all of Part A, and Part B up to itself.

    Works on ints, and on arrays and tensors row by row. Rows before the first key (i < 0) see Part A only.

    Example: part_a_len=4 -> rows 0..5 see 4, 4, 4, 4, 5, 6 keys.
    """
    if isinstance(i, int):
        return max(part_a_len, i + 1)
    return (i + 1).clip(part_a_len)
