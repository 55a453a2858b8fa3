"""The mask, stated in three independent ways, and the mistakes that each of them must catch."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import minglm.mask
from minglm.errors import MinglmError
from minglm.mask import GLMMask, keys_of_row


def grid_by_words(mask):
    """Row i of a sample sees key j of the same sample if j is in Part A or not after i."""
    grid = np.zeros((int(mask.cu_seqlens_q[-1]), int(mask.cu_seqlens_k[-1])), dtype=bool)
    for s, part_a_len in enumerate(mask.part_a_lens.tolist()):
        first_q, end_q = mask.cu_seqlens_q[s : s + 2].tolist()
        first_k, end_k = mask.cu_seqlens_k[s : s + 2].tolist()
        keys = end_k - first_k if mask.seqlens_k is None else int(mask.seqlens_k[s])
        for row in range(first_q, end_q):
            i = keys - (end_q - row)  # the last query stands at the last key
            for j in range(keys):
                grid[row, first_k + j] = j < part_a_len or j <= i
    return grid


def grid_by_counting(mask):
    """Every row sees the first keys of its sample, as many as `keys_of_row` says or as there are."""
    grid = np.zeros((int(mask.cu_seqlens_q[-1]), int(mask.cu_seqlens_k[-1])), dtype=bool)
    row = 0
    for len_q, len_k, first, part_a_len in zip(
        mask.len_q.tolist(),
        mask.len_k.tolist(),
        mask.cu_seqlens_k.tolist(),
        mask.part_a_lens.tolist(),
        strict=False,
    ):
        for i in range(len_k - len_q, len_k):
            grid[row, first : first + min(len_k, keys_of_row(i, part_a_len))] = True
            row += 1
    return grid


def grid_by_roles(mask):
    """Every token has a sample, an index and a role, and those of two tokens decide: a formula on arrays."""
    cu_q, cu_k, part_a = (np.asarray(x) for x in (mask.cu_seqlens_q, mask.cu_seqlens_k, mask.part_a_lens))
    keys = np.diff(cu_k) if mask.seqlens_k is None else np.asarray(mask.seqlens_k)
    of_q, of_k = (np.repeat(np.arange(len(part_a)), np.diff(cu)) for cu in (cu_q, cu_k))
    place_k = np.arange(cu_k[-1]) - cu_k[of_k]
    place_q = np.arange(cu_q[-1]) - cu_q[of_q + 1] + keys[of_q]
    role_k = np.where(place_k < part_a[of_k], "A", np.where(place_k < keys[of_k], "B", "empty"))
    same_sample = of_q[:, None] == of_k
    return same_sample & ((role_k == "A") | ((role_k == "B") & (place_k <= place_q[:, None])))


STATEMENTS = (grid_by_words, grid_by_counting, grid_by_roles)


def check(mask, grid):
    """Assert that a grid is that of the mask, by each of the three statements."""
    grid = np.asarray(grid)
    assert grid.dtype == bool
    for statement in STATEMENTS:
        assert np.array_equal(grid, statement(mask)), statement.__name__


@st.composite
def ragged_masks(draw):
    """Any valid mask of up to four samples: empty ones, more or fewer queries than keys, unused slots."""
    samples = draw(
        st.lists(
            st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6), st.integers(0, 3)), max_size=4
        )
    )
    len_q, len_k, part_a, room = (
        (list(column) for column in zip(*samples, strict=True)) if samples else ([], [], [], [])
    )
    part_a = [min(a, k) for a, k in zip(part_a, len_k, strict=True)]
    if draw(st.booleans()):
        room_k, seqlens_k = [k + r for k, r in zip(len_k, room, strict=True)], len_k
    else:
        room_k, seqlens_k = len_k, None
    return GLMMask(np.cumsum([0, *len_q]), np.cumsum([0, *room_k]), part_a, seqlens_k)


# The rule


def test_keys_of_row_by_hand():
    assert [keys_of_row(i, 4) for i in range(6)] == [4, 4, 4, 4, 5, 6]
    assert [keys_of_row(i, 0) for i in range(3)] == [1, 2, 3]
    assert [keys_of_row(i, 2) for i in (-3, -1)] == [2, 2] and keys_of_row(-3, 0) == 0


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(0, 9)), min_size=1))
def test_keys_of_row_says_the_same_of_tensors(pairs):
    i, part_a_len = torch.tensor(pairs).T
    assert keys_of_row(i, part_a_len).tolist() == [keys_of_row(*pair) for pair in pairs]
    assert keys_of_row(i, 3).tolist() == [keys_of_row(int(n), 3) for n in i]


def test_the_papers_mask_by_hand():
    grid = GLMMask.packed([10], [5]).dense().int().tolist()
    assert ["".join("x" if cell else "." for cell in row) for row in grid] == [
        "xxxxx.....",
        "xxxxx.....",
        "xxxxx.....",
        "xxxxx.....",
        "xxxxx.....",
        "xxxxxx....",
        "xxxxxxx...",
        "xxxxxxxx..",
        "xxxxxxxxx.",
        "xxxxxxxxxx",
    ]


@given(ragged_masks())
def test_the_dense_grid_is_what_three_statements_say(mask):
    check(mask, mask.dense())


@given(ragged_masks())
def test_visible_keys_counts_the_grid_row_by_row(mask):
    visible = mask.visible_keys()
    assert visible.dtype == torch.int64 and visible.shape == (int(mask.cu_seqlens_q[-1]),)
    assert visible.tolist() == grid_by_words(mask).sum(1).tolist()


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=4))
def test_part_b_never_sees_the_future_and_part_a_never_sees_part_b(pairs):
    lens, part_a = [T for T, _ in pairs], [min(A, T) for T, A in pairs]
    mask = GLMMask.packed(lens, part_a)
    grid, start = mask.dense(), 0
    for T, A in zip(lens, part_a, strict=True):
        sample = grid[start : start + T, start : start + T]
        assert sample[:, :A].all() and not sample[:A, A:].any()
        assert sample[A:, A:].equal(torch.ones(T - A, T - A).tril().bool())
        assert grid[start : start + T].sum() == sample.sum()  # and no row sees another sample
        start += T


@pytest.mark.parametrize(
    "mask",
    [
        GLMMask.packed([], []),
        GLMMask.packed([0], [0]),
        GLMMask.packed([0, 3, 0], [0, 2, 0]),
        GLMMask.packed([1, 1], [0, 1]),
        GLMMask([0, 1], [0, 6], [3]),  # a step of decoding
        GLMMask([0, 5], [0, 2], [1]),  # more queries than keys: the first three see Part A only
        GLMMask([0, 3], [0, 2], [0]),  # ... and nothing if it is empty
        GLMMask([0, 2], [0, 0], [0]),  # no keys at all
        GLMMask([0, 0], [0, 4], [2]),  # no queries at all
        GLMMask([0, 2, 3], [0, 8, 12], [2, 0], seqlens_k=[5, 1]),  # caches with unused slots
        GLMMask([0, 2], [0, 4], [0], seqlens_k=[0]),
    ],
    ids=range(11),
)
def test_edges_are_what_three_statements_say(mask):
    check(mask, mask.dense())


# Each of these mistakes must be caught by each statement

RAGGED = GLMMask.packed([7, 5, 6], [3, 0, 5])
CACHED = GLMMask([0, 2, 6], [0, 8, 13], [2, 4], seqlens_k=[5, 5])

WRONG_RULES = {
    "Part A ends one early": lambda i, a: torch.maximum((a - 1).clamp(min=0), i + 1),
    "Part A ends one late": lambda i, a: torch.maximum(a + 1, i + 1),
    "a row does not see itself": lambda i, a: torch.maximum(a, i),
    "a row sees the next one": lambda i, a: torch.maximum(a, i + 2),
    "Part B sees all of the future": lambda i, a: torch.where(i < a, a, 1000),
    "Part A is causal": lambda i, a: i + 1,
    "Part B sees Part A only": lambda i, a: a.expand_as(i),
    "the smaller instead of the larger": lambda i, a: torch.minimum(a, i + 1),
}


@pytest.mark.parametrize("mask", [RAGGED, CACHED], ids=["ragged", "cached"])
@pytest.mark.parametrize("wrong", WRONG_RULES.values(), ids=WRONG_RULES)
def test_a_wrong_rule_would_be_caught(monkeypatch, wrong, mask):
    monkeypatch.setattr(minglm.mask, "keys_of_row", wrong)
    grid = mask.dense()
    monkeypatch.undo()
    for statement in STATEMENTS:
        assert not np.array_equal(np.asarray(grid), statement(mask)), statement.__name__
    with pytest.raises(AssertionError):
        check(mask, grid)


def sees_its_neighbour(mask):
    """Samples begin one key early, and so see the last token of the sample before."""
    grid = mask.dense()
    return grid | grid.roll(-1, 1)


WRONG_GRIDS = {
    "transposed": lambda: RAGGED.dense().T,
    "inverted": lambda: ~RAGGED.dense(),
    "a sample sees its neighbour": lambda: sees_its_neighbour(RAGGED),
    "one sample instead of three": lambda: GLMMask.packed([18], [3]).dense(),
    "Part A of the neighbour": lambda: GLMMask.packed([7, 5, 6], [0, 5, 3]).dense(),
    "Part A of the first sample everywhere": lambda: GLMMask.packed([7, 5, 6], [3, 3, 3]).dense(),
    "everything": lambda: torch.ones(18, 18, dtype=torch.bool),
    "nothing": lambda: torch.zeros(18, 18, dtype=torch.bool),
}


@pytest.mark.parametrize("wrong", WRONG_GRIDS.values(), ids=WRONG_GRIDS)
def test_a_wrong_grid_would_be_caught(wrong):
    check(RAGGED, RAGGED.dense())
    for statement in STATEMENTS:
        assert not np.array_equal(np.asarray(wrong()), statement(RAGGED)), statement.__name__
    with pytest.raises(AssertionError):
        check(RAGGED, wrong())


WRONG_CACHES = {
    "queries at the start of the keys": lambda: CACHED.with_queries([5, 5]).dense()[[0, 1, 5, 6, 7, 8]],
    "queries at the end of the room": lambda: GLMMask([0, 2, 6], [0, 8, 13], [2, 4]).dense(),
    "keys of the room are seen": lambda: CACHED.dense() | torch.tensor([5 <= j < 8 for j in range(13)]),
}


@pytest.mark.parametrize("wrong", WRONG_CACHES.values(), ids=WRONG_CACHES)
def test_a_wrong_cache_would_be_caught(wrong):
    check(CACHED, CACHED.dense())
    with pytest.raises(AssertionError):
        check(CACHED, wrong())


# Constructors


@given(st.lists(st.integers(0, 6), max_size=4))
def test_gpt_is_the_lower_triangle_of_each_sample(lens):
    blocks = [np.tril(np.ones((T, T), dtype=bool)) for T in lens]
    assert np.array_equal(
        GLMMask.gpt(lens).dense(), torch.block_diag(*map(torch.tensor, blocks)) if lens else np.zeros((0, 0))
    )


@given(st.lists(st.integers(0, 6), max_size=4))
def test_bert_is_all_of_each_sample(lens):
    same = np.repeat(np.arange(len(lens)), lens)
    assert np.array_equal(GLMMask.bert(lens).dense(), same[:, None] == same)


@pytest.mark.parametrize(
    "kind",
    [
        list,
        tuple,
        np.array,
        torch.tensor,
        lambda x: np.array(x, dtype=np.int32),
        lambda x: torch.tensor(x, dtype=torch.uint8),
        lambda x: torch.tensor([[n, 0] for n in x])[:, 0],  # strided
    ],
)
def test_lengths_may_be_lists_arrays_or_tensors(kind):
    for mask in (
        GLMMask.packed(kind([4, 3]), kind([2, 0])),
        GLMMask(kind([0, 4, 7]), kind([0, 4, 7]), kind([2, 0])),
    ):
        for name, values in (
            ("cu_seqlens_q", [0, 4, 7]),
            ("cu_seqlens_k", [0, 4, 7]),
            ("part_a_lens", [2, 0]),
        ):
            got = getattr(mask, name)
            assert got.dtype == torch.int32 and got.device.type == "cpu" and got.tolist() == values


@given(ragged_masks(), st.data())
def test_fewer_queries_see_what_the_last_rows_saw(mask, data):
    len_q = [data.draw(st.integers(0, n)) for n in mask.len_q.tolist()]
    fewer = mask.with_queries(len_q)
    last = [
        end - n + r for end, n in zip(mask.cu_seqlens_q[1:].tolist(), len_q, strict=True) for r in range(n)
    ]
    assert fewer.len_q.tolist() == len_q and fewer.len_k.equal(mask.len_k)
    assert np.array_equal(fewer.dense(), grid_by_words(mask)[last])


def test_what_is_derived_is_derived_once_and_by_key():
    mask, calls = GLMMask.packed([3], [1]), []
    for key in ("a", "a", "b", "a"):
        assert mask.remember(key, lambda key=key: calls.append(key) or key) == key
    assert calls == ["a", "b"]
    # another mask has a cache of its own
    assert mask.with_queries([1]).remember("a", lambda: "other") == "other"


def test_a_mask_cannot_be_changed():
    with pytest.raises(AttributeError):
        RAGGED.part_a_lens = torch.zeros(3)


# What is not accepted


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(cu_seqlens_q=[0, 2]), "^cu_seqlens_q: 2 entries for 2 samples"),
        (dict(cu_seqlens_k=[0, 4, 7, 9]), "^cu_seqlens_k: 4 entries for 2 samples"),
        (dict(cu_seqlens_q=[]), "^cu_seqlens_q: 0 entries"),
        (dict(cu_seqlens_q=[1, 4, 7]), r"^cu_seqlens_q: \[1, 4, 7\] must start at 0"),
        (dict(cu_seqlens_k=[0, 5, 4]), r"^cu_seqlens_k: \[0, 5, 4\] must .* never fall"),
        (dict(seqlens_k=[4]), "^seqlens_k: 1 entries for 2 samples"),
        (dict(seqlens_k=[4, 4]), r"^seqlens_k: \[4, 4\] must lie between 0 and \[4, 3\]"),
        (dict(seqlens_k=[4, -1]), "^seqlens_k: .* must lie between 0"),
        (
            dict(part_a_lens=[2, 4]),
            r"^part_a_lens: \[2, 4\] must lie between 0 and the samples' keys \[4, 3\]",
        ),
        (dict(part_a_lens=[-1, 0]), r"^part_a_lens: \[-1, 0\] must lie between 0"),
        (
            dict(seqlens_k=[1, 3]),
            r"^part_a_lens: \[2, 0\] .* keys \[1, 3\]",
        ),  # fits the slots, but not the keys in them
        (dict(part_a_lens=[2.0, 0.0]), "^part_a_lens: torch.float32 .* integers"),
        (dict(part_a_lens=[True, False]), "^part_a_lens: torch.bool"),
        (dict(part_a_lens=[[2, 0]]), r"^part_a_lens: .* of shape \(1, 2\); a 1-D row"),
        (dict(part_a_lens=2), r"^part_a_lens: .* of shape \(\)"),
        (
            dict(cu_seqlens_k=list(range(0, 90, 10)), cu_seqlens_q=[0] * 9, part_a_lens=[11] * 8),
            "^part_a_lens",
        ),
        (
            dict(cu_seqlens_k=list(range(0, 110, 10)), cu_seqlens_q=[0] * 11, part_a_lens=[11] * 10),
            r"11, \.\.\.\]",
        ),
    ],
)
def test_lengths_that_contradict_each_other_are_an_error(arguments, message):
    good = dict(cu_seqlens_q=[0, 4, 7], cu_seqlens_k=[0, 4, 7], part_a_lens=[2, 0])
    GLMMask(**good)
    with pytest.raises(MinglmError, match=message) as caught:
        GLMMask(**{**good, **arguments})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: GLMMask.packed([3, -1], [0, 0]),
        lambda: GLMMask.packed([3], [0, 0]),
        lambda: GLMMask.packed([3.5], [0]),
        lambda: GLMMask.packed([3, 2], [1, 1]).with_queries([1]),
        lambda: GLMMask.packed([3, 2], [1, 1]).with_queries([1, -1]),
    ],
)
def test_every_way_to_make_one_checks(make):
    with pytest.raises(MinglmError):
        make()


def test_one_more_sample_leaves_the_others_as_they_are():
    mask = GLMMask([0, 2, 3], [0, 4, 8], [1, 2], seqlens_k=[3, 4])
    more = mask.with_sample(2)
    assert torch.equal(more.dense()[:3, :8], mask.dense()) and not more.dense()[:3, 8:].any()
    assert more.dense()[3:].tolist() == 2 * [8 * [False] + 2 * [True]]
