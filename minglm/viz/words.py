"""The sentences that the terminal, the figures and the page share.

`{name}` is filled in from a derivation (see derivation.py, and derive.js on the page, which gets this table
as JSON).
"""

# Why a cell of the mask is open or shut. i is the query's row, j the key's.
RULES = {
    "part_a": {"open": True, "code": "j < part_a_len", "meaning": "every row sees all of {A}"},
    "past": {"open": True, "code": "part_a_len <= j <= i", "meaning": "{B} sees itself and its past"},
    "answers": {"open": False, "code": "i < part_a_len <= j", "meaning": "{A} never sees {B}"},
    "future": {"open": False, "code": "part_a_len <= i < j", "meaning": "{B} never sees what comes later"},
}

# One cell in a sentence: CELL with the reason of its kind.
CELL = (
    "“{query}” (row {i}) {may} “{key}” (row {j}): {because}. "
    "Row {i} sees the first max({part_a_len}, {i} + 1) = {n} keys, and {j} is {among} them."
)
BECAUSE = {
    "AA": "both are in {A}, which sees itself left and right",
    "BA": "{B} sees all of {A}",
    "BE": "the {span} of “{key}” comes earlier in {B}",
    "BS": "“{key}” comes earlier in the same {span}",
    "self": "every row sees itself",
    "AB": "{A} never sees {B}, or it would carry the answers back",
    "BF": "the {span} of “{key}” comes later in {B} and is not written yet",
    "BF same": "“{key}” comes later in the same {span} and is not written yet",
}
# What each kind of cell means, in a legend.
MEANING = {
    "AA": "{A} sees all of {A}, left and right",
    "BA": BECAUSE["BA"],
    "BE": "{B} sees the {span}s that came before in {B}",
    "BS": "... and the earlier tokens of its own {span}",
    "self": "... and itself",
}
HIDDEN_MEANING = {"AB": RULES["answers"]["meaning"], "BF": RULES["future"]["meaning"]}
MAY = {True: "may see", False: "may not see"}
AMONG = {True: "among", False: "not among"}

# The derivation step by step: (name, sentence). The other models need fewer steps.
STEPS = {
    "glm": [
        ("tokens", "The text: {text}."),
        ("spans", "Chosen to be blanked: {spans}, {blanked} of {text}."),
        ("masks", "Part A is the text with one {mask} for each span, however long the span was: {part_a}."),
        ("order", "Part B is the blanked spans, shuffled. Their order here: {order}."),
        (
            "pieces",
            "{sop} leads every span in, and each row of Part B learns the token that comes next; {eop} ends "
            "a span.",
        ),
        (
            "positions",
            "The first position says which blank: a row of Part B stands where the {mask} of its span "
            "stands.",
        ),
        (
            "block positions",
            "The second position says where inside the span: 1 at {sop}, then 2, 3, ...; in Part A it is 0.",
        ),
        (
            "mask",
            "Row i sees the first max({part_a_len}, i + 1) keys: all of Part A, and Part B up to itself.",
        ),
    ],
    "others": [
        ("tokens", "The text: {text}."),
        ("spans", "Chosen to be blanked: {spans}, {blanked} of {text}."),
        ("input", "{name} reads: {input}."),
        ("targets", "It learns: {predicts}."),
        ("positions", "Positions: {positions}."),
        ("mask", "Row i sees the first max({part_a_len}, i + 1) keys: {sees}."),
    ],
}

