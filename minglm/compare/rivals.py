"""Baselines for a task: the model from random weights, a linear head, TF-IDF, and a learned dictionary."""

from collections import Counter, defaultdict
from difflib import SequenceMatcher

import torch
from torch import nn

from ..batch import columns, pack
from ..errors import need
from ..measure.metrics import measure
from ..model import GLM
from ..modules import device_of
from ..rng import stream_seed
from ..train.finetune import LearnsLabels


def random_weights(config, seed):
    """An untrained GLM of a GLMConfig, on the CPU; the same seed gives the same weights."""
    torch.manual_seed(stream_seed(seed, 0, 0, 1))
    return GLM(config)


class LinearHead(LearnsLabels, nn.Module):
    """Classification as in BERT: one row's state, tanh(pool(state)), and a linear map to the labels.

    pool_at: the row: "cls" (the first of Part A, the original's default), "sop" or "end" (Part A's last).
    """

    def __init__(self, model, labels, pool_at="cls"):
        super().__init__()
        C = model.config.hidden_size
        self.model, self.pool_at = model, pool_at
        self.pool, self.out = nn.Linear(C, C), nn.Linear(C, labels)
        self.dropout = nn.Dropout(0.0)  # `fit` sets its rate
        for layer in (self.pool, self.out):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def rows(self, question):
        """The number of rows that a question takes in a batch."""
        return len(question.part_a) + 1

    def forward(self, questions):
        """Questions -> scores (S, labels)."""
        family = self.model.config.family
        batch = pack([q.example(q.answers[0], family, end=False) for q in questions])
        first = batch.mask.cu_seqlens_q[:-1].long()  # (S,)
        sop = first + batch.mask.part_a_lens
        rows = {"cls": first, "sop": sop, "end": sop - 1}[self.pool_at]
        batch = batch.to(device_of(self.model))
        states = self.model(*columns(batch), rows=rows.to(batch.tokens.device), states=True)  # (S, C)
        return self.out(self.dropout(torch.tanh(self.pool(states)))).float()


def tf_idf(task, train_rows, train, dev_rows, dev, test_rows):
    """The labels (as indices) that logistic regression on TF-IDF predicts for the test records.

    It counts words and pairs of words; its regularisation is chosen on dev, as the model's epoch is. Raises
    MinglmError without scikit-learn.
    """
    need("sklearn", "TF-IDF")
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    train_texts, dev_texts, test_texts = (
        [" ".join(row[column] for column in task.columns) for row in rows]
        for rows in (train_rows, dev_rows, test_rows)
    )
    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    try:
        x, gold = vectors.fit_transform(train_texts), [q.gold for q in train]
    except ValueError:  # no words in any text
        return [Counter(q.gold for q in train).most_common(1)[0][0]] * len(test_rows)
    fitted = [LogisticRegression(C=C, max_iter=1000).fit(x, gold) for C in (1, 10, 100)]
    best = max(fitted, key=lambda f: measure(f.predict(vectors.transform(dev_texts)), dev)[task.metric])
    return best.predict(vectors.transform(test_texts)).tolist()


def word_for_word(pairs, sources, most=20_000, longest=200):
    """The sources, with every word replaced by its most frequent counterpart in pairs (source, target).

    difflib aligns the two texts of a pair; words that stay, or are replaced by equally many, are counted one
    to one. Only the first `most` pairs are read, and `longest` words of each. White space becomes one space.

    Example: word_for_word([("he saith so", "he says so")], ["she saith"]) -> ["she says"]
    """
    counts = defaultdict(Counter)
    for source, target in pairs[:most]:
        a, b = source.split()[:longest], target.split()[:longest]
        for _, i, i_end, j, j_end in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
            if i_end - i == j_end - j:
                for word, becomes in zip(a[i:i_end], b[j:j_end], strict=True):
                    counts[word][becomes] += 1
    dictionary = {word: counter.most_common(1)[0][0] for word, counter in counts.items()}
    return [" ".join(dictionary.get(word, word) for word in text.split()) for text in sources]
