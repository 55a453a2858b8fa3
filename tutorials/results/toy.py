"""Trains one network as GLM, GPT and BERT on the toy world: writes toy.json next to this file.

    python tutorials/results/toy.py             what toy.json lacks; a model takes a minute
    python tutorials/results/toy.py --again     all of them
    python tutorials/results/toy.py --models    also saves the first seed's, which the explorer shows

Questions are held-out sentences of minglm/data/toy.py with blanks. The answers of the networks are compared
with what an ideal reader, which knows the world by heart, can say if it sees what the mask shows.
"""

import argparse
import dataclasses
import json
import math
import time
from collections import Counter
from itertools import product
from pathlib import Path
from statistics import mean, stdev

import torch

from minglm import GLM, GLMConfig, GLMMask, Rng, Tokenizer, build_example, pack
from minglm.data import toy
from minglm.data.toy import ANIMALS, CHOICES, facts, sentences
from minglm.families import all_part_a, continuation, training_example
from minglm.files.checkpoint import save_pretrained
from minglm.machine import origin
from minglm.train.optimizer import Muon
from minglm.use.models import SIBLINGS

HERE = Path(__file__).parent
SEEDS, STEPS, BATCH = range(5), 3000, 16
RATE = 0.01  # of Muon, which learns this in a third of AdamW's steps
ORDERS = "in order", "last first"  # of two blanks
DIALS = dict(has_eos=True, mask_ratio=0.3, mean_length=1.5, blanks="drawn")

WORLD = sentences()
KEPT = {fact.tell() for fact in facts()}
TOKENIZER = Tokenizer.train(list(WORLD), 500)  # every word becomes a token
SPECIAL = TOKENIZER.special


def ids_of(text):
    return [SPECIAL.cls, *TOKENIZER.encode(text), SPECIAL.eos]


TOLD = [(ids_of(sentence), times) for sentence, times in WORLD.items()]
READ = [ids_of(sentence) for sentence, times in WORLD.items() if sentence not in KEPT for _ in range(times)]


# ---- questions -------------------------------------------------------------------------------------------


def questions():
    """{kind: texts with a [MASK] for each blank}."""
    asked = {"animal": [], "home": [], "food": [], "two-word food": [], "two homes": []}
    for fact in facts():
        two_homes, two_foods = (len(c) == 2 for c in CHOICES.get(fact.animal, ("1", "1")))
        asked["animal"].append(fact._replace(animal="[MASK]").tell())
        asked["two homes" if two_homes else "home"].append(fact._replace(home="[MASK]").tell())
        asked["two-word food" if two_foods else "food"].append(fact._replace(food="[MASK]").tell())
    asked["animal and food"] = [
        f"The [MASK] lives {home} and eats [MASK]." for home in sorted({home for home, _ in ANIMALS.values()})
    ]
    return {kind: list(dict.fromkeys(texts)) for kind, texts in asked.items()}


def answers(question):
    """The sentences of the world that answer a question: a list of (tokens, spans, times told)."""
    found = []
    for sentence, blanks in toy.answers(question).items():
        tokens, spans = [SPECIAL.cls], []
        for text, blank in zip(question.split(" [MASK]"), [*blanks, ""], strict=True):
            tokens += TOKENIZER.encode(text)
            spans.append((len(tokens), len(tokens) + len(TOKENIZER.encode(blank))))
            tokens += TOKENIZER.encode(blank)
        assert [*tokens, SPECIAL.eos] == ids_of(sentence)  # every word is a token
        found.append(([*tokens, SPECIAL.eos], spans[:-1], WORLD[sentence]))
    return found


def rows_in(spans):
    return [row for start, end in spans for row in range(start, end)]


def told_lengths(question):
    """What BERT and GPT are told: the likeliest answers with the fewest tokens, and all with such spans."""
    found = answers(question)
    spans = min((len(tokens), spans) for tokens, spans, _ in found)[1]
    return [answer for answer in found if answer[1] == spans]


# ---- networks --------------------------------------------------------------------------------------------


def config(family="glm"):
    return GLMConfig(
        TOKENIZER.vocab_size,
        hidden_size=64,
        num_layers=2,
        num_heads=4,
        max_positions=32,
        dropout=0.0,
        family=family,
    )


def train(family, seed):
    """A GLM that has learned the toy world as `family`; every family reads the same sentences."""
    torch.manual_seed(seed)
    model = GLM(config(family))
    matrices = [p for p in model.layers.parameters() if p.dim() == 2]
    others = [p for name, p in model.named_parameters() if "embedding" in name or p.dim() == 1]
    muon, adamw = Muon(matrices, RATE, weight_decay=0.0), torch.optim.AdamW(others, fused=True)
    for step in range(STEPS):
        batch = []
        for n in range(BATCH):
            rng = Rng(seed, step, n)
            text = READ[rng.integer(len(READ))]
            batch.append(training_example(family, text, "token", rng, SPECIAL, TOKENIZER.vocab_size, DIALS))
        loss = model.loss(pack(batch))
        loss.backward()
        for optimizer in (muon, adamw):
            optimizer.param_groups[0]["lr"] = RATE * min(1, (step + 1) / 30, 2 * (1 - step / STEPS))
            optimizer.step()
            optimizer.zero_grad()
    return model.eval()