# The families on the same text. A, B: names of the rows before part_a_len and from there on; span: what a
# run of rows in B is called.
MODELS = {
    "glm": {
        "name": "GLM",
        "A": "Part A",
        "B": "Part B",
        "span": "span",
        "input": "the text with one [M] for each span, then the spans in shuffled order",
        "sees": "Part A sees Part A; Part B sees Part A and its past",
        "positions": "which blank, and where inside it",
        "predicts": "the spans, token by token, of any length and in any order",
        "cannot": "learn from the tokens of Part A: they are read, not predicted",
    },
    "bert": {
        "name": "BERT",
        "A": "the text",
        "B": "nothing",
        "span": "text",
        "input": "the text with its own [M] for every blanked token",
        "sees": "everything sees everything",
        "positions": "0, 1, 2 and so on",
        "predicts": "the blanked tokens, each without seeing the others",
        "cannot": "fill a blank of unknown length (the number of [M] tells it), or write",
    },
    "gpt": {
        "name": "GPT",
        "A": "nothing",
        "B": "the text",
        "span": "text",
        "input": "the text as it is",
        "sees": "every token sees itself and its past",
        "positions": "0, 1, 2 and so on",
        "predicts": "every next token",
        "cannot": "look at what stands to the right of a blank",
    },
    "prefix": {
        "name": "prefix LM",
        "A": "the context",
        "B": "the continuation",
        "span": "continuation",
        "input": "the text as it is: what comes before the first blank is context",
        "sees": "the context sees itself, the continuation also its past",
        "positions": "0, 1, 2 and so on",
        "predicts": "the continuation, token by token",
        "cannot": "look to the right of a blank, or learn from the context",
    },
    "unilm": {
        "name": "UniLM",
        "A": "S1",
        "B": "S2",
        "span": "segment",
        "input": "S1 [EOS] S2 [EOS], the blanked tokens of S2 as [M]",
        "sees": "S1 sees S1; S2 sees S1 and its past",
        "positions": "0, 1, 2 and so on, and the number of the segment",
        "predicts": "the blanked tokens of S2",
        "cannot": "fill a blank of unknown length; "
        "and when it writes there is no [M], which it saw in training",
    },
    "t5": {
        "name": "T5",
        "A": "the encoder",
        "B": "the decoder",
        "span": "span",
        "input": "encoder: a sentinel for each span; decoder: the spans, each led by its sentinel",
        "sees": "encoder sees encoder; decoder sees encoder and its past",
        "positions": "relative distances, separately in encoder and decoder",
        "predicts": "the spans in the order of the text",
        "cannot": "tell from a position which blank it is in: it needs a sentinel of its own for every span",
    },
}

