"""What the page says in English: its explorer, the lab (a model at work), the siblings, and errors.

`{name}` is filled in by the scripts, which get this table as JSON.
"""

# Pieces that sentences are made of.
PIECES = {
    "counts": {
        "token": ["{n} token", "{n} tokens"],
        "span": ["{n} span", "{n} spans"],
        "layer": ["{n} layer", "{n} layers"],
        "head": ["{n} head", "{n} heads"],
    },
    "none": "none",
    "comma": ", ",
    "parts": {"A": "Part A", "B": "Part B"},
    "states": {"open": "open", "shut": "shut"},
}

PAGE = {
    "title": "The GLM explorer",
    "skip": "Skip to the steps",
    "dark": "Dark",
    "light": "Light",
    "lead": "GLM blanks out spans of a text and learns to write them back, one token at a time, reading the "
    "text on both sides of each span.",
    "noscript": "This page needs JavaScript: a script inside it draws everything. It loads nothing.",
    "footer": "minglm, a readable GLM (arXiv 2103.10360). One file: no server, no network; nothing is sent "
    "anywhere.",
    "story": "Break the mask: GLM in five short chapters",
    "model": "A model at work",
    "siblings": "The same blank, three families",
    "siblings about": "One small network learned the same sentences about animals as GLM, as GPT and as "
    "BERT.",
    "ways label": "the parts of this page",
    "ways": {"story": "Story", "model": "Model", "sentence": "Your text", "compare": "Other models"},
    "to model": "Let the model fill these blanks",
    # the text
    "text": "Text",
    "cut": "cut into",
    "words": "words",
    "characters": "characters",
    "model tokens": "the model's tokens",
    "stale": "the pictures show the text before",
    "examples": "Examples",
    "questions": "Users ask",
    "asked": "{answer} (Asked in {where}.)",
    # the steps
    "steps": "Step by step",
    "player": "player",
    "back": "◀ Back",
    "next": "Next ▶",
    "play": "Play",
    "pause": "Pause",
    "calm": "Off, because your system prefers reduced motion",
    "speed": "speed",
    "slow": "slow",
    "normal": "normal",
    "fast": "fast",
    "cell by cell": "Cell by cell",
    "step": "step",
    "cell": "cell",
    "finished": "the finished picture",
    "at step": "step {n} of {all}: {name}",
    "whole": "The complete sample that GLM makes of this text. Press Next to build it in {n} steps.",
    "at cell": "cell {n} of {all}",
    "walk": "i = {i}, j = {j}: the rule “{rule}”, {code}, so the cell is {state}.",
    # the spans and their order
    "spans": "The text and its spans",
    "chips": "tokens of the text; pressed ones are blanked",
    "chips help": "Click a token to blank it. To blank several as one span, drag over them, or select them "
    "with Shift and the arrow keys and press Enter.",
    "chip": "{token} {i}, token {i}{span}",
    "chip span": ", span s{k}",
    "blanked": "{spans}, {n} of {tokens} blanked",
    "sampling": "Sample spans, or type them",
    "objective": "objective",
    "objectives": {"token": "token", "sentence": "sentence", "document": "document"},
    "ratio": "blanked, %",
    "mean": "mean length",
    "seed": "seed",
    "sample": "Sample",
    "next seed": "Next seed",
    "slices": "spans, start:end",
    "order": "The order of the spans in Part B",
    "shuffle": "Shuffle",
    "text order": "Text order",
    "earlier": "move s{k} earlier",
    "later": "move s{k} later",
    "no span": "no span, no Part B",
    # the rows
    "rows": "What the model reads and learns",
    "rows label": "the rows of the sample",
    "counting": "Everything counts from 0; the paper counts from 1.",
    "lanes": {
        "tokens": "reads",
        "position_ids": "position",
        "block_position_ids": "block position",
        "targets": "learns",
    },
    # the mask
    "mask": "Who may see whom",
    "mask label": "attention mask of GLM: rows are queries, columns are keys",
    "mask of": "attention mask of {name}",
    "corner": "query ↓ key →",
    "canvas": "{label}: {rows} rows. Arrow keys move from cell to cell; each is explained beside the "
    "picture.",
    "looks at": "{query} looks at {key}",
    "pair": "{pair}: {state}",
    "density": "{open} of {all} cells open: {share} %",
    "card": "the cell, explained",
    "legend": "kinds of cells, and how many there are",
    "point": "Point at a cell, or move with the arrow keys, to see here why it is open or shut. Click to pin "
    "it.",
    "mask comes": "The mask comes with the last step.",
    "verdict": " looks at ",
    "pinned": "pinned",
    "query": "query",
    "key": "key",
    "kind": "kind",
    "rule": "rule",
    "code": "code",
    "row": " row {row}, {part}{span}, position {position}, block position {block}",
    "row span": ", s{k}",
    "where": " where ",
    "means": ": {meaning}",
    # other models
    "compare": "The same text as other models read it",
    "beside": "models beside GLM",
    "only": "differences only",
    "of model": "{name} {state}",
    "no pair": "{name} has no such pair",
    "link": "Point at a pair of words in one picture to see it in all.",
    "linked": "{pair}: {models}.",
    "alone": "{pair}: a pair of {name} alone, as one of them is no word of the text.",
    "facts": {
        "model": "model",
        "input": "reads",
        "sees": "who sees whom",
        "positions": "positions",
        "predicts": "learns",
        "cannot": "cannot",
    },
    # to take away
    "share": "Take it with you",
    "share about": "The address of this page contains everything it shows: bookmark it to come back.",
    "copy link": "Copy link",
    "copy json": "Copy JSON",
    "copy python": "Copy Python",
    "save svg": "Save SVG",
    "save png": "Save PNG",
    "print": "Print",
    "address": "the address",
    "address of file": "the address; it opens where this file is, on this computer",
    "json": "the JSON",
    "python": "the Python",
    "copied": "Copied {what}.",
    "by hand": "Copying is not allowed here; the text is selected, so copy it by hand",
}