def example_of(family, tokens, spans):
    """The Example whose targets are the answer: GLM's spans and their ends, or just the tokens in them."""
    rows = rows_in(spans)
    if family == "bert":
        masked = [SPECIAL.mask if row in rows else token for row, token in enumerate(tokens)]
        return all_part_a(masked, rows, [tokens[row] for row in rows], SPECIAL)
    if family == "gpt":
        example = continuation(tokens, 1, 0, SPECIAL, "gpt")
        before = [row - 1 for row in rows]
        return dataclasses.replace(example, targets=example.targets[before], target_rows=before)
    return build_example(tokens, spans, list(range(len(spans))), SPECIAL)


@torch.no_grad()
def probability(model, tokens, spans):
    """The probability that the network gives to an answer."""
    example = example_of(model.config.family, tokens, spans)
    return math.exp(-model.loss(pack([example]), "sum").item())


@torch.no_grad()
def next_logits(model, tokens, part_a_len, positions=None, block_positions=None):
    positions = list(range(len(tokens))) if positions is None else positions
    columns = tokens, positions, block_positions or [0] * len(tokens)
    return model(*map(torch.tensor, columns), GLMMask.packed([len(tokens)], [part_a_len]))  # (T, V)


def fill_glm(model, question, backwards=False):
    """The filled sentence, greedily, as tokens; backwards: the last blank is filled first."""
    tokens = [SPECIAL.cls, *TOKENIZER.encode(question, special=True), SPECIAL.eos]
    blanks, A = [row for row, token in enumerate(tokens) if token == SPECIAL.mask], len(tokens)
    part_a, positions, inside, answer = list(tokens), list(range(A)), [0] * A, {}
    for blank in reversed(blanks) if backwards else blanks:
        token, answer[blank] = SPECIAL.sop, []
        while token != SPECIAL.eop and len(answer[blank]) < 6:
            tokens, positions = [*tokens, token], [*positions, blank]
            inside.append(len(answer[blank]) + 1)
            token = next_logits(model, tokens, A, positions, inside)[-1].argmax().item()
            answer[blank] += [token] if token != SPECIAL.eop else []
    return [token for row, old in enumerate(part_a) for token in answer.get(row, [old])]


def fill_gpt(model, tokens, spans):
    """The tokens with those in `spans` written anew, one after the other; the others are given."""
    tokens = list(tokens)
    for row in rows_in(spans):
        tokens[row] = next_logits(model, tokens[:row], 0)[-1].argmax().item()
    return tokens


def fill_bert(model, tokens, spans, again=False):
    """The tokens with all of `spans` guessed at once; again: only the surest, then it reads again."""
    rows = rows_in(spans)
    tokens = [SPECIAL.mask if row in rows else token for row, token in enumerate(tokens)]
    while rows:
        sure, guess = next_logits(model, tokens, len(tokens)).softmax(-1)[rows].max(-1)
        for n in [sure.argmax().item()] if again else range(len(rows)):
            tokens[rows[n]] = guess[n].item()
        rows = [row for row in rows if tokens[row] == SPECIAL.mask]
    return tokens


def rank_gpt(model, question):
    """The animal for which the whole sentence is likeliest to GPT, as a sentence: no reading to the right."""
    texts = [ids_of(question.replace("[MASK]", animal)) for animal in (*ANIMALS, *CHOICES)]
    return min(texts, key=lambda tokens: -probability(model, tokens, [(1, len(tokens))]))


def fill(model, question, other=False):
    """The filled sentence, as tokens, greedily.

    other: GPT ranks all animals, BERT fills one mask at a time, GLM fills the last blank first.
    """
    family, (tokens, spans, _) = model.config.family, told_lengths(question)[0]
    if family == "gpt":
        return rank_gpt(model, question) if other else fill_gpt(model, tokens, spans)
    if family == "bert":
        return fill_bert(model, tokens, spans, again=other)
    return fill_glm(model, question, backwards=other)


# ---- the best that is possible ---------------------------------------------------------------------------


def share(fits, wanted):
    """The share of the tellings that are also `wanted` among those that fit; both are functions of tokens."""
    fitting = [(tokens, times) for tokens, times in TOLD if fits(tokens)]
    return sum(times for tokens, times in fitting if wanted(tokens)) / sum(times for _, times in fitting)


def ideal(family, tokens, spans):
    """The probability of an answer for someone who knows the world and sees what the family sees."""
    rows, p = rows_in(spans), 1
    seen = [row for row in range(len(tokens)) if row not in rows]
    for row in rows:
        if family == "gpt":
            fits = lambda told, row=row: told[:row] == tokens[:row]  # noqa: E731
        else:  # each mask is guessed without the others

            def fits(told):
                return len(told) == len(tokens) and all(told[i] == tokens[i] for i in seen)

        p *= share(fits, lambda told, row=row: told[row] == tokens[row])
    return p


