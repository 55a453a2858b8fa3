"""The story of the page in English: a sentence with two blanks, and what each frame says about it.

"the" (row 6) has to say "sky" (row 7).
"""

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
