"""The puzzles: their solution is the library, each usual mistake is recognised, and the checker is kind."""

import ast
import math
import random
import re
import textwrap

import pytest
import torch
from conftest import ROOT

from minglm import GLM, GLMConfig, GLMMask, Rng, Span, build_example, pack, restore, sample_spans
from minglm.course import solution, stubs
from minglm.course.cases import cases
from minglm.course.checker import check, wrong_functions
from minglm.course.puzzles import OPEN, PARTS, PUZZLES, RIGHT, WRONG
from minglm.course.reader import Reader
from minglm.spans import token_spans
from minglm.special import SpecialTokens

NAMES = [*PUZZLES]
SPECIAL = SpecialTokens()
IDS = {"[M]": SPECIAL.mask, "[S]": SPECIAL.sop, "[E]": SPECIAL.eop}


@pytest.fixture(scope="module")
def solved():
    """A Reader whose file is the solution."""
    return Reader(stubs.SOLUTION)


@pytest.fixture
def write(tmp_path):
    """write(puzzle=source, ...): a file with these functions, and the solutions of all others."""

    def write(**sources):
        text = stubs.text()
        for name, source in sources.items():
            text = text.replace(stubs.solution_of(name), textwrap.dedent(source).strip())
        file = tmp_path / "mine.py"
        file.write_text(text, encoding="utf-8")
        return file

    return write


def said(file, name):
    """What the checker says about a puzzle of a file."""
    verdict = check(Reader(file), name)
    assert verdict.state == WRONG
    return "\n".join(verdict.lines)


# ---- the solution is the library -------------------------------------------------------------------------