def greedy_share(paths, good):
    """How often greedy choices end in a good path if ties are broken by chance.

    paths: {tokens in the order of writing, ends included: times told}. good: a set of paths.
    """
    if len(paths) == 1:
        return float(next(iter(paths)) in good)
    depth = next(n for n in range(20) if len({path[n] for path in paths}) > 1)
    counts = Counter()
    for path, times in paths.items():
        counts[path[depth]] += times
    best = [token for token in counts if counts[token] == max(counts.values())]
    branches = [{path: n for path, n in paths.items() if path[depth] == token} for token in best]
    return sum(greedy_share(branch, good) for branch in branches) / len(branches)


def ideal_order(question, backwards):
    """The chance that greedy filling in this order finds a likeliest sentence, if it knows the world."""
    paths = {}
    for tokens, spans, times in answers(question):
        blanks = [(*tokens[start:end], SPECIAL.eop) for start, end in spans]
        paths[sum(reversed(blanks) if backwards else blanks, ())] = times
    return greedy_share(paths, {path for path, times in paths.items() if times == max(paths.values())})


# ---- results ---------------------------------------------------------------------------------------------


def summary(runs):
    """{family: {measure: {kind: {"score", "standard_error"}}}} over the seeds, in %."""
    names = [(family, [run for run in runs if run["family"] == family]) for family in SIBLINGS]
    about = ("family", "seed", "seconds")
    return {
        family: over_seeds([{key: run[key] for key in run if key not in about} for run in ours])
        for family, ours in names
        if len(ours) > 1
    }


def over_seeds(values):
    if isinstance(values[0], dict):
        return {key: over_seeds([value[key] for value in values]) for key in values[0]}
    return dict(score=100 * mean(values), standard_error=100 * stdev(values) / math.sqrt(len(values)))


def likeliest(question):
    found = answers(question)
    return [tokens for tokens, _, times in found if times == max(times for *_, times in found)]


def right(question):
    return [tokens for tokens, _, _ in answers(question)]


def possible(family, question):
    """The answers that a family can give: of told length, except for GLM."""
    return told_lengths(question) if family in ("gpt", "bert") else answers(question)


def measured(model):
    """All results of a network: means over the questions of each kind."""
    family, asked = model.config.family, questions()
    results = dict(probability={}, greedy={})
    for kind, texts in asked.items():
        masses = (sum(probability(model, *a[:2]) for a in possible(family, text)) for text in texts)
        results["probability"][kind] = mean(masses)
        results["greedy"][kind] = mean(fill(model, text) in right(text) for text in texts)
    if family == "gpt":
        results["rank"] = {"animal": mean(fill(model, q, True) in right(q) for q in asked["animal"])}
    if family == "bert":
        results["again"] = {
            kind: mean(fill(model, text, True) in right(text) for text in texts)
            for kind, texts in asked.items()
        }
    if family == "glm":
        for how in ORDERS:
            filled = {text: fill(model, text, how == "last first") for text in asked["animal and food"]}
            results[how] = mean(tokens in likeliest(text) for text, tokens in filled.items())
    return results


def best():
    """{family: {kind: the probability of right answers that is possible with its mask}}, and the order's."""
    asked, table = questions(), {}
    for family in ("gpt", "bert"):
        table[family] = {
            kind: mean(sum(ideal(family, *a[:2]) for a in told_lengths(text)) for text in texts)
            for kind, texts in asked.items()
        }
    both = asked["animal and food"]
    order = {how: mean(ideal_order(text, how == "last first") for text in both) for how in ORDERS}
    return dict(probability=table | {"glm": dict.fromkeys(asked, 1.0)}, **order)


def conditions():
    """What holds for every run, and the best that is possible."""
    about = origin() | dict(command="python tutorials/results/toy.py --again --models")
    about |= dict(parameters=GLM(config()).num_parameters(), steps=STEPS, batch=BATCH, sentences=len(WORLD))
    return about | dict(questions={kind: len(texts) for kind, texts in questions().items()}, best=best())


def run(family, seed):
    """(the results of one network, the network)"""
    start = time.process_time()
    model = train(family, seed)
    seconds = time.process_time() - start
    return dict(family=family, seed=seed, seconds=seconds, **measured(model)), model


def write_results(again, save):
    path, runs = HERE / "toy.json", []
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() and not again else {}
    known = {(result["family"], result["seed"]): result for result in old.get("runs", [])}
    about = conditions()
    for seed, family in product(SEEDS, SIBLINGS):
        if (family, seed) not in known or (save and seed == 0):
            known[family, seed], model = run(family, seed)
            print(family, seed, known[family, seed]["probability"], flush=True)
            if save and seed == 0:
                save_pretrained(model, SIBLINGS[family], TOKENIZER, dtype=torch.float16)
        runs.append(known[family, seed])
        about |= dict(
            seconds=mean(result["seconds"] for result in runs), seeds=len(SEEDS), table=summary(runs)
        )
        path.write_text(json.dumps(about | dict(runs=runs), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--again", action="store_true")
    p.add_argument("--models", action="store_true")
    args = p.parse_args()
    torch.set_num_threads(1)
    write_results(args.again, args.models)
