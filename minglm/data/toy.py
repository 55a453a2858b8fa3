"""A small world of sentences about animals: learned in a minute, and small enough to enumerate.

A fact is an animal, its home and its food. `ANIMALS` has one fact for each animal: the animal tells the home
and the food, and the food tells the animal. `CHOICES` adds animals with two foods of two words each, or with
two homes and three foods. Each fact is told in every form and with every opening.
"""

import re
from itertools import product
from typing import NamedTuple

ANIMALS = {
    "deer": ("in the forest", "leaves"),
    "bear": ("in the forest", "honey"),
    "robin": ("in the forest", "worms"),
    "cow": ("on the farm", "grass"),
    "cat": ("on the farm", "mice"),
    "hen": ("on the farm", "corn"),
    "goose": ("by the river", "weeds"),
    "otter": ("by the river", "fish"),
    "frog": ("by the river", "flies"),
}
CHOICES = {  # animal: its homes and its foods, each as likely as the other
    "fox": (("in the forest",), ("red berries", "white mushrooms")),
    "pig": (("on the farm",), ("sweet apples", "raw carrots")),
    "swan": (("by the river",), ("green reeds", "black snails")),
    "mouse": (("on the farm", "in the forest"), ("seeds", "crumbs", "nuts")),
    "duck": (("by the river", "on the farm"), ("bread", "peas", "oats")),
    "snake": (("in the forest", "by the river"), ("eggs", "toads", "lizards")),
}
FORMS = (
    "{3} {0} lives {1} and eats {2}.",
    "{3} {0} eats {2} and lives {1}.",
    "{3} {0} {1} looks for {2}.",
    "{3} {0} finds {2} {1}.",
    "{3} {0}, which eats {2}, lives {1}.",
    "{3} {0} that lives {1} eats {2}.",
)
OPENINGS = ["The", "Our", "This", "Every"]
OPENINGS += [f"{when} {the}" for when in ("Today", "At night", "In spring") for the in ("the", "our")]


class Fact(NamedTuple):
    """An animal, its home and its food, and how often this fact is told in each form with each opening.

    That is 5 times for ANIMALS and 3 times for CHOICES. So a mouse on the farm is told of 9 times, a cow 5:
    the likeliest animal is not in the likeliest sentence (see the README of tutorials/results).
    """

    animal: str
    home: str
    food: str
    times: int

    def tell(self, form=FORMS[0], opening="The"):
        """The fact as a sentence."""
        return form.format(self.animal, self.home, self.food, opening)


def facts():
    """Every Fact, those of CHOICES included."""
    plain = [Fact(animal, home, food, 5) for animal, (home, food) in ANIMALS.items()]
    pairs = {animal: product(homes, foods) for animal, (homes, foods) in CHOICES.items()}
    return plain + [Fact(animal, *pair, 3) for animal, two in pairs.items() for pair in two]


def sentences():
    """{sentence: how often it is told}, of the whole world."""
    told = product(facts(), FORMS, OPENINGS)
    return {fact.tell(form, opening): fact.times for fact, form, opening in told}


def answers(question):
    """{sentence: the texts in its blanks} of every sentence of the world that a text with [MASK]s can be.

    Example: answers("The [MASK] lives on the farm and eats mice.") has one key, whose value is (" cat",).
    """
    pattern = re.compile("( .+)".join(map(re.escape, question.split(" [MASK]"))))
    found = {sentence: pattern.fullmatch(sentence) for sentence in sentences()}
    return {sentence: match.groups() for sentence, match in found.items() if match}