def test_the_solution_imports_no_minglm():
    imported = {
        alias.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(ast.parse(stubs.text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert imported == {"math", "random", "torch"}


def ids_of(words):
    return [IDS.get(word, -1 if word is None else word) for word in words]


def test_its_samples_are_those_of_build_example():
    for n in range(60):
        rng = Rng(n)
        words = list(range(20, 30 + rng.integer(40)))
        spans = sample_spans(words, "token", rng, has_cls=False, mask_ratio=0.4, mean_length=2)
        order = rng.shuffle(list(range(len(spans))))
        tokens, positions, insides, targets, A = solution.sample(words, spans, order)
        example = build_example(words, spans, order)
        assert ids_of(tokens) == example.tokens.tolist() and A == example.part_a_len
        assert positions == example.position_ids.tolist()
        assert insides == example.block_position_ids.tolist()
        assert ids_of(targets) == [-1] * A + example.targets.tolist()
        assert solution.restore(tokens, positions, targets, A) == restore(example).tolist() == words


def test_its_mask_is_the_library_s():
    for T in range(1, 9):
        for A in range(T + 1):
            assert solution.mask(T, A).equal(GLMMask.packed([T], [A]).dense())
            assert solution.part_a_len(solution.mask(T, A)) == max(A, 1)


def test_its_spans_are_placed_as_the_library_places_them():
    class Drawn(Rng):
        """Keeps what it gives: lengths after their shuffle, and slots."""

        def shuffle(self, items):
            self.lengths, self.slots = super().shuffle(items), []
            return self.lengths

        def integer(self, n):
            value = super().integer(n)
            if hasattr(self, "slots"):
                self.slots.append(value)
            return value

    for seed in range(30):
        rng = Drawn(seed)
        spans = token_spans(0, 40, 8, rng)
        assert solution.place_spans(rng.lengths, sorted(rng.slots)) == [tuple(span) for span in spans]


def weights_of(glm):
    """The weights of a GLM of the library, as the puzzles name them."""
    given = {name: value.double() for name, value in glm.state_dict().items()}
    layers = []
    for n in range(glm.config.num_layers):
        one = {}
        for name in ("norm1", "qkv", "out", "norm2", "up", "down"):
            weight = given[f"layers.{n}.{name}.weight"]
            one[name] = weight.T if weight.dim() == 2 else weight
            one[name + "_bias"] = given[f"layers.{n}.{name}.bias"]
        layers.append(one)
    tables = {"token": "token", "position": "position", "inside": "block_position"}
    w = {name: given[f"{theirs}_embedding.weight"] for name, theirs in tables.items()}
    return w | {"norm": given["final_norm.weight"], "norm_bias": given["final_norm.bias"], "layers": layers}


def test_its_logits_and_its_loss_are_those_of_the_library():
    torch.manual_seed(0)
    glm = GLM(GLMConfig(50, hidden_size=12, num_layers=2, num_heads=3, max_positions=40, dropout=0)).double()
    for p in glm.parameters():
        p.data += 0.2 * torch.randn_like(p)
    w, examples, mine = weights_of(glm), [], []
    for n in range(5):
        rng = random.Random(n)
        words = rng.choices(range(20, 50), k=10 + n)
        spans, order = solution.random_spans(len(words), rng)
        examples.append(build_example(words, [Span(*span) for span in spans], order))
        tokens, positions, insides, targets, A = solution.sample(words, spans, order)
        mine.append((ids_of(tokens), positions, insides, ids_of(targets), A))
    packed = pack(examples)
    *columns, targets, mask = solution.batch(mine)
    with torch.no_grad():
        want = glm(packed.tokens, packed.position_ids, packed.block_position_ids, packed.mask)
        got = solution.model(w, 3, *columns, mask)
        lengths = [len(one[0]) for one in mine]
        got_rows = torch.cat([rows[:n] for rows, n in zip(got, lengths, strict=True)])
        assert torch.allclose(got_rows, want, rtol=0, atol=1e-11)
        assert abs(solution.loss(got, targets) - glm.loss(packed)) < 1e-11


def test_its_adam_is_that_of_the_paper():
    """Against the sums that the moving means stand for: m = 0.1 sum of 0.9^(t - i) g_i, and so for v."""
    torch.manual_seed(0)
    w, m, v = torch.randn(5).double(), torch.zeros(5).double(), torch.zeros(5).double()
    want, grads = w.clone(), torch.randn(6, 5).double()
    for t in range(1, 7):
        ages = torch.arange(t - 1, -1, -1.0).double()[:, None]
        mean = (0.9**ages * grads[:t]).sum(0) / (0.9**ages).sum(0)
        square = (0.999**ages * grads[:t] ** 2).sum(0) / (0.999**ages).sum(0)
        want = want - 0.03 * mean / (square.sqrt() + 1e-8)
        solution.adam(w, grads[t - 1], m, v, t, 0.03)
        assert torch.allclose(w, want, rtol=0, atol=1e-13)


# ---- what a description says is true ---------------------------------------------------------------------


def test_examples_in_descriptions_are_right():
    words, spans, order = "x1 x2 x3 x4 x5 x6".split(), [(2, 3), (4, 6)], [1, 0]
    tokens, positions, _, targets, A = solution.sample(words, spans, order)
    given = dict(
        words=words, spans=spans, order=order, tokens=tokens, positions=positions, targets=targets, A=A
    )
    shown = 0
    for name in NAMES[: NAMES.index("visible")]:
        doc = getattr(solution, name).__doc__
        arguments = [
            given[p] for p in re.findall(r"\w+", stubs.solution_of(name).split("(")[1].split(")")[0])
        ]
        want = getattr(solution, name)(*arguments)
        example = re.search(r"Example: (.+)", doc)[1]
        assert example in (str(want), " ".join(map(str, want))), name
        shown += 1
    assert shown == 7
    assert [solution.visible(i, 5) for i in range(10)] == [5, 5, 5, 5, 5, 6, 7, 8, 9, 10]
    assert solution.place_spans([2, 3], [1, 3]) == [(1, 3), (6, 9)]


LOOPS = {  # puzzle: (names of its arguments and what the loops fill in, from the arguments)
    "mask": lambda T, A: dict(T=T, A=A, mask=torch.zeros(T, T, dtype=torch.bool), visible=solution.visible),
    "softmax": lambda scores, mask: dict(
        scores=scores.double(), mask=mask, T=len(mask), weights=torch.zeros(mask.shape)
    ),
    "attention": lambda q, k, v, mask: dict(
        q=q,
        k=k,
        v=v,
        mask=mask,
        T=len(q),
        D=q.shape[1],
        scores=torch.zeros(mask.shape),
        out=torch.zeros(q.shape),
    ),
    "split_heads": lambda x, H: dict(
        x=x, H=H, T=len(x), C=x.shape[1], out=torch.zeros(H, len(x), x.shape[1] // H)
    ),
    "layer_norm": lambda x, w, name: dict(
        x=x, w=w, name=name, T=len(x), C=x.shape[1], out=torch.zeros(x.shape)
    ),
    "loss": lambda logits, targets: dict(
        logits=logits, targets=targets, rows=len(targets), V=logits.shape[1], total=0, count=0
    ),
}


@pytest.mark.parametrize("name", LOOPS)
def test_the_loops_of_a_description_compute_what_the_solution_does(name):
    doc = textwrap.dedent(" " * 4 + getattr(solution, name).__doc__)
    loops = "\n".join(re.findall(r"^(?:[ \w\[\], ]+ = .*|weights = .*|for .*|    .*)$", doc, re.M))
    args = cases(name)[0]
    names = LOOPS[name](*args) | dict(exp=math.exp, log=math.log, sqrt=math.sqrt, softmax=solution.softmax)
    exec(loops, names)
    result = names[{"mask": "mask", "softmax": "weights"}.get(name, "out")]
    assert torch.allclose(
        torch.as_tensor(result).double(), torch.as_tensor(getattr(solution, name)(*args)).double(), atol=1e-6
    )


# ---- the checker -----------------------------------------------------------------------------------------


def test_the_catalogue_and_the_solution_have_the_same_puzzles_in_the_same_order():
    assert NAMES == [*stubs.functions()] and len(NAMES) == 26
    for part in PARTS:
        assert (ROOT / "tutorials" / part.page).is_file()
    for puzzle in PUZZLES.values():
        assert puzzle.question.endswith("?") and len(puzzle.hints) == 2 and len(puzzle.mistakes) >= 3


@pytest.mark.parametrize("name", NAMES)
def test_a_puzzle_is_solved_by_its_solution_and_each_usual_mistake_gets_its_name(name, solved):
    assert check(solved, name).state == RIGHT
    right = solved.names[name]
    try:
        for say, function in wrong_functions(name):
            solved.names[name] = function
            verdict = check(solved, name)
            assert verdict.state == WRONG and say in " ".join(verdict.lines), say
    finally:
        solved.names[name] = right


def test_stubs_are_the_solution_without_the_bodies(tmp_path):
    file = tmp_path / "fresh.py"
    file.write_text(stubs.stub_file(file.name), encoding="utf-8")
    fresh, nodes = Reader(file), stubs.functions()
    assert all(check(fresh, name).state == OPEN for name in NAMES)
    assert "minglm course check fresh.py" in fresh.text and "minglm" not in fresh.text.split('"""', 2)[2]
    for node in ast.parse(fresh.text).body:
        if isinstance(node, ast.FunctionDef) and node.name in nodes:
            assert ast.dump(node.args) == ast.dump(nodes[node.name].args)
            assert ast.get_docstring(node) == ast.get_docstring(nodes[node.name])
            assert len(node.body) == 2
    filled = fresh.text
    for name, node in nodes.items():  # put the bodies back
        start = filled.index(f"def {name}(")
        body = "\n".join(stubs.text().splitlines()[node.body[0].end_lineno : node.end_lineno])
        stub = re.search(r"    \.\.\.  # your code.*", filled[start:])[0]
        filled = filled[:start] + filled[start:].replace(stub, body, 1)
    assert filled.split('"""', 2)[2] == stubs.text().split('"""', 2)[2]


def test_unlisted_mistakes_are_described_too(write):
    assert "did you forget `return`?" in said(write(visible="def visible(i, A): max(A, i + 1)"), "visible")
    assert "`return` hands it over" in said(
        write(visible="def visible(i, A): print(max(A, i + 1))"), "visible"
    )
    joined = (
        "def part_b(words, spans, order): return [' '.join(['[S]', *words[slice(*spans[k])]]) for k in order]"
    )
    assert "each word is an entry of its own" in said(write(part_b=joined), "part_b")
    nested = "def part_b(words, spans, order): return [['[S]', *words[slice(*spans[k])]] for k in order]"
    assert "one flat list is expected" in said(write(part_b=nested), "part_b")
    lazy = "def mask_places(w, s): return (i for i, t in enumerate(part_a(w, s)) if t == '[M]')"
    assert "list(...)" in said(write(mask_places=lazy), "mask_places")
    assert "the transpose" in said(
        write(mask="def mask(T, A): return torch.ones(T, T).triu().bool() | (torch.arange(T)[:, None] < A)"),
        "mask",
    )
    floats = "def mask(T, A): return (torch.arange(T) < torch.arange(1, T + 1).clamp(min=A)[:, None]).float()"
    assert "a mask is bool" in said(write(mask=floats), "mask")
    double = "def gelu(x): return x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))"
    assert "The 0.5 is missing." in said(write(gelu=double), "gelu")
    pops = "def part_a(words, spans):\n    spans.pop()\n    return words"
    assert "changes spans" in said(write(part_a=pops), "part_a")


def test_the_reader_s_mask_is_drawn_beside_the_right_one_with_its_wrong_cells(write):
    text = said(write(mask="def mask(T, A): return torch.ones(T, T).tril().bool()"), "mask")
    assert "   0  █ - - · · ·     █ █ █ · · ·" in text and "GPT's mask" in text
    leak = "def mask(T, A):\n    m = torch.ones(T, T).tril().bool()\n    m[:, :A + 1] = True\n    return m"
    text = said(write(mask=leak), "mask")
    assert "   0  █ █ █ + · ·     █ █ █ · · ·" in text
    assert "Row 0 (Part A) sees token 3 (Part B), and should not." in text


def test_calls_of_predict_are_compared(write):
    source = stubs.solution_of("fill").replace("insides, len(words))", "insides, 0)")
    text = said(write(fill=source), "fill")
    assert "Your call 1 of predict differs" in text and "yours 0" in text and "right 9" in text


def test_an_endless_loop_an_exception_and_an_exit_show_their_line(write, monkeypatch):
    monkeypatch.setattr("minglm.course.reader.SECONDS", 0.2)
    text = said(write(visible="def visible(i, A):\n    while True:\n        i += 1"), "visible")
    assert "does this loop ever end?" in text and re.search(r"line \d+:  (while True:|i \+= 1)", text)
    text = said(write(visible="def visible(i, A):\n    return max(B, i + 1)"), "visible")
    assert "return max(B, i + 1)" in text and "NameError: name 'B' is not defined" in text
    assert "exit()" in said(write(visible="def visible(i, A):\n    raise SystemExit"), "visible")
    assert "were changed" in said(write(visible="def visible(i): return i"), "visible")
    assert "no function any more" in said(write(visible="visible = 3"), "visible")
    assert "is gone" in said(write(cloze=""), "cloze")


def test_a_wrong_solution_that_stops_is_refused_with_the_reader_s_line(write):
    source = stubs.solution_of("attention").replace("k.transpose(-1, -2)", "k")
    text = said(write(attention=source), "attention")
    assert "scores = q @ k / math.sqrt" in text and "RuntimeError" in text


# ---- the command -----------------------------------------------------------------------------------------


def test_the_command_writes_checks_and_hints(minglm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert minglm("course", "start").code == 0
    again = minglm("course", "start")
    assert again.code == 2 and again.err.startswith(
        "minglm: error: my_glm.py: it exists and is never overwritten"
    )
    first = minglm("course", "check")
    assert (
        first.code == 1
        and "→ part_a" in first.out
        and "0 of 26" in first.out
        and "Not written yet" in first.out
    )
    hints = [minglm("course", "check", "my_glm.py", "--hint", n).out for n in (1, 2)]
    assert all(hint in out for hint, out in zip(PUZZLES["part_a"].hints, hints, strict=True))
    listed = minglm("course")
    assert listed.code == 0 and "→ part_a" in listed.out and "03 Who sees whom" in listed.out
    file = tmp_path / "my_glm.py"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("    ...  # your code: 5 lines", "    return words", 1), encoding="utf-8")
    wrong = minglm("course", "check")
    assert wrong.code == 1 and "✗ part_a" in wrong.out and "right  x1  x2  [M]  x4  [M]" in wrong.out
    file.write_text(text + "\ntokens = [\n", encoding="utf-8")
    broken = minglm("course", "check")
    assert broken.code == 2 and re.fullmatch(r"minglm: error: my_glm.py, line \d+: .+\n", broken.err)
    missing = minglm("course", "check", "other.py")
    assert missing.code == 2 and "minglm course start" in missing.err
    assert minglm("course", "solution", "mask").out.startswith("def mask(T, A):")
    assert "did you mean mask?" in minglm("course", "solution", "masc").err


def test_when_all_is_right_the_reader_s_glm_is_trained(minglm, tmp_path, monkeypatch):
    """A few steps only; that the whole training finds the cat is tested with the chapters."""
    file = tmp_path / "mine.py"
    file.write_text(stubs.text().replace("STEPS = 64, 4, 2, 1200", "STEPS = 64, 4, 2, 12"), encoding="utf-8")
    result = minglm("course", "check", file)
    assert "26 of 26" in result.out and "step   12   loss" in result.out
    assert result.code == 1 and "The cat is missing" in result.out


@pytest.mark.parametrize("page", ["puzzles.md", "puzzles.zh.md"])
def test_the_page_shows_what_the_commands_print(page, minglm, tmp_path, monkeypatch):
    """Its blocks in order: a function is put into the file, a command is run."""
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "tutorials" / page).read_text(encoding="utf-8")
    file, count = tmp_path / "my_glm.py", 0

    def put(name, source):
        text = file.read_text(encoding="utf-8")
        start = text.index(f"def {name}(")
        file.write_text(text[:start] + source.strip() + text[text.index("\n\n\n", start) :], encoding="utf-8")

    for language, block in re.findall(r"^```(python|console)\n(.*?)^```$", page, re.M | re.S):
        if language == "python":
            name = re.match(r"def (\w+)", block)[1]
            for earlier in NAMES[1 : NAMES.index(name)]:
                put(earlier, stubs.solution_of(earlier))
            put(name, block)
        else:
            line, _, shown = block.partition("\n")
            assert minglm(*line.split()[2:]).out.strip("\n") == shown.strip("\n")
            count += 1
    assert count == 4
