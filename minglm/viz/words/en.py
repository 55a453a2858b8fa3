"""The sentences that the terminal, the figures and the page share, in English."""

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

# What the steps are called, and the lanes that they fill.
STEP_NAMES = {name: name for steps in STEPS.values() for name, _ in steps}

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