# Examples and questions: {id: [name, answer]}; texts.js holds their texts.
PRESETS = {
    "paper": ["Paper's figure", "Figure 2 of the paper: two blanks, the second of which is written first."],
    "one": [
        "One blank",
        "One blank at the end makes a prefix LM: the text before it is bidirectional, the blank is written "
        "from left to right.",
    ],
    "document": [
        "[gMASK]",
        "[gMASK], here [gM], is one long blank at the end. This text ends in [EOS], so the model also learns "
        "to stop, with [E].",
    ],
    "sentence": [
        "[sMASK]",
        "[sMASK], here [sM], stands for whole sentences, about 15 % of the tokens of a long text.",
    ],
    "cut": [
        "Cut document",
        "The document continues after this excerpt, so its end is unknown: the last row learns “the”, and "
        "there is no [E].",
    ],
    "none": [
        "No blank",
        "Without a blank there is no Part B: every row sees every row, as in BERT, and nothing is learned.",
    ],
    "neighbours": [
        "Neighbours",
        "Adjacent blanks remain two: each has its own mask, position and [S]. Whole sentences can be "
        "adjacent; spans of tokens are drawn at least one token apart.",
    ],
    "chatglm": [
        "ChatGLM-6B",
        "ChatGLM-6B reads a question and [gMASK] and writes the answer after [S]: the question is "
        "bidirectional, the answer sees the question and its own past.",
    ],
    "keep": [
        "Do written tokens keep the position of [MASK]?",
        "Yes, and a second position counts inside: every row of a blank keeps the position of its [M], here "
        "4, while the block position continues: 1, 2, 3, 4. GLM-130B dropped the second position: [MASK] "
        "keeps one position, after [gMASK] it continues.",
    ],
    "gmask": [
        "Is [gMASK] 2-D as well?",
        "In GLM, yes: [gM] is a blank like any other, so all its rows have its position, here 3, and the "
        "block position counts inside. In models with a single position, such as GLM-130B, it continues "
        "after [gMASK].",
    ],
    "causal": [
        "Why are later masks “just causal”?",
        "Because Part A is only [gM]: max(1, i + 1) is i + 1. ChatGLM2 was tuned for dialogue like this, "
        "questions included: a dialogue of many turns is one sequence, and earlier turns need not be "
        "computed again.",
    ],
    "shape": [
        "Where does the shape come from?",
        "From one integer, the length of Part A: row i sees the first max(part_a_len, i + 1) keys. So Part A "
        "is a full square with a full block below it, and Part B is a triangle. The reason: nobody may see "
        "what is not written yet, and everything else may be seen. If Part A could look, it would carry the "
        "answer back to the token that has to say it.",
    ],
}

ERRORS = {
    "nothing": "tokens: none given; at least one is needed",
    "nothing to blank": "tokens: {n} of them leave nothing to blank; at least one text token is needed",
    "span": "span {span} is not accepted: spans are start:end with start < end, lie in 0:{n} and do not "
    "overlap",
    "order": "order [{order}] is not a permutation of 0 .. {last}, one entry for each span",
    "slices": "span {span} is not accepted: spans are start:end, counted from 0 and without the end, with "
    "commas between them, as in 2:3, 4:6",
    "empty": "text: it is empty; at least one word is needed",
    "too long": "text: {n} tokens came; up to {most} are accepted, as the mask has to fit on a screen",
    "ratio": "blanked: a share above 0 and up to 100 % is accepted",
    "mean": "mean length: a number above 0 is accepted",
    "seed": "seed: a whole number from 0 on is accepted",
    "objective": "objective {objective} is not accepted: it is one of {accepted}",
    "address": "address: {error}",
    # the model's own
    "tokenizer": "text: this page cannot cut a text as this model's tokenizer does",
    "unicode": "text: '\\u{code}' at character {at} is not valid unicode; well-formed text is accepted",
    "special": "text: {token} cannot be typed; blanks are [MASK], [sMASK] and [gMASK]",
    "no blank": "text: no blank in it; write [MASK] for some words, [sMASK] for a sentence, [gMASK] for the "
    "rest",
    "model length": "text: {n} tokens are longer than this model reads ({most})",
    "recording": "text: this page holds a recording of one text: {text}",
    "dial": "{dial}: {value} is not accepted; a whole number from 0 on is",
}

