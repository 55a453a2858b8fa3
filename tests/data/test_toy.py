"""The toy world: what its sentences say, and what can be enumerated from them."""

from minglm.data.toy import ANIMALS, CHOICES, answers, facts, sentences


def test_every_animal_is_told_of_as_often_as_its_facts_say():
    told = sentences()
    for fact in facts():
        assert told[fact.tell("{3} {0} lives {1} and eats {2}.", "Our")] == fact.times
    assert (
        len(told) == 60 * len(facts())
        and {fact.animal for fact in facts()} == ANIMALS.keys() | CHOICES.keys()
    )


def test_the_food_tells_the_animal_and_the_animal_its_home_unless_it_has_two():
    for fact in facts():
        asked = fact._replace(animal="[MASK]").tell()
        assert {blanks for blanks in answers(asked).values()} == {(f" {fact.animal}",)}
        homes = [blank for (blank,) in answers(fact._replace(home="[MASK]").tell()).values()]
        assert homes == [f" {home}" for home in CHOICES.get(fact.animal, ((fact.home,),))[0]]


def test_two_blanks_are_answered_together():
    found = answers("The [MASK] lives by the river and eats [MASK].").values()
    assert (" swan", " green reeds") in found and (" swan", " fish") not in found