# The page's story: a sentence with two blanks, and what each frame says about it. "the" (row 6) has to say
# "sky" (row 7).
CHAPTERS = {
    "text": ["Birds", "can", "fly", "in", "the", "sky"],
    "spans": [[2, 3], [4, 6]],
    "order": [1, 0],
    "blank": "Birds can [MASK] in the sky.",
    "full_stop": ".",
    "chapters": ["Guess", "Cut", "Who may look", "Two positions", "Fill"],
    # name of the frame, its chapter, its sentence
    "frames": [
        ["ask", 0, "A word is missing. What is it?"],
        [
            "answer",
            0,
            "“fly”, because “in the sky” comes after it. GLM does the same: it reads the text on both sides "
            "of a blank and writes what is missing, token by token.",
        ],
        ["spans", 1, "How does a model learn this? Take any text and choose a few spans of it."],
        [
            "part_a",
            1,
            "Cut them out. One [M] stays behind for each, however long it was. This is Part A: the question.",
        ],
        [
            "part_b",
            1,
            "The spans are Part B: the answers. They are shuffled, so that the model learns to fill blanks "
            "in any order. [S] starts each one.",
        ],
        [
            "learns",
            1,
            "Every token of Part B has to say the next one, and [E] at the end. Part A is only read.",
        ],
        [
            "quiz",
            2,
            "You are “the” in Part B, and you have to say “sky”. Choose every token that you should be "
            "allowed to see.",
        ],
        ["rule", 2, "Nobody sees what is not written yet. Everything else may be seen."],
        [
            "mask",
            2,
            "The same rule for every token: one row for who looks, one column for what is seen. Point at a "
            "token to light what it sees.",
        ],
        [
            "break",
            2,
            "Why may Part A not look at Part B? Open a shut cell of the mask and see who gets to know the "
            "answer.",
        ],
        [
            "leak",
            2,
            "If Part A could look, it would carry the answer back: [M] reads “sky”, “the” reads [M], and "
            "now “the” knows what it has to say.",
        ],
        [
            "cheat",
            2,
            "A model with that hole learns to cheat, and fails when it has to write. Watch two small ones "
            "train, here and now, on random digits that nobody can guess.",
        ],
        [
            "positions",
            3,
            "Part B is shuffled, so two numbers say where a token belongs: which blank, and where inside it. "
            "Switch one off.",
        ],
        [
            "fill",
            4,
            "Now write: each token goes back into its blank and is seen by the next one. Nobody sees what is "
            "not written yet; everything else may be seen.",
        ],
    ],
    "back": "Go back",
    "next": "Go on",
    "play": "Play the story",
    "pause": "Pause the story",
    "calm": "Off, because your system prefers reduced motion",
    "place": "{n}/{all}",
    "parts": {"A": "Part A", "B": "Part B", "cut": "cut out", "text": "the text"},
    "guess": "Your guess",
    "show": "Guess",
    "guessed": "You said “{guess}”.",
    "model": "The model in this page writes “{answer}”. Its likeliest first tokens:",
    "you": "you",
    "toggle": "{token}, {part}, {state}",
    "states": {"": "", "right": "may be seen", "missed": "may be seen, you left it out", "wrong": "shut"},
    "missed": "You left out {tokens}: the question and what is already written may be seen.",
    "answer": "“sky” is your own answer.",
    "later": "{tokens}: written after you, so not there when you have to answer.",
    "perfect": "Exactly right: {n} tokens.",
    "families": {"glm": "GLM", "bert": "BERT", "gpt": "GPT"},
    "family": "the same text in",
    "sees": "{token} sees {n} of {all} tokens{says}.",
    "and says": " and has to say “{target}”",
    "grid": "mask: rows look, columns are seen",
    "cell": "{query} looks at {key}: {state}",
    "cells": {"open": "open", "shut": "shut", "leak": "opened by you"},
    "knows": "Tokens that know their answer: ",
    "after": "{n} of {all} after {layers}",
    "path": "{path}, which has to say “{target}”.",
    "harmless": "Open, but no answer comes back to the token that has to say it.",
    "closed": "No answer leaks. Click a crossed or hatched cell of the mask to open it.",
    "open one": "Let [M] look at “sky”",
    "open all": "Let all of Part A look",
    "shut": "Shut all",
    "which": "first number: which blank",
    "where": "second number: where inside it",
    "both on": "“the” has 4 and 2: the blank at place 4, second token. The first number ends at 4, because "
    "Part A has only five places, 0 to 4; a token of Part B takes the place of its [M].",
    "which off": "Both [S] are the same now, so nothing tells the model which blank it should write.",
    "where off": "“the” and “sky” have the same place now: “the sky” looks like “sky the” to a layer of "
    "attention.",
    "both off": "All order in Part B is gone.",
    "lab": "Fill blanks with the model below",
    "own": "Use your own text",
    "asked": "Three questions that a user of GLM asked (THUDM/GLM#28)",
    "questions": [
        [
            "How are the spans chosen?",
            "By chance: spans of about three tokens, until 15 % of the text is blanked. For longer answers "
            "also whole sentences, or one long span to the end.",
        ],
        [
            "Why is x3 moved to the end, and why does position 1 stop at 5?",
            "The spans are shuffled, so that the model learns any order of blanks, and x3 came last. "
            "Position 1 is the place in Part A, which has only five tokens: a span keeps the place of its "
            "[M], however long it is.",
        ],
        [
            "Why may Part A not see Part B, although Part B sees Part A?",
            "Part A is the question, Part B is the answers. Nobody sees what is not written yet; everything "
            "else may be seen. If Part A could look, it would carry the answer back to the token that has to "
            "say it.",
        ],
    ],
    "break it": "Break it and watch",
    "training": {
        "start": "Train again from the start",
        "stop": "Stop",
        "go on": "Train on",
        "part_a_len": "tokens that count as Part A: {n}{name}",
        "names": {"0": " (GPT)", "5": " (GLM)", "8": " (BERT)"},
        "looks": "Part A sees all",
        "honest": "GLM's mask",
        "yours": "your mask",
        "writing": "your model when it has to write",
        "guessing": "a pure guess, ln 10",
        "axis": "loss of a digit",
        "told": "step {step}: GLM's mask {honest}, your mask {yours}; the same weights when they have to "
        "write: {writing}; a pure guess: 2.30",
        "how": "{layers} layers of width {width}, {samples} samples per step, two of six digits blanked; the "
        "loss is in nats. Move the slider while it learns.",
    },
}

WORDS = {
    "rules": RULES,
    "cell": CELL,
    "because": BECAUSE,
    "may": [MAY[False], MAY[True]],
    "among": [AMONG[False], AMONG[True]],
    "steps": STEPS,
    "models": MODELS,
    "story": CHAPTERS,
}

# The animation: the caption of each step.
STORY = {
    "spans": "Blank out {blanked} of {text}.",
    "part_b": "Part B: the blanked words{order}; [S] starts each blank.",
    "part_a": "Part A: one {mask} for each blank, however long.",
    "positions": "Two positions: which blank, and where inside it.",
    "rows_a": "Part A sees all of Part A.",
    "rows_b": "Part B sees Part A and its own past; it learns the next token.",
    "home": "[E] ends each blank, and the words go back.",
    "end": "The whole mask is one number: Part A is {part_a} long.",
}

# What the special tokens are called in pictures.
NAMES = {
    "pad": "[PAD]",
    "cls": "[CLS]",
    "eos": "[EOS]",
    "mask": "[M]",
    "smask": "[sM]",
    "gmask": "[gM]",
    "sop": "[S]",
    "eop": "[E]",
}