LAB = {
    "live": "live",
    "recorded": "recorded",
    "bundled": "the bundled model",
    "comma": ", ",
    "facts": "{parameters} parameters: {layers} of {heads}, width {width}, a vocabulary of {vocabulary}. ",
    "runs here": "It runs here: every number below is computed in this page. ",
    "recording": "A recording: the model is too large to run in a page, so Python filled this text and "
    "recorded the result. You can step through it, but not change the text. For another text: minglm explore "
    '"TEXT" --model RUN. ',
    "read": "",
    "small": "A model this small knows little: watch how it works, not what it says.",
    "left out": {
        "attention": "attention of layers {layers}",
        "lens": "lens of layers {layers}",
        "why": " (left out to keep the page small: {what})",
    },
    "text": "A text with blanks",
    "recorded text": "The recorded text",
    "insert": "put in a blank",
    "example": "an example",
    "choose": "choose one",
    # what is drawn from
    "temperature": "temperature",
    "topK": "top k",
    "topP": "top p",
    "dial": "{name}: ",
    "seed": "seed",
    "nothing": "nothing",
    "greedy": "0, always the likeliest",
    "all tokens": "all tokens",
    "likeliest": "the {n} likeliest",
    "all": "all of them",
    "percent": "the likeliest {n} %",
    # the buttons
    "fill": "Fill",
    "reset": "Reset",
    # the text and what comes next
    "filling": "the text, its blanks being filled",
    "change": "change this word",
    "instead of": "instead of {old}",
    "before": "before: ",
    "forget": "forget it",
    "bytes": "Some letters of this text are not in the model's vocabulary: it reads them byte by byte, and "
    "has hardly seen them.",
    "next": "What comes next",
    "hint": "Click another token to take it instead, or a word of the text to change it.",
    "whole": "Search for the likeliest whole fillings",
    "searching": "Searching ...",
    "whole found": "The likeliest whole fillings, their end included. A search (of 5 beams) finds them; the "
    "likeliest token is not always the beginning of the likeliest filling.",
    "stands": "Step {n}: row {row} = {token} of blank {blank} ({mask}) stands at position {position}, block "
    "position {block}; it sees {keys} keys: {a} of Part A, {b} of Part B. ",
    "not taken": "Nothing is taken yet.",
    "limit": "The blank has as many tokens as it may have, and ends here.",
    "taken so": "{token} ({p}) is taken.",
    "taken end": "{token} ({p}) is taken and ends the blank.",
    "cut off": "cut off",
    "was": " was {p}",
    "taken": "taken",
    "take": "take this one instead",
    "may not": "may not come here",
    "rows": "The rows read so far",
    "rows hint": "Below each token are its position and block position. Click a row to look from it, further "
    "down.",
    "row": "row {row}: {token}, position {position}, block position {block}",
    "blank": "Part B, blank {n}",
    "above": "show how these rows come about",
    "no step": "no step yet",
    "trace": "Every step so far",
    "trace label": "the steps, one in each column",
    "column": "step {n}, blank {blank}: {token}, {p}",
    # attention
    "attention": "Who looks at whom",
    "attention of": "Who looks at whom: {head}",
    "heads": "layer and head",
    "heads about": "first the mean of the heads, then the heads; layers down",
    "head": "layer {layer}, head {head}",
    "mean": "layer {layer}, the mean of its heads",
    "weights": "attention weights",
    "matrix": "attention matrix",
    "ramp from": "weight 0 ",
    "ramp to": " 1, by its square root. A row sums to 1 over the keys it may see; hatched or crossed is what "
    "it may not see. A click looks from that row.",
    "no weights": "This recording has no attention weights.",
    "this row": "row {row} {token}",
    "cell": "{query} looks at {key}: {weight}",
    "unseen": "may not see it",
    "point": "Point at a cell, or move with the arrow keys.",
    "most": "In {head}, {row} looks most at {keys}.",
    "weight of": "{token} ({weight})",
    "keys": "one row's weights, key by key",
    "not seen": "may not be seen",
    # layers
    "layers": "What it would predict after each layer",
    "layers about": 'The model\'s output layer, applied early ("logit lens"), to the row of the step, or to '
    "the row of Part B that you chose.",
    "depth": "after layer",
    "embedded": "as embedded, before any layer",
    "after": "after layer {layer} of {all}",
    "lens": "Row {row} = {token}, {after}: {place}.",
    "none taken": "no token is taken",
    "rank": "{token}, which was taken, is number {rank} of {all} ({p})",
    "lens label": "rank by layer",
    "columns": ["after layer", "rank", "probability", "likeliest"],
}

SIBLINGS = {
    "question": "a question",
    "about": {
        "glm": "sees both sides, and what it has written; decides where a blank ends",
        "gpt": "sees only the left side; is told the length",
        "bert": "sees both sides, guesses all masks at once; is told their number",
    },
    "right": "✓ so it is in this world",
    "wrong": "✗ not so in this world",
}
