"""The siblings as JSON for the page: one network that learned the toy world as GLM, as GPT and as BERT."""

from ...data.toy import answers
from ...use.models import read_siblings
from .weights import live_spec

QUESTIONS = (  # a text with blanks, and the tokens of each blank, which BERT and GPT have to be told
    ("The [MASK] lives on the farm and eats mice.", [1]),
    ("The fox lives in the forest and eats [MASK].", [2]),
    ("The mouse lives [MASK] and eats seeds.", [3]),
    ("The cat lives [MASK] and eats [MASK].", [3, 1]),
)


def siblings_spec():
    """Return what `glmSiblings` of siblings.js reads.

    tokenizer: that of all three. models: for each family the rest of its `live_spec`. questions: texts with
    blanks, the tokens of each blank, and the sentences of the toy world that are right.
    """
    siblings, tokenizer = read_siblings()
    models = {name: live_spec(model, tokenizer, families=(name,)) for name, model in siblings.items()}
    shared = [spec.pop("tokenizer") for spec in models.values()][0]
    questions = [
        {"text": text, "lengths": lengths, "right": list(answers(text))} for text, lengths in QUESTIONS
    ]
    return {"tokenizer": shared, "models": models, "questions": questions}
