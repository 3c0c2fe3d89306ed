"""Writes the training text of the demo model: short stories and short chats.

    python3 stories.py --count 3 --seed 7          # print plain stories
    python3 stories.py --count 3 --seed 7 --chat   # print chats

A story is a plot filled in with a cast. A plot is data: paragraphs in a small grammar, in
which `[one|two|three]` picks one alternative (they nest), `{slot}` inserts a word of the
cast, and `{Slot}` inserts it capitalized. lexicon.py holds the words; this file holds the
plots, the requests for stories, and the rules that keep pronouns, articles and facts
consistent.
"""

import argparse
import random
import re

from lexicon import (ANIMALS, BOY_NAMES, CHILD_HOMES, COLOURS, COMMON_ANIMALS, COMMON_THINGS, ELDERS,
                     FOODS, GENDERS, GIRL_NAMES, HOBBIES, MAKEABLE, NAME_HEADS, NAME_MIDDLES,
                     NAME_TAILS, NOT_SOLD, PET_NAMES, PLACES, RARE_ANIMALS, RARE_THINGS, SEA_ANIMALS,
                     SMALL_TALK, THINGS, TRAITS, UNWANTED)

MIN_WORDS, MAX_WORDS = 60, 180

PRONOUNS = {
    "f": {"he": "she", "him": "her", "his": "her", "himself": "herself"},
    "m": {"he": "he", "him": "him", "his": "his", "himself": "himself"},
}

# ---------------------------------------------------------------- grammar

_INNERMOST = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiouAEIOU]|hour|honest)(?!one\b|use|uni)")


def choose(template, rng):
    """Resolves every `[a|b]` of a template, innermost first."""
    while True:
        resolved = _INNERMOST.sub(lambda m: rng.choice(m.group(1).split("|")), template)
        if resolved == template:
            return resolved
        template = resolved


def fill(template, slots, rng):
    """Resolves alternatives and slots, then fixes articles, spaces and capitals."""
    text = choose(template, rng)

    def slot(match):
        key = match.group(1)
        if key in slots:
            return slots[key]
        value = slots[key[0].lower() + key[1:]]
        return value[0].upper() + value[1:]

    while _SLOT.search(text):
        text = choose(_SLOT.sub(slot, text), rng)
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r" ([,.!?])", r"\1", text)
    text = _ARTICLE.sub(r"\1n ", text)
    text = re.sub(r"(^|[.!?] )([a-z])", lambda m: m.group(1) + m.group(2).upper(), text)
    return text


# ---------------------------------------------------------------- the cast

def invented_name(rng):
    """A new name, such as Tavibo."""
    while True:
        name = rng.choice(NAME_HEADS) + rng.choice(NAME_MIDDLES) + rng.choice(NAME_TAILS)
        if 3 <= len(name) <= 8 and not UNWANTED.search(name.lower()):
            return name


def pick_name(rng, gender, child, avoid=()):
    """A name that suits the character and starts differently from the names in `avoid`."""
    while True:
        roll = rng.random()
        if roll < 0.2:
            name = invented_name(rng)
        elif child or roll < 0.6:
            name = rng.choice(GIRL_NAMES if gender == "f" else BOY_NAMES)
        else:
            name = rng.choice(PET_NAMES)
        if all(name[:2] != other[:2] for other in avoid):
            return name


class Cast:
    """The characters and things of one story, as slots for the grammar."""

    def __init__(self, rng, plot, wish):
        self.rng, self.plot, self.wish = rng, plot, wish
        self.child = wish.get("child", rng.random() < 0.3)
        self.gender = wish.get("gender") or rng.choice("fm")
        self.name = wish.get("name") or pick_name(rng, self.gender, self.child)
        trait = wish.get("trait") or rng.choice(TRAITS)
        nouns = [a for a in map(ANIMALS.get, COMMON_ANIMALS) if a.noun not in SEA_ANIMALS and not (plot.grounded and a.flies)
                 and not (plot.swimless and a.swims)]
        if self.child:
            animal, noun = None, "girl" if self.gender == "f" else "boy"
        else:
            animal = ANIMALS[wish["animal"]] if wish.get("animal") else rng.choice(nouns)
            noun = animal.noun
        places = ["sea", "island"] if noun in SEA_ANIMALS else list(PLACES)
        place = PLACES[wish.get("place") or rng.choice(places)]
        if noun in GENDERS:
            self.gender = GENDERS[noun]
            self.name = wish.get("name") or pick_name(rng, self.gender, True)
        own = PRONOUNS[self.gender]
        slots = self.slots = {
            "n": self.name, "an": noun, "trait": trait, **own,
            "paws": animal.paws if animal else "hands",
            "went": animal.went if animal else rng.choice(["ran", "walked", "skipped"]),
            "coat": animal.coat if animal else "bright smile",
            "where": place.where, "path": place.path, "place": place.key,
            "hobby": rng.choice(HOBBIES),
        }
        slots["home"] = animal.home if animal else rng.choice(CHILD_HOMES)
        for i, spot in enumerate(rng.sample(place.spots, 4), 1):
            slots["spot%d" % i] = spot
        self.place_asked = bool(wish.get("place"))
        self._friend(wish, noun)
        self._elder(noun)
        self._thing(wish)
        slots["food"] = rng.choice(FOODS)
        slots["colour"] = rng.choice(COLOURS)
        if plot.extra:
            slots.update(plot.extra(rng, self))

    def _friend(self, wish, noun):
        """The second character: an animal, or sometimes a child if the first is one."""
        rng, slots = self.rng, self.slots
        gender = wish.get("friend_gender") or (
            ("m" if self.gender == "f" else "f") if rng.random() < 0.7 else self.gender)
        child = wish.get("friend_child") or (self.child and not wish.get("friend") and rng.random() < 0.35)
        name = wish.get("friend_name") or pick_name(rng, gender, child, avoid=[self.name])
        options = [a for a in map(ANIMALS.get, COMMON_ANIMALS) if a.noun != noun
                   and (a.noun not in SEA_ANIMALS or self.plot.friend == "swims")
                   and (a.flies if self.plot.friend == "flies" else True)
                   and (a.strong if self.plot.friend == "strong" else True)
                   and (a.swims if self.plot.friend == "swims" else True)]
        if self.plot.friend and not wish.get("friend_child"):
            child = False
        animal = ANIMALS[wish["friend"]] if wish.get("friend") else rng.choice(options)
        if animal.noun in GENDERS and not child:
            gender = GENDERS[animal.noun]
            name = wish.get("friend_name") or pick_name(rng, gender, True, avoid=[self.name])
        pronouns = PRONOUNS[gender]
        slots.update({
            "f": name,
            "fan": ("girl" if gender == "f" else "boy") if child else animal.noun,
            "fintro": "{his} friend " + name if child else name + " the " + animal.noun,
            "fhe": pronouns["he"], "fhim": pronouns["him"], "fhis": pronouns["his"],
            "fhimself": pronouns["himself"],
            "fpaws": "hands" if child else animal.paws,
            "fwent": "ran" if child else animal.went,
            "fcoat": "warm smile" if child else animal.coat,
            "fthe": name if child else "the " + animal.noun,
        })

    def _elder(self, noun):
        rng, slots = self.rng, self.slots
        options = [e for e in ELDERS if e[3] not in (noun, slots["fan"]) or e[3] is None]
        first, later, he, _ = rng.choice(options)
        slots.update({"elder": first, "e": later, "ehe": he, "ehim": "her" if he == "she" else "him",
                      "ehis": "her" if he == "she" else "his"})

    def _thing(self, wish):
        rng, slots, need = self.rng, self.slots, self.plot.thing
        options = [t for t in map(THINGS.get, COMMON_THINGS) if fits(t, need)]
        thing = THINGS[wish["thing"]] if wish.get("thing") else rng.choice(options)
        colour = rng.choice(COLOURS)
        bare = thing.noun in ("star", "teddy bear", "coin", "key") and colour in ("wooden", "striped")
        slots.update({
            "o": thing.noun,
            "oc": thing.noun if bare or rng.random() < 0.15 else colour + " " + thing.noun,
            "overb": thing.verb, "oger": thing.ger, "orest": thing.rest,
            "breaks": thing.breaks, "mends": thing.mends,
        })
        self.thing = thing


def fits(thing, need):
    """Whether a thing suits a plot with this need."""
    if need in ("high", "wind", "floats"):
        return getattr(thing, need)
    if need == "breaks":
        return bool(thing.breaks)
    if need == "made":
        return thing.noun in MAKEABLE
    if need == "sold":
        return thing.noun not in NOT_SOLD
    return True


# ---------------------------------------------------------------- openings and endings

OPENINGS = [
    "Once upon a time, [there was|there lived] a {trait} [|little |young ]{an} [called|named] {n}. {He} lived {at}.",
    "Once upon a time, [there was|there lived] a {trait} [|little ]{an} [called|named] {n}.",
    "Once upon a time, {at}, there lived a {trait} [|little |young ]{an} [called|named] {n}.",
    "Once upon a time, a {trait} {an} [called|named] {n} lived {at}.",
    "Once there was a {trait} {an} [called|named] {n}, who lived {at}.",
    "There once was a {trait} {an} whose name was {n}. {He} lived {at}.",
    "Long ago, {at}, there lived a {trait} {an} [called|named] {n}.",
    "{n} was a {trait} [|little |young ]{an} who lived {at}.",
    "{At} lived a {trait} {an}. {His} name was {n}.",
    "Far away, {at}, there lived a {trait} [|little |young ]{an} [called|named] {n}.",
    "A {trait} [|little |young ]{an} [called|named] {n} lived {at}.",
    "This is the story of {n}, a {trait} [|little |young ]{an} who lived {at}.",
]
ANIMAL_OPENINGS = [
    "{n} the {an} lived {at}. {He} was [very|a little|always] {trait}, and everybody [knew|liked] {him}.",
    "The little {an} was called {n}. {He} was {trait}, and {he} lived {at}.",
    "The {trait} [|little |young ]{an} {n} lived {at}.",
]
MORNING_OPENINGS = [
    "One [sunny|bright|windy|warm|cool|quiet] morning, a {trait} {an} [called|named] {n} [woke up early|sat outside {his} home|looked out at the sky|went for a walk].",
    "It was a [sunny|bright|windy|warm|cool|quiet] morning {where}. A {trait} {an} [called|named] {n} was [already awake|sitting in the sun|eating {his} breakfast|humming a song].",
    "The sun was [shining|just coming up] when {n}, a {trait} {an}, [stepped outside|opened {his} eyes|came out to play].",
]
ASIDES = [
    "", "", "", "{He} [liked|loved] {hobby}.", "[Every day|More than anything], {he} [liked|loved] {hobby}.",
    "{He} was proud of {his} {coat}.", "Everybody [knew|liked] {n}.",
    "{He} had a big heart.",
]
ENDINGS = [
    "From that day on, {n} [knew|always remembered|never forgot] that {lesson}.",
    "{n} learned that {lesson}.",
    "And so {n} learned that {lesson}.",
    "That day, {n} learned that {lesson}.",
    "[That night|That evening], {n} [thought|smiled and thought], \"Now I know that {lesson}.\"",
    "And {n} never forgot that {lesson}.",
    "{n} had learned that {lesson}.",
]
CLOSINGS = ["", "", "", "", "", "", "", " The end.", " And they all slept well that night.",
            " And {n} fell asleep with a smile."]


class Plot:
    """A template for stories. The module's docstring describes the grammar."""

    def __init__(self, name, theme, parts, lessons, thing=None, uses_thing=False, friend=None,
                 grounded=False, swimless=False, extra=None, uses_friend=True, short=False, facts=()):
        self.name, self.theme, self.parts, self.lessons = name, theme, parts, lessons
        self.thing, self.uses_thing, self.friend = thing, uses_thing or bool(thing), friend
        self.grounded, self.swimless, self.short = grounded, swimless, short
        self.extra, self.uses_friend, self.facts = extra, uses_friend, list(facts)


PLOTS = []


def plot(*args, **kwargs):
    """Adds a plot to the collection."""
    PLOTS.append(Plot(*args, **kwargs))


def pick(**lists):
    """An `extra` function that draws one value for each slot."""
    return lambda rng, cast: {key: rng.choice(values) for key, values in lists.items()}


# ---------------------------------------------------------------- plots around a thing

plot("lost", "friendship", [
    "{n} had a {oc} and loved {oger} {orest}. [It was {his} favorite thing in the world.|{He} took it everywhere.|It was a gift from {his} grandmother.|]",
    "{Oneday}, the {o} was gone. {n} looked {spot1}. It was not there. {He} looked {spot2}. [It was not there either.|All {he} found was [an old shoe|a sleepy beetle|a pile of leaves].] [{n} sat down and began to cry.|{n} felt very sad.|A tear ran down {his} cheek.]",
    "[Just then|Soon], {fintro} came {path}. \"[What is wrong?|Why are you sad?|What is the matter?]\" [asked|said] {f}. \"I have lost my {o},\" said {n}. \"[Do not worry|Do not cry|Cheer up],\" said {f}. \"[I will help you look|We will look together|Four eyes see more than two].\"",
    "They [looked|searched] {spot3}. [They asked everybody they met.|They looked high and low.|They did not give up.|] At last {f} [called out|gave a happy shout]: \"[Here it is|I see it|I found it]!\" The {o} was {spot4}[, safe and sound|, a little dusty but safe|]. {n} [laughed and hugged {fhim}|jumped for joy|was so happy that {he} danced]. \"Thank you, {f}!\" {he} said. [Then they played with it all afternoon.|After that, they shared it every day.|]",
], ["a good friend helps you look", "things are easier with a friend", "friends are worth more than any {o}",
    "it is good to ask for help"], uses_thing=True,
    facts=[("What did {n} lose", "{n} lost the {o}."), ("Where was the {o}", "The {o} was {spot4}."),
           ("Who helped {n}", "{f} helped {n}.")])

plot("stuck_high", "friendship", [
    "{n} had a {oc}. {He} loved {oger} {orest}.",
    "{Oneday}, a [strong|sudden|wild] wind [blew|came up]. It [lifted the {o} into the air|pulled the {o} away] and dropped it in the top of a tall tree. {n} [jumped|reached] as high as {he} could, but the {o} was too high. {He} [threw a stick|shook the tree|called to the wind], but nothing helped. \"Oh no!\" {he} [cried|said]. \"[My poor {o}!|How will I get it back?|It is stuck!]\"",
    "[Just then|A moment later], {fintro} [flew by|came flying past|landed next to {him}]. \"[I can help|Let me try|Please do not cry],\" said {f}. {Fhe} flew up, up, up [to the highest branch|through the green leaves], took the {o}, and brought it [safely |gently |]down.",
    "\"[Thank you, {f}!|You did it!|Hooray!]\" said {n}. [\"Now let us play together.\"|\"You are a true friend.\"|\"How can I thank you?\"] [So they played until the sun went down.|They took turns all afternoon.|The two of them laughed and laughed.]",
], ["a friend can reach what you cannot", "everybody is good at something", "we all need help sometimes",
    "friends make hard things easy"], thing="high", friend="flies", grounded=True,
    facts=[("Where was the {o}", "The {o} was stuck in a tall tree."), ("Who helped {n}", "{f} helped {n}.")])

plot("floats_away", "friendship", [
    "{n} loved {his} {oc}. [{He} enjoyed {oger} {orest}.|{He} was always {oger} {orest}.]",
    "{Oneday}, {n} [was playing|stood] near the water when {he} slipped. Splash! The {o} fell in and [floated away|drifted off]. \"[Stop|Come back]!\" [cried|shouted] {n}. {He} [ran|hurried] along the bank, but the water was [too fast|too deep|too cold].",
    "{fintro} [saw it all|heard the shout|was swimming near by]. \"[Wait here|Stay there|Leave it to me],\" said {f}. {Fhe} [jumped|dived] into the water, swam [past the rocks|through the waves|as fast as {fhe} could], and [caught|grabbed] the {o} just in time.",
    "[Dripping wet, {f} came back and gave the {o} to {n}.|{f} brought the {o} back and shook off the water.] \"Thank you!\" said {n}. \"[You are so brave|How can I ever thank you|You are the best swimmer I know].\" [{He} wrapped {f} in a warm towel and made some tea.|{He} shared {his} lunch with {f}, and they sat in the sun.]",
], ["a true friend jumps in when you need help", "it is good to have brave friends", "kindness should be thanked with kindness",
    "everybody is good at something"], thing="floats", friend="swims", swimless=True, grounded=True,
    facts=[("What fell into the water", "The {o} fell into the water."), ("Who helped {n}", "{f} helped {n}.")])

plot("broken_truth", "honesty", [
    "{fintro} had a {oc}. {f} loved {oger} {orest}. {Oneday}, {n} asked, \"May I play with your {o}?\" \"[Yes, but please be careful|Of course, but take care],\" said {f}.",
    "{n} [played|was playing] with it [all morning|for a while], but then {he} [tripped over a root|fell over a stone|was not careful]. Crack! {breaks_cap}. {n} was [afraid|scared]. {He} hid the {o} {spot1} and [ran|hurried] home. But [all night|that evening] {he} could not sleep. {His} tummy hurt, and {he} felt [bad|very sorry|heavy as a stone].",
    "In the morning, {n} went to {f}. \"[I am sorry|I have to tell you something],\" {he} said. \"I broke your {o}, and then I hid it.\" {f} was [quiet|sad] for a moment. Then {fhe} [smiled|took {his} hand]. \"[Thank you for telling me the truth|That was brave of you|I am glad that you told me],\" {fhe} said. \"[Let us fix it together|Maybe we can mend it].\"",
    "They sat down side by side and {mends}. [Soon the {o} was as good as new.|The {o} was even better than before.]",
], ["telling the truth makes your heart light", "it is best to be honest, even when it is hard", "friends forgive you when you tell the truth",
    "a lie is heavier than the truth"], thing="breaks",
    extra=lambda rng, cast: {"breaks_cap": cast.slots["breaks"][0].upper() + cast.slots["breaks"][1:]},
    facts=[("What did {n} break", "{n} broke the {o}."), ("Who forgave {n}", "{f} forgave {n}.")])

plot("mended", "patience", [
    "{n} had a {oc}. {He} loved {oger} {orest}.",
    "But {oneday}, [something went wrong|there was trouble]: {breaks}. \"[Oh dear|Oh no],\" said {n}. \"[What shall I do now?|It is broken!]\" [{He} tried to fix it, but {he} did it too fast, and it only got worse.|{He} wanted to throw it away.]",
    "{He} took the {o} to {elder}. \"[Hm|Let me see],\" said {e}. \"[We can mend it, if we are patient|Slow work is good work|Nothing is lost yet]. [Sit down and help me|Bring me my tools|Watch closely].\" They worked [all morning|until supper|slowly and carefully]. Together they {mends}.",
    "[At last|In the end] the {o} was as good as new. [\"Hooray!\" said {n}.|\"It looks even better now!\" said {n}.|{n} clapped {his} {paws}.] {He} thanked {e} and [ran|hurried] outside. Soon {he} was {oger} {orest} again.",
], ["broken things can be mended", "patience can mend many things", "slow work is good work", "it pays to try again"],
    thing="breaks", uses_friend=False,
    facts=[("What was broken", "The {o} was broken."), ("Who helped {n}", "{E} helped {n}.")])

plot("share_thing", "sharing", [
    "{n} had a {oc}. {He} loved {oger} {orest}. [\"It is mine, only mine,\" {he} said.|{He} did not let anybody touch it.|{He} never shared it.]",
    "{Oneday}, {fintro} came by. \"[What a lovely {o}|That is a fine {o}]!\" said {f}. \"May I have a turn?\" \"No,\" said {n}. \"It is mine!\" {f} [looked down|felt sad] and walked away.",
    "{n} was alone again with {his} {o}. But [it was not fun any more|something felt wrong|the day seemed long and quiet]. [There was nobody to laugh with.|There was nobody to talk to.] {n} [thought and thought|sighed]. Then {he} {went} after {f}. \"Wait!\" {he} called. \"I am sorry. [Would you like a turn?|Please come and play with me.]\"",
    "{f} smiled[| from ear to ear]. They took turns, and [the whole afternoon was full of laughter|they had more fun than ever before|time went by so fast]. [When it got dark, neither of them wanted to go home.|\"Will you come again tomorrow?\" asked {n}. \"Yes!\" said {f}.]",
], ["sharing makes everything more fun", "a toy is best when it is shared", "friends are better than things", "joy grows when you share it"],
    uses_thing=True,
    facts=[("What did {n} share", "{n} shared the {o}."), ("Who came by", "{f} came by.")])

plot("gift", "kindness", [
    "[It was the birthday of {elder}.|Soon it would be the birthday of {elder}.] {n} wanted to give {ehim} a gift, but {he} had [no money|only one small coin|nothing in {his} pockets].",
    "[\"What can I give?\" {he} [wondered|asked {himself}].|{n} thought for a long time.] [At the market|In the shop] {he} saw [a golden ring|a silver watch|a fine silk coat], but it cost too much. {He} [went home with slow steps|walked home sadly]. [Then|On the way] {he} met {fintro}. \"[A gift does not have to cost money|The best gifts are made with love],\" said {f}. \"Why not make something?\"",
    "So {n} and {f} [set to work|got busy]. They [found paint and paper|looked for wood and string|used bits of cloth and thread], and they worked [all day|until the lamps were lit]. In the end they had made a {oc}. [It was a little crooked, but it was pretty.|It was not perfect, but it was made with love.]",
    "When {e} opened the gift, {ehis} eyes [shone|grew wide]. \"[A {o}! How wonderful|I have always wanted a {o}|You made this {o} for me]!\" {ehe} said. \"[This is the best gift of all|I will keep it forever].\" {n} [felt warm inside|was very proud|smiled at {f}].",
], ["the best gifts come from the heart", "a gift made with love is better than gold", "kindness does not cost money"],
    thing="made",
    facts=[("What did {n} make", "{n} made a {o}."), ("Who helped {n}", "{f} helped {n}.")])

plot("wish_for_thing", "patience", [
    "{n} had one big wish. {He} wanted a {o}. [Every night {he} dreamed of {oger} {orest}.|{He} thought about it all day long.]",
    "{Oneday}, {he} saw a {oc} in a shop. It cost ten coins, and {n} had only [two|three|one]. \"[I will work for it|I can earn the rest],\" {he} said. So {he} helped everybody {he} knew. {He} [swept the steps for {elder}|carried water for {elder}|watered the plants of {elder}]. {He} [picked apples|washed the windows|fed the hens]. {Each_day}",
    "At last {he} had ten coins. [On the way to the shop|But on the way], {he} met {fintro}, who was crying. \"I [lost|dropped] my money, and I cannot buy bread,\" said {f}. {n} looked at {his} coins. Then {he} gave {fhim} half of them. \"[Bread is more important than a {o}|You need it more than I do],\" {he} said.",
    "The next morning, there was a [box|parcel] at {his} door. Inside was the {oc}! [{E} had heard what {he} had done.|{E} had seen it all.] \"[A kind heart should be happy|You have earned it],\" said {e}. Soon {n} and {f} were {oger} {orest}[, side by side| together|].",
], ["kindness comes back to you", "good things come to those who help", "hard work and a kind heart make wishes come true"],
    thing="sold",
    extra=pick(each_day=["{Each} evening {he} put a coin in a jar.", "It was hard work, but {he} did not stop.", "Day by day the jar filled up."],
               each=["every"]),
    facts=[("What did {n} want", "{n} wanted a {o}."), ("Whom did {n} help", "{n} helped {f}.")])

plot("found_thing", "honesty", [
    "{Oneday}, {n} was walking {path} when {he} saw something {spot1}. It was a {oc}! \"[What a lovely {o}|How pretty it is],\" {he} said. \"[I want to keep it|Now it is mine].\"",
    "{He} [took it home|carried it home] and loved {oger} {orest}. But [soon|the next day] {he} heard somebody crying. It was {fintro}. \"[My {o} is gone|I cannot find my {o}],\" said {f}. \"[My mother made it for me|I have had it since I was small|It was a gift].\" {n} [felt {his} face grow hot|did not know what to say|looked at the ground]. {He} did not want to give it back.",
    "That night {n} could not sleep. {He} thought of {f}, [all alone and sad|who was so sad]. [At sunrise|In the morning] {he} took the {o} and {went} to {f}. \"I found your {o},\" {he} said. \"I wanted to keep it. [I am sorry|That was wrong of me].\"",
    "{f} was so happy that {fhe} [hugged {him}|danced in a circle]. \"Thank you! [Let us play with it together|You can play with it too, whenever you like],\" {fhe} said. [So {n} lost a {o} but found a friend.|And that is how they became friends.]",
], ["it feels good to do what is right", "an honest heart finds friends", "a friend is worth more than a {o}", "it is right to give back what is not yours"],
    uses_thing=True,
    facts=[("What did {n} find", "{n} found a {o}."), ("Whose {o} was it", "The {o} belonged to {f}.")])

plot("magic_thing", "kindness", [
    "{Oneday}, {n} found an old {o} {spot1}. {He} [rubbed|cleaned|picked up] the {o}, and it began to [glow|hum|shine]. \"I am a magic {o},\" it said. \"You may have [one wish|one wish, and only one].\"",
    "{n} [could not believe {his} ears|nearly fell over]. What should {he} wish for? [A mountain of cake?|A castle of gold?] [A crown of stars?|A ship with red sails?] {He} [thought and thought|thought about it all day].",
    "Then {he} saw {fintro}. {f} [had hurt {fhis} foot and could not walk|was sick and could not come out to play|was lonely and had no home]. {n} did not think [any more|about gold any longer]. \"I wish that {f} [will be well and happy|may be happy again],\" {he} said. The {o} [flashed once|rang like a bell], and at once {f} [jumped up and laughed|began to smile and dance].",
    "[After that the {o} was only a {o}.|The magic was gone.] But {n} did not mind. {He} loved {oger} {orest}, and now {he} had a friend to do it with. [\"That was the best wish of all,\" said {f}.|\"You could have had gold,\" said {f}. \"I have a friend,\" said {n}. \"That is better.\"]",
], ["the best wish is a wish for somebody else", "a friend is better than gold", "a kind heart is the real magic"],
    uses_thing=True,
    facts=[("What did {n} find", "{n} found a magic {o}."), ("What did {n} wish for", "{n} wished that {f} would be happy.")])

# ---------------------------------------------------------------- plots without a thing

FEARS = {
    "the dark": ("the sun went down", "held {his} breath and looked into the dark", "the dark was soft and full of stars"),
    "thunder": ("a storm came over the hills", "counted slowly after each flash", "the thunder was only a big noise"),
    "deep water": ("everybody went down to the lake", "put one foot into the water, and then the other", "the water held {him} up like a soft bed"),
    "high places": ("all the others climbed the tall hill", "took one small step, and then one more", "the view from the top was wonderful"),
    "the big bridge": ("everybody had to cross the old bridge", "looked straight ahead and took one step at a time", "the bridge was strong and safe"),
    "new people": ("a new family came to live near by", "said a very small hello", "the new neighbors smiled and said hello too"),
    "the first day of school": ("it was the first day of school", "walked through the big door", "the teacher was kind and the room was full of pictures"),
    "loud noises": ("the drums of the summer fair began to play", "listened to the beat and tapped one foot", "the noise turned into a merry song"),
    "shadows": ("long shadows danced on the wall", "waved at the biggest shadow", "the shadow waved back"),
}


def _fear(rng, cast):
    options = [k for k in FEARS if not (k == "deep water" and cast.plot.swimless)]
    if not cast.child:
        animal = ANIMALS[cast.slots["an"]]
        if animal.flies:
            options = [k for k in options if k not in ("high places", "the big bridge")]
        if animal.swims:
            options = [k for k in options if k != "deep water"]
    fear = cast.wish.get("fear") or rng.choice(options)
    start, step, found = FEARS[fear]
    return {"fear": fear, "start": start, "step": step, "found": found}


plot("fear", "bravery", [
    "There was only one thing that {n} did not like: {he} was afraid of {fear}.",
    "{Oneday}, {start}. {n} [began to shake|hid behind a chair|shut {his} eyes]. \"[I cannot do it|I am too scared|I want to go home],\" {he} [said|whispered].",
    "{Elder} [sat down next to {him}|put an arm around {him}]. \"[Being brave does not mean that you are never afraid,\" said {e}. \"It means that you try anyway.|Everybody is afraid sometimes,\" said {e}. \"You only have to take one small step.|I was afraid of it, too, when I was small,\" said {e}. \"It gets better when you try.] [I will stay with you|I am right here|I will hold your hand].\"",
    "{n} took a deep breath. {He} {step}. [And then something wonderful happened|To {his} surprise, it was not so bad]: {found}. \"[I did it!|Look at me!]\" [shouted|cried] {n}. {E} [smiled|clapped|laughed]. [\"I knew you could,\" {ehe} said.|\"You see?\" {ehe} said.]",
], ["being brave means trying even when you are afraid", "many fears grow small when you look at them", "one small step can be a brave step"],
    extra=_fear, uses_friend=False,
    facts=[("What was {n} afraid of", "{n} was afraid of {fear}."), ("Who helped {n}", "{E} helped {n}.")])

SKILLS = [
    ("to swim", "sank like a stone", "kicked and splashed", "swam all the way across the pond", "wet"),
    ("to whistle", "made only a silly puff", "blew and blew", "whistled a whole song", ""),
    ("to bake bread", "burned the bread black", "mixed and kneaded", "pulled a golden loaf out of the oven", ""),
    ("to skate on the ice", "fell on {his} bottom", "slid and stumbled", "glided over the ice like a leaf", "ground"),
    ("to paint", "made only a brown mess", "tried one color after another", "painted a bright picture of the sunrise", ""),
    ("to sing", "squeaked like a rusty door", "sang high and low", "sang so sweetly that everybody stopped to listen", ""),
    ("to juggle", "dropped every ball", "threw and caught", "kept three balls in the air", ""),
    ("to read", "mixed up all the letters", "spelled out one word after another", "read a whole page aloud", ""),
    ("to dance", "stepped on everybody's toes", "turned and hopped", "danced at the summer fair", ""),
    ("to climb the tall tree", "slid right down again", "held on and pulled", "sat on the highest branch", "ground"),
    ("to jump over the stream", "landed in the mud", "ran and jumped", "landed on the other side with dry feet", "ground"),
]


def _skill(rng, cast):
    animal = None if cast.child else ANIMALS[cast.slots["an"]]
    options = [s for s in SKILLS if not (animal and ((s[4] == "wet" and animal.swims)
                                                     or (s[4] == "ground" and animal.flies)))]
    wanted = [s for s in SKILLS if s[0] == cast.wish.get("skill")]
    skill, fails, tries, wins, _ = rng.choice(wanted or options)
    return {"skill": skill, "fails": fails, "tries": tries, "wins": wins}


plot("skill", "patience", [
    "{n} wanted to learn {skill}. [All the others could do it already.|It looked so easy.|It was {his} biggest dream.]",
    "{Oneday}, {he} tried for the first time, but {he} {fails}. {He} tried again, and again {he} {fails}. [Some of the others laughed.|{fintro_cap} laughed, but then said, \"Do not stop now.\"] \"[I will never learn it|It is too hard],\" [sighed|said] {n}, and {he} sat down {spot1}.",
    "{Elder} came {path}. \"[Do you know how I learned|Shall I tell you a secret]?\" {ehe} asked. \"I failed a hundred times. [Then I tried once more|But I never stopped]. [A little every day is enough|Small steps go a long way].\" So {n} practiced every day. {He} {tries}. [In the rain and in the sun, {he} did not give up.|Each day it went a little better.]",
    "[One morning|After many days|And then, one day], it worked! {n} {wins}. [Everybody cheered.|\"Bravo!\" they all called.|\"Well done!\" said {e}.] {n} [bowed and laughed|could not stop smiling|had never been so proud].",
], ["practice makes hard things easy", "you must not give up too soon", "every master was once a beginner", "little by little, you can learn anything"],
    extra=lambda rng, cast: {**_skill(rng, cast), "fintro_cap": cast.slots["fintro"]},
    uses_friend=False,
    facts=[("What did {n} want to learn", "{n} wanted to learn {skill}.")])

plot("share_food", "sharing", [
    "{Oneday}, {n} had {food}. [It smelled so good!|{He} had waited for it all week.] {He} sat down {spot1} to eat it [all alone|all by {himself}].",
    "Then {fintro} came {path}. {f} looked thin and tired. \"[I have not eaten all day|I am so hungry],\" said {f}. \"[Could I have a little|May I have a bite], please?\" {n} [held the food close|looked at {his} food]. \"[There is not enough for two|But it is mine],\" {he} said.",
    "{f} nodded sadly and turned to go. [{n} took a bite, but it did not taste good any more.|Suddenly {n} was not hungry any more.] \"Wait!\" {he} called. \"[Come and sit with me|There is enough for two after all].\" {He} gave {f} the bigger half, and they [ate|sat] together in the sun. It was the best meal {n} had ever had.",
    "When winter came, {n} was sick and could not look for food. [Knock, knock!|One morning there was a knock.] {f} stood at the door with [a pot of hot soup|warm bread and honey|a basket full of food]. \"[You shared with me|You were kind to me],\" {fhe} said. \"Now it is my turn.\"",
], ["those who share will never be alone", "food tastes better when it is shared", "kindness comes back to you", "sharing makes two hearts happy"],
    facts=[("What did {n} share", "{n} shared {food}."), ("Who was hungry", "{f} was hungry.")])

plot("race", "kindness", [
    "[At last it was the day of the big race.|The day of the big race had come.|It was the day of the big race.] {n} wanted to win [the golden cup|the blue ribbon|the silver cup]. {He} had practiced [for weeks|every day].",
    "\"One, two, three, go!\" They all ran off. [Soon|Before long] {n} was in front. [The wind was in {his} face.|{He} could see the end of the path.] Then {he} heard a cry. {fintro} had fallen and hurt {fhis} leg.",
    "{n} stopped. [If {he} helped, {he} would lose.|The others were already running past.] But {he} could not leave {f} there. {He} {went} back. \"[Lean on me|Hold on to me],\" {he} said. Slowly, side by side, they went on. They were the very last to reach the end.",
    "But everybody [cheered for them|clapped and cheered]. {Elder} [came forward|stood up] and said, \"[Anybody can run fast|Many can win a race], but not everybody [stops to help|has such a good heart].\" And {ehe} gave {n} [a crown of flowers|a big hug and a flower|a prize of {ehis} own]. {f} [smiled and held {his} hand|smiled too].",
], ["helping a friend is better than winning", "a kind heart wins the best prize", "it is more important to be kind than to be first"],
    grounded=True,
    facts=[("Did {n} win the race", "No, {n} stopped to help {f}."), ("Who fell", "{f} fell and hurt {fhis} leg.")])

PLANTS = [("seed", "a tall sunflower", "a golden flower as big as a plate"), ("seed", "a pumpkin", "the biggest pumpkin {he} had ever seen"),
          ("bean", "a bean plant", "a plant that climbed up to the roof"), ("nut", "a little tree", "a tree with small green leaves"),
          ("bulb", "a tulip", "a red tulip that shone like a lamp"), ("seed", "a rose bush", "a bush with a hundred white roses"),
          ("seed", "a melon", "a round, sweet melon"), ("seed", "an apple tree", "a tree with a single red apple")]


def _plant(rng, cast):
    seed, becomes, result = rng.choice(PLANTS)
    return {"seed": seed, "becomes": becomes, "result": result}


plot("plant", "patience", [
    "{Oneday}, {elder} gave {n} a {seed}. \"[Plant it and take care of it|Put it into the ground],\" said {e}. \"[One day it will surprise you|Good things will come, if you wait].\"",
    "{n} planted the {seed} {spot1} and gave it water. {He} sat down and waited. Nothing happened. The next day {he} looked again. Nothing! \"[When will it grow|Why does it take so long|Is it asleep]?\" {he} asked. {fintro} laughed. \"[It is only a {seed}|Forget about it and come to play],\" said {f}.",
    "But {n} did not give up. Every day {he} gave it water. {He} [sang to it|told it stories|said good night to it]. {He} pulled out the weeds. [The rain came, and the sun came.|One week went by, and then another.] And then, one morning, there was a tiny green leaf!",
    "[Day by day|Little by little] it grew and grew. By the end of summer it had become {result}. Everybody came to see it. \"[How did you do it|What is your secret]?\" asked {f}. \"I [waited|was patient],\" said {n}, \"[and I gave it a little love every day|and I never gave up].\"",
], ["good things need time", "patience makes things grow", "a little care every day can do great things"],
    extra=_plant,
    facts=[("What did {n} plant", "{n} planted a {seed}."), ("What did it become", "It became {becomes}.")])

plot("lost_way", "bravery", [
    "{Oneday}, {n} followed a [blue butterfly|yellow butterfly|shining beetle|strange bird] {path}. {He} went [farther and farther|deeper and deeper]. When {he} looked around, {he} did not know where {he} was. [The sun was going down.|It was getting dark.|Fog came up from the ground.]",
    "\"[Hello? Is anybody there|Which way is home]?\" {he} called. Nobody answered. {n} [was cold and scared|felt very small]. {He} wanted to cry, but then {he} remembered what {elder} had said: \"[If you are lost, stay calm and listen|When you do not know the way, stop and think].\"",
    "So {n} stopped and listened. Far away {he} heard a [soft song|small voice|gentle hum]. It was {fintro}, [on the way home from market|who had a little lamp]. \"[Are you lost|Why are you out so late]?\" asked {f}. \"[I know every path here|I will show you the way]. [Come with me|Take my hand].\"",
    "Together they went {path}, past [the old bridge|the crooked tree|the three big stones], until they saw a light in a window. {n} was home! {E} [came running and hugged {him}|was waiting at the door]. [{f} stayed for supper.|There was hot soup for everybody.] [After that, {n} and {f} were the best of friends.|]",
], ["it helps to stay calm", "when you are lost, you should stop and think", "there is always somebody who can help"],
    facts=[("Who showed {n} the way", "{f} showed {n} the way home."), ("Why was {n} scared", "{n} was lost.")])

plot("boast", "humility", [
    "{n} thought {he} was the [cleverest|fastest|strongest|best] {an} of all. \"I do not need any help,\" {he} [always said|liked to say]. \"I can do everything alone.\"",
    "{Oneday}, a big [stone|log|branch] fell across the door of {his} home. {n} pushed. It did not move. {He} pulled. It did not move. {fintro} came by. \"Shall I help you?\" asked {f}. \"No,\" said {n}. \"[I can do it alone|I do not need you].\"",
    "{n} pushed and pulled [all day|until the moon came up]. {His} {paws} hurt, and {he} was [tired and hungry|cold and tired]. At last {he} sat down and said in a small voice, \"{f}, [will you help me|please help me]?\" \"[Of course|Gladly],\" said {f}. \"[That is what friends are for|I was only waiting for you to ask].\"",
    "\"One, two, three!\" They pushed together, and the [thing|heavy thing] rolled away [at once|like a ball]. {n} [laughed|felt silly, and then {he} laughed]. \"[We are stronger together|Two are better than one],\" {he} said, and {he} invited {f} to [supper|stay for cake|drink tea with {him}].",
], ["it is wise to ask for help", "together we are stronger", "nobody can do everything alone"],
    facts=[("Who helped {n}", "{f} helped {n}."), ("What was the problem", "Something heavy had fallen across the door.")])

HURTS = [("a thorn in {fhis} foot", "pulled out the thorn", "foot"), ("{fhis} foot caught in a net", "bit through the net", "foot"),
         ("{fhis} leg caught under a stone", "rolled the stone away", "leg"), ("a splinter in {fhis} nose", "took out the splinter", "nose"),
         ("{fhis} ear caught in a thorn bush", "bent the thorns away", "ear")]


def _hurt(rng, cast):
    problem, cure, part = rng.choice(HURTS)
    return {"problem": problem, "cure": cure, "part": part}


plot("small_helper", "kindness", [
    "{Oneday}, {n} was walking {path} when {he} heard [a cry|somebody call for help]. {spot1_cap} was {fintro}, with {problem}. \"[Please help me|Ouch, it hurts]!\" said {f}.",
    "{n} was [a little afraid|in a hurry], because [it was late|it was getting dark]. But {he} felt sorry for {fhim}. [\"Hold still,\" {he} said.|\"Be brave,\" {he} said.] Very gently, {he} {cure}. Then {he} washed the {part} with cool water. \"[That is much better|Thank you so much],\" said {f}. \"[I will never forget this|One day I will help you too].\"",
    "[A month later|Some days later|When autumn came], {n} slipped and fell into a deep hole. [{He} could not get out.|The walls were too steep.] \"Help!\" {he} called. \"Is anybody there?\" It was {f} who heard {him}. {Fhe} let down a long [rope|branch|vine] and pulled {n} out.",
    "\"You saved me!\" said {n}. \"[You helped me first|You were kind to me when I was hurt],\" said {f}. [They walked home together.|They laughed and shared some berries.]",
], ["a kind deed is never lost", "kindness comes back to you", "if you help others, they will help you"],
    grounded=True,
    extra=lambda rng, cast: {**_hurt(rng, cast), "spot1_cap": cast.slots["spot1"][0].upper() + cast.slots["spot1"][1:]},
    facts=[("Who was hurt", "{f} was hurt."), ("Who pulled {n} out of the hole", "{f} pulled {n} out.")])

NOISES = [("tap, tap, tap", "tapping on the window with a twig"), ("scratch, scratch, scratch", "scratching at the door"),
          ("thump, thump, thump", "jumping up and down to keep warm"), ("squeak, squeak", "crying very softly"),
          ("rustle, rustle", "looking for something to eat"), ("crunch, crunch", "walking in circles in the dry leaves")]


def _noise(rng, cast):
    noise, cause = rng.choice(NOISES)
    return {"noise": noise, "noise_cap": noise[0].upper() + noise[1:], "cause": cause}


plot("noise", "bravery", [
    "One [dark|windy|cold] night, {n} lay in bed and could not sleep. {noise_cap}! There was a strange noise outside. \"What was that?\" {he} [whispered|asked]. {noise_cap}! There it was again.",
    "{n} pulled the blanket over {his} head. [Was it a monster?|Was it a ghost?] [{He} thought of big teeth and long claws.|{His} heart beat fast.] But {he} also wanted to know. So {he} took [a little lamp|a candle], [opened the door|tiptoed to the door], and looked out.",
    "It was no monster at all. It was {fintro}, {cause}! \"[I am lost and cold|I got lost in the dark],\" said {f}. \"[I saw your light|I was afraid, too].\" {n} began to laugh. \"[I thought you were a monster|You scared me],\" {he} said. \"[Come in and get warm|Come inside, quickly].\"",
    "{n} made [hot milk|warm tea|hot soup], and they sat by the fire and told stories until the moon went down. [In the morning, {f} found the way home, but {fhe} came back every week.|From then on, {f} came to visit every week.]",
], ["many scary things are not scary at all", "it is good to look before you are afraid", "a monster may turn out to be a friend"],
    extra=_noise,
    facts=[("What made the noise", "It was {f}."), ("What was the noise", "It was {f}, {cause}.")])

plot("soup", "sharing", [
    "{Oneday}, {n} wanted to make soup, but there was only [one carrot|one potato|one onion] left in the house. \"[That is not enough for soup|What a thin soup that will be],\" {he} [said|sighed].",
    "[Knock, knock!|There was a knock at the door.] It was {fintro}. \"I have only [some beans|some peas|a cabbage],\" said {f}, \"and I am hungry.\" \"[Come in|Put it into the pot],\" said {n}. Then {elder} came with [a bit of salt|a leek|some herbs]. One after another, all the neighbors came, and each one brought a little something.",
    "[They chopped and stirred.|The pot bubbled and steamed.] [{f} told jokes while they waited.|{f} sang a song while they stirred.] Soon a wonderful smell filled the whole house. [\"Now it is ready!\" said {n}.|\"Bring your bowls!\" called {n}.]",
    "Everybody ate until they were full, and there was still some left. \"[This is the best soup in the world|I have never eaten such good soup],\" said {e}. \"[It is because everybody gave a little|That is because we made it together],\" said {n}.",
], ["when everybody gives a little, there is enough for all", "many small gifts make a feast", "sharing turns a little into a lot"],
    facts=[("What did they make", "They made soup."), ("Who came first", "{f} came first.")])

plot("new_friend", "friendship", [
    "{n} had nobody to play with, and {he} was [often lonely|a little lonely]. {Oneday}, a {fan} [called|named] {f} came to live near by.",
    "{n} wanted to say hello, but {he} was too shy. What if {f} did not like {him}? So {n} hid {spot1} and [only watched|peeked out]. {f} [was playing all alone|sat on the steps with nothing to do]. [{Fhe} looked sad, too.|{Fhe} looked as lonely as {n}.]",
    "\"[Somebody has to be first|If nobody begins, nothing will happen],\" thought {n}. {He} took {food} and {went} over to {f}. {His} voice was very small. \"Hello,\" {he} said. \"I am {n}. [Would you like to share this with me|Would you like to play]?\" {f} [smiled a big smile|jumped up]. \"[I was hoping that somebody would ask|Yes, please! I did not know anybody here],\" {fhe} said.",
    "They [played {spot2} until evening|built a castle out of mud|ran races and told jokes]. [The next day they met again, and the day after that.|Soon they did everything together.] {n} was not lonely any more.",
], ["a small hello can begin a big friendship", "sometimes you have to take the first step", "it only takes one word to make a friend"],
    facts=[("Who came to live near by", "{f} came to live near by."), ("Why was {n} sad", "{n} was lonely.")])

plot("storm", "kindness", [
    "{Oneday}, dark clouds came over the sky. [The wind began to howl.|The trees bent in the wind.] Thunder rolled over the hills. {n} [shut the door|ran home] and sat by the warm fire. \"[I am glad that I am inside|How good to be dry],\" {he} said.",
    "Then {he} heard a knock. It was {fintro}, wet to the bone. \"[My home was blown away|The rain came through my roof],\" said {f}. \"[May I come in|Can I stay here]?\" {n}'s home was very small. [But {he} opened the door wide.|\"There is always room for one more,\" said {n}.]",
    "[Soon|A little later] there was another knock, and another. All the neighbors came, [big and small|dripping and cold]. It was so full that nobody could [turn around|sit down], but it was warm. They [sang songs|told stories] while the storm roared outside, and nobody was afraid.",
    "In the morning the sun shone and [there was a rainbow in the sky|the birds sang]. \"Now we will help {f},\" said {n}. Everybody worked together, and by evening {f} had a new [roof|home][, stronger than the old one|]. \"[Thank you for opening your door|You have the biggest heart of all],\" said {f}.",
], ["there is always room for a friend", "a small house can hold big kindness", "together we can get through any storm"],
    facts=[("Who came in from the rain", "{f} came in from the rain."), ("What did they build", "They helped {f} to build a new home.")])

plot("bedtime", "bedtime", [
    "{Oneday_night}, {n} could not fall asleep. {He} turned to the left. {He} turned to the right. {He} counted [sheep|stars], but {his} eyes stayed wide open. The moon [looked in at the window|was round and bright].",
    "{He} got up and went to {elder}. \"I cannot sleep,\" {he} said. \"[Then let us say good night to the world|Come, we will listen to the night],\" said {e}. They [opened the window|sat on the step]. \"Good night, moon,\" said {n}. \"Good night, trees. Good night, little [frogs|birds|mice].\"",
    "[A soft wind came from the hills.|The leaves whispered in the wind.] Far away an owl called, hoo, hoo. \"[What does the owl say|Why does the owl call]?\" asked {n}. \"[It says that all is well|It says good night to you],\" said {e}. {n} [yawned|began to yawn]. {His} eyes grew heavy.",
    "{E} [carried {him} back to bed|put a soft blanket over {him}] and [sang a quiet song|hummed a slow song]. {n} dreamed [of a boat that sailed among the stars|of a field of silver flowers|of a cloud as soft as wool].",
], ["the night is a friend", "all is well when somebody loves you", "the quiet of the night is nothing to fear"],
    uses_friend=False, extra=pick(oneday_night=["one night", "one warm night", "one winter night", "one summer night"]),
    facts=[("Who helped {n} to sleep", "{E} helped {n} to sleep."), ("Why did {n} get up", "{n} could not fall asleep.")])

MESSES = ["{his} left shoe", "{his} hat", "the key to the door", "{his} lunch box", "{his} favorite cup", "{his} school bag"]

plot("tidy", "order", [
    "{n} never tidied up. [Toys lay on the floor, and books lay under the bed.|There were socks on the lamp and crumbs in the bed.] \"I will do it tomorrow,\" {he} always said.",
    "{Oneday}, {fintro} invited {him} to a [party|picnic|boat trip]. {n} was so happy! But {he} could not find {mess}. {He} looked under the toys. {He} looked behind the books. {He} threw everything up in the air. [Time went by.|The clock ticked and ticked.] When {he} found it at last, [it was late|the sun was low], and the others had already left.",
    "{n} sat down and cried. Then {f} came back. \"[We did not want to go without you|I missed you],\" said {f}. \"Come, [I will help you tidy up|we will do it together].\" They put the toys in a box and the books on a shelf. They [sang as they worked|made a game of it], and soon the whole room shone.",
    "\"[It was not so hard|That was almost fun],\" said {n}. The next time {f} called, {n} was ready at once, with {mess} [in {his} {paws}|in the right place]. [And what a fine day they had!|They had a wonderful day.]",
], ["a tidy home saves time", "it is better to do things today than tomorrow", "work is easy when you do it together"],
    extra=pick(mess=MESSES),
    facts=[("What could {n} not find", "{n} could not find {mess}."), ("Who helped {n}", "{f} helped {n}.")])

plot("snow", "friendship", [
    "[When {n} woke up one morning|One winter morning], the whole world was white. Snow! {n} {went} outside and [jumped into it|laughed]. \"[I will build the biggest snowman in the world|I want to make a snowman],\" {he} said.",
    "{He} rolled one big ball and then another, but the second ball was too heavy to lift. {fintro} came {path}. \"[May I help|Can I play, too]?\" asked {f}. \"[Yes, please|I hoped that you would ask],\" said {n}. Together they lifted it up. [Then they put a small ball on top.|]",
    "They gave the snowman [two stones for eyes|two black buttons for eyes], a carrot for a nose, and a {oc2}. [\"He looks cold,\" said {n}, and gave him an old scarf.|\"He needs a friend,\" said {f}, so they made a smaller one beside him.] [They named him Mr. Frost.|They named him Mr. Flake.|They danced around him in a ring.]",
    "When the sun grew warm, the snowman melted away. {n} was sad. \"[He will come back next winter|Snow always comes back],\" said {f}. \"And I [am still here|will stay].\" {n} smiled, because that was true.",
], ["some things melt, but friendship stays", "a good friend makes every season bright", "happy days live on in the heart"],
    extra=pick(oc2=["tall black hat", "red hat", "crown of leaves", "broom to hold", "big blue hat"]),
    facts=[("What did {n} build", "{n} built a snowman."), ("Who helped {n}", "{f} helped {n}.")])

TREASURES = [("an old book full of stories", "read to each other every evening"), ("a bag of seeds", "planted a garden for everybody"),
             ("a box of paints", "painted the whole fence with flowers"), ("a bundle of old letters", "read about two friends from long ago"),
             ("a box of old toys", "played with them until dark"), ("two small silver bells", "each took one, as a sign that they were friends")]


def _treasure(rng, cast):
    treasure, use = rng.choice(TREASURES)
    return {"treasure": treasure, "use": use}


plot("treasure", "friendship", [
    "{Oneday}, {n} found [a piece of old paper|a bottle with a note in it] {spot1}. It was a map! A red cross showed the way to a treasure. \"[I will be rich|Gold and jewels]!\" {he} [shouted|thought].",
    "But the map was hard to read. So {n} asked {fintro} for help. \"[The cross is near the waterfall|We must turn left at the big rock],\" said {f}. They went {path}. They crossed a [muddy stream|shaky bridge], and when {n} got stuck, {f} pulled {him} out. When {f} was tired, {n} [told {fhim} a funny story|carried {fhis} bag].",
    "At last they came to the place. They dug and dug. Clonk! There was a wooden box. {n} opened it with shaking {paws}. There was no gold inside. Instead, {he} found {treasure}.",
    "{n} was [quiet for a moment|surprised]. Then {f} began to laugh, and {n} laughed, too. \"[What a day we had|That was a real adventure]!\" said {n}. They {use}. [It was worth more than gold.|Neither of them wanted any gold.]",
], ["the best treasure is a friend", "the way can be better than the treasure", "a day with a friend is worth more than gold"],
    extra=_treasure,
    facts=[("What was in the box", "They found {treasure} in the box."), ("Who went with {n}", "{f} went with {n}.")])

plot("different", "kindness", [
    "The others often laughed at {n} because of {his} {coat}. [\"You look funny,\" they said.|\"Look at that!\" they called.] {n} [wished that {he} looked like everybody else|tried to hide it under an old coat].",
    "{Oneday}, {fintro} was lost {spot1}. Everybody looked for {fhim}, but [the fog was thick|it was getting dark]. {n} went out to help. [{He} called and called.|{He} looked in every corner.] \"[{f}, where are you|Can you hear me, {f}]?\" {he} called.",
    "{f} was [sitting all alone|shaking with cold]. Then {fhe} saw something in the fog that {fhe} knew at once: the {coat}! \"{n}! I am here!\" {fhe} cried. \"[I knew that it was you|Nobody else looks like you].\" {n} [took {fhim} home|brought {fhim} home safe and sound].",
    "Everybody cheered. [The ones who had laughed were ashamed.|\"We are sorry that we laughed,\" they said.] \"[What makes you different makes you special|It is good that you are you],\" said {elder}. {n} held {his} head high. [{He} never hid again.|]",
], ["it is good to be different", "what makes you different can make you special", "you should never laugh at others for how they look"],
    extra=lambda rng, cast: {"coat": rng.choice(["big ears", "freckles", "green coat", "odd hat"])} if cast.child else {},
    facts=[("Who was lost", "{f} was lost."), ("Who found {f}", "{n} found {f}.")])

plot("star_wish", "bravery", [
    "[Every night|Each evening], {n} looked up at one bright star. \"[I want to go there|I want to touch it],\" {he} said. The others laughed. \"[Nobody can reach a star|That is too far away],\" they said.",
    "{Oneday}, {n} [packed a small bag|put some bread in a bag] and set out {path}. On the way {he} met {fintro}. [\"Where are you going?\" asked {f}. \"To the star,\"|\"What are you looking for?\" asked {f}. \"I want to touch a star,\"] said {n}. \"[I will come with you|That sounds like fun],\" said {f}. They climbed up the highest hill. [It was steep and cold, but they held on to each other.|They slipped, and they helped each other up.]",
    "When they reached the top, the star was still far away. {n} [felt a tear on {his} cheek|hung {his} head]. \"Look down,\" said {f}. Below them lay [the whole valley, with a hundred little lights|a still lake, full of stars]. It was as if the sky had come down to the ground.",
    "They sat [close together|side by side] and looked for a long time. [\"I did not reach the star,\" said {n}, \"but I am happy.\"|\"It is the most beautiful thing I have ever seen,\" said {n}.] [They shared the bread and waited for the sunrise.|]",
], ["a big dream can lead to a beautiful place", "the way to a dream is full of gifts", "it is worth it to try"],
    facts=[("What did {n} want", "{n} wanted to touch a star."), ("Who went with {n}", "{f} went with {n}.")])

plot("quarrel", "friendship", [
    "{n} and {fintro} were best friends. {Oneday}, they built a [boat out of sticks|little house out of branches|tower out of stones]. \"[It must be tall|It must be red],\" said {n}. \"[No, it must be wide|No, it must be green],\" said {f}. They began to quarrel.",
    "\"[You never listen|You always want to choose]!\" shouted {n}. \"[I do not want to play with you any more|Then build it alone]!\" shouted {f}. {f} went one way, and {n} went the other. [{n} tried to go on alone, but it all fell down.|Nobody built anything that day.]",
    "The next morning was [long and quiet|very quiet]. {n} missed {f}. \"[It does not matter who is right|I would rather have a friend than be right],\" {he} thought. So {he} {went} {path}, and there was {f}, who was coming to see {him}! \"I am sorry,\" they both said at the same time.",
    "They laughed and started again. They made it [tall and wide|red and green], [and it was better than before|just as they both liked it]. [\"Two ideas are better than one,\" said {n}. \"And so are two friends,\" said {f}.|\"Your idea was good,\" said {n}. \"So was yours,\" said {f}.]",
], ["saying sorry can mend a friendship", "it is better to have a friend than to be right", "good friends listen to each other"],
    facts=[("Why did they quarrel", "They did not agree on what to build."), ("Who is the friend of {n}", "{f} is the friend of {n}.")])

# ---------------------------------------------------------------- short plots

plot("puddle", "fun", [
    "{Oneday}, [just after the rain|when the rain had stopped], {n} found a big puddle {spot1}. Splash! {He} jumped right into it. [Drops flew everywhere.|Mud flew everywhere.]",
    "{fintro} was [walking by|passing by] and got wet from head to toe. \"[Oh, I am sorry|I did not see you]!\" said {n}. {f} looked very [serious|cross]. Then {fhe} took a deep breath, ran, and jumped into the puddle, too. [Splash!|Splash, splash!]",
    "They [jumped and splashed|danced and splashed] until the puddle was almost empty. They were [muddy from top to toe|as brown as two potatoes], and they laughed all the way home.",
], ["rainy days can be the best days", "a little mud never hurt anybody", "fun is bigger when there are two"], short=True,
    facts=[("What did {n} find", "{n} found a big puddle."), ("Who got wet", "{f} got wet.")])

plot("clouds", "fun", [
    "{Oneday}, {n} lay {spot1} and looked up at the sky. \"That cloud looks like {cloud1},\" {he} said.",
    "{fintro} lay down beside {him}. \"[No|I do not think so],\" said {f}. \"It looks like {cloud2}.\" [They looked and looked.|They both looked again.] The wind blew, and the cloud changed. \"Now it looks like {cloud3}!\" they both said at once, and they laughed.",
    "They [stayed there|lay in the grass] until the sun went down and the clouds were [pink and gold|red and gold].",
], ["two friends can see different things and both be right", "it is nice to have time to dream", "the sky is full of stories"], short=True,
    extra=lambda rng, cast: dict(zip(("cloud1", "cloud2", "cloud3"), rng.sample(
        ["a sleeping sheep", "a big ship", "a castle", "a dragon with a hat", "a giant boot", "a slice of cake",
         "a teapot", "a whale", "a dancing bear", "a snail", "a feather", "a long train"], 3))),
    facts=[("What did {n} see in the sky", "{n} saw a cloud that looked like {cloud1}."), ("Who came along", "{f} came along.")])

plot("hiccups", "fun", [
    "{Oneday}, {n} had the hiccups. Hic! Hic! Hic! [They did not stop.|They would not go away.] \"[Drink some water|Hold your breath],\" said {elder}. {n} did it. Hic!",
    "\"[Stand on your head|Count to twenty],\" said {fintro}. {n} tried that, too. Hic! {He} tried [everything {he} could think of|to sing a song and hop on one leg]. Hic! Hic! [\"I will have them forever,\" {he} said.|Nothing helped.]",
    "Then {f} hid {spot1}. When {n} came by, {f} jumped out and shouted, \"Boo!\" {n} jumped [high into the air|a foot high]. Then it was quiet. [The hiccups were gone!|No more hiccups!] {n} laughed so much that {he} fell over. And then {f} said, \"Hic!\"",
], ["laughing is the best medicine", "some problems go away with a laugh", "a funny friend is a treasure"], short=True,
    facts=[("What was wrong with {n}", "{n} had the hiccups."), ("Who said boo", "{f} said boo.")])

plot("letter", "friendship", [
    "{n} had a friend who had moved far away. Her name was {away}. [{n} missed her very much.|{n} thought of her every day.] {Oneday}, {he} wrote a letter: \"Dear {away}, [I miss you|how are you]. [The flowers are in bloom|The apples are ripe]. Please come back soon.\"",
    "{He} gave the letter to {fintro}, who was going that way. Then {he} waited. One week went by, and no answer came. {n} [looked down the road every day|was a little sad]. [\"Maybe she forgot me,\" {he} thought.|\"Be patient,\" said {elder}.]",
    "Then there was a knock at the door. It was not a letter. It was {away}! \"[I read your letter and came at once|A letter is too slow],\" she said. They [hugged each other|talked until the moon was high].",
], ["true friends stay friends, even far away", "a few kind words can go a long way", "friends keep each other in their hearts"], short=True,
    extra=lambda rng, cast: {"away": pick_name(rng, "f", True, avoid=[cast.name, cast.slots.get("f", "")])},
    facts=[("Whom did {n} write to", "{n} wrote to {away}."), ("Who came to the door", "{away} came to the door.")])

plot("sunrise", "patience", [
    "{n} had never seen the sun come up. [{He} always slept too long.|{He} liked {his} warm bed too much.] \"Wake me tomorrow, please,\" {he} said to {elder}.",
    "It was still dark when they [walked|went] {path}. [It was cold, and {n} was sleepy.|The grass was wet with dew.] [\"Nothing is happening,\" {he} said.|\"When will it begin?\" {he} asked.] \"[Wait a little|Only a little longer],\" said {e}. They sat down {spot1} and shared {food}.",
    "Then the sky turned [grey, and pink, and gold|red and orange]. One bird began to sing, and then another. And there was the sun! {n} [could not say a word|held {his} breath]. \"It does this every day?\" {he} asked. \"Every day,\" said {e} and smiled.",
], ["some wonders happen every day", "it is worth it to wait for beautiful things", "the best things cost nothing"], short=True, uses_friend=False,
    facts=[("What did {n} want to see", "{n} wanted to see the sun come up."), ("Who went with {n}", "{E} went with {n}.")])

plot("cake", "honesty", [
    "{Elder} had baked {cake}. \"It is for this evening,\" said {e}. \"[Please do not touch it|Please wait].\" But it smelled so good! {Oneday_cake} {n} took one tiny bite. Then {he} took another, and another, and soon half of the cake was gone.",
    "\"Who ate the cake?\" asked {e}. {n} [looked at the floor|turned red]. [{He} could say that it was the wind.|{He} could say that it was a mouse.] But there was cream on {his} nose! \"It was me,\" {he} said. \"I am sorry.\"",
    "{E} [tried to be cross but had to laugh|wiped {his} nose]. \"[Thank you for being honest|I am glad that you told the truth],\" {ehe} said. \"Now help me bake a new one.\" So they baked [all afternoon|a bigger one together], and {n} did not take a single bite until the evening.",
], ["it is best to tell the truth", "the truth comes out in the end", "an honest word makes things right again"], short=True, uses_friend=False,
    extra=pick(cake=["a chocolate cake", "an apple cake", "a cake with cream and cherries", "a tall birthday cake"],
               oneday_cake=["when nobody was looking,", "when the kitchen was empty,", "a little later,"]),
    facts=[("What did {n} eat", "{n} ate half of the cake."), ("Who baked the cake", "{E} baked the cake.")])

plot("bridge", "kindness", [
    "{Oneday}, {n} came to a narrow bridge. {fintro} was coming from the other side. They met in the middle. \"[Go back|Let me pass],\" said {n}. \"I was here first.\" \"No, I was here first,\" said {f}.",
    "[They stood there for a long time.|The sun moved across the sky, and still they stood there.] Nobody could pass. {His} legs grew tired. [Then it began to rain.|Then {his} tummy began to rumble.] \"This is silly,\" said {n}. \"[You go first|I will go back]. I have time.\"",
    "{f} was surprised. \"[No, you go first|Thank you, but wait],\" {fhe} said. \"[Hold my hand, and we will turn around together|If we hold each other, we can both pass].\" They held on tight, took a small step, and another, and both of them got across. They laughed and waved goodbye.",
], ["it is wise to give way", "kindness opens every road", "a kind word works better than a push"], short=True, grounded=True,
    facts=[("Where did they meet", "They met in the middle of a bridge."), ("Who was on the bridge", "{n} and {f} were on the bridge.")])

plot("seek", "fun", [
    "{Oneday}, {n} and {fintro} played hide and seek. \"One, two, three,\" counted {f}. {n} hid {spot1}. It was [the best place in the world|a very good place].",
    "{f} looked {spot2}. {f} looked {spot3}. No {n}! {n} [tried not to laugh|kept as still as a stone]. [It was warm and quiet there.|The sun was warm.] After a while, {his} eyes closed, and {he} fell asleep.",
    "\"[{n}, where are you?|I give up!]\" called {f}. [It was getting late.|{Fhe} began to worry.] Then {fhe} heard a strange noise. It was {n}, snoring! {f} laughed and woke {him} up. \"[You won|You found the best place],\" {fhe} said, \"[but you snore too loudly|but your nose gave you away]!\"",
], ["even the best hiding place cannot hide a snore", "it is good to have a friend who keeps looking", "games are best with a good friend"], short=True,
    facts=[("What did they play", "They played hide and seek."), ("Where did {n} hide", "{n} hid {spot1}.")])

# ---------------------------------------------------------------- stories


class Story:
    """A finished story, and facts that a reader may ask about."""

    def __init__(self, text, cast, lesson, plot_used, facts):
        self.text, self.cast, self.lesson, self.plot, self.facts = text, cast, lesson, plot_used, facts

    def words(self):
        """The names and nouns that must stay the same throughout the story."""
        return [self.cast.slots[key] for key in ("n", "f", "o", "an", "fan")]


def suitable(plot_used, wish):
    """Whether a plot can fulfil a wish."""
    animal = ANIMALS[wish["animal"]] if wish.get("animal") else None
    if animal and ((plot_used.grounded and animal.flies) or (plot_used.swimless and animal.swims)):
        return False
    if wish.get("thing") and not (plot_used.uses_thing and fits(THINGS[wish["thing"]], plot_used.thing)):
        return False
    if wish.get("theme") and plot_used.theme != wish["theme"]:
        return False
    if wish.get("plot") and plot_used.name not in wish["plot"]:
        return False
    if wish.get("short") and not plot_used.short:
        return False
    if wish.get("friend_child") and (plot_used.friend or not plot_used.uses_friend):
        return False
    if wish.get("friend"):
        friend = ANIMALS[wish["friend"]]
        if not plot_used.uses_friend or (plot_used.friend and not getattr(friend, plot_used.friend)):
            return False
    if wish.get("place") and plot_used.name in ("skill", "gift", "soup", "tidy", "bedtime"):
        return False
    return True


def write_story(rng, wish=None):
    """One story of 60 to 180 words that fulfils the wish (see `suitable` for its keys)."""
    wish = wish or {}
    options = [p for p in PLOTS if suitable(p, wish)]
    if not options:
        return None
    used, attempts = rng.choice(options), 0
    while True:
        # A long plot gets more attempts, with fewer sentences around it.
        attempts += 1
        if attempts % 60 == 0:
            used = rng.choice(options)
        cast = Cast(rng, used, wish)
        slots = cast.slots
        slots["at"] = slots["where"] if cast.place_asked or rng.random() < 0.6 else slots["home"]
        if rng.random() < 0.17 and not cast.place_asked and used.name not in ("noise", "snow", "bedtime"):
            opening = rng.choice(MORNING_OPENINGS)
            slots["oneday"] = rng.choice(["that day", "that same day", "a little later"])
        else:
            opening = rng.choice(OPENINGS + ([] if cast.child else ANIMAL_OPENINGS))
            slots["oneday"] = rng.choice(["one day", "one day", "one day", "one morning", "one sunny day",
                                          "one afternoon", "one windy day", "one summer day"])
            if used.name == "storm":
                slots["oneday"] = rng.choice(["one day", "one evening", "one afternoon"])
            if used.name == "stuck_high" and "windy" in slots["oneday"]:
                slots["oneday"] = "one day"
        lesson = fill(rng.choice(used.lessons), slots, rng)
        lesson = lesson[0].lower() + lesson[1:]
        slots["lesson"] = lesson
        aside, closing = (rng.choice(ASIDES), rng.choice(CLOSINGS)) if attempts == 1 else ("", "")
        parts = [opening + " " + aside + " " + used.parts[0], *used.parts[1:]]
        parts[-1] += " " + rng.choice(ENDINGS) + closing
        # Three paragraphs.
        if rng.random() < 0.3:
            parts = [parts[0] + " " + parts[1], *parts[2:]]
        text = "\n\n".join(fill(part, slots, rng) for part in parts)
        if MIN_WORDS <= len(text.split()) <= MAX_WORDS:
            facts = [(fill(q, slots, rng), fill(a, slots, rng)) for q, a in used.facts]
            return Story(text, cast, lesson, used, facts)


# ---------------------------------------------------------------- chats

STORY_VERBS = ["Tell me a story", "Tell me a story", "Tell me a story", "Tell a story", "Write a story", "Write me a story",
               "Can you tell me a story", "Could you tell me a story", "Please tell me a story",
               "Tell me a short story", "Write a short story", "I want a story", "I would like a story",
               "Make up a story", "Give me a story", "Tell us a story", "A story", "I want to hear a story",
               "Please write a story", "Can you write a story", "Tell me a little story", "Story"]
THEME_WORDS = {
    "friendship": ["about friendship", "about friends", "about two friends", "about a new friend"],
    "honesty": ["about honesty", "about telling the truth", "about being honest"],
    "patience": ["about patience", "about learning something", "about not giving up"],
    "sharing": ["about sharing", "about learning to share"],
    "kindness": ["about kindness", "about being kind", "about helping others"],
    "bravery": ["about being brave", "about courage", "about bravery", "about somebody who is afraid"],
    "humility": ["about asking for help", "about working together"],
    "fun": ["that is funny", "that makes me laugh", "about something funny"],
    "bedtime": ["for bedtime", "before I sleep", "to help me sleep", "for a sleepy child"],
    "order": ["about tidying up", "about a messy room"],
}
PLACE_WORDS = {
    "forest": "in the forest", "meadow": "in a meadow", "sea": "by the sea", "farm": "on a farm",
    "mountain": "in the mountains", "garden": "in a garden", "river": "by the river", "town": "in a town",
    "hill": "on a hill", "island": "on an island", "jungle": "in the jungle", "valley": "in a valley",
}
SYSTEM_LINES = ["You are a helpful assistant.", "You are a storyteller.", "You tell stories to children.",
                "Be kind and answer briefly.", "You are cria's demo model.", "Answer in simple English.",
                "You are a friendly assistant that tells short stories."]


def make_wish(rng):
    """A random wish, and the words of a request for it."""
    roll = rng.random()
    wish = {}
    if roll < 0.05:
        return wish, ""
    if roll < 0.13:
        theme = rng.choice(list(THEME_WORDS))
        return {"theme": theme}, " " + rng.choice(THEME_WORDS[theme])
    # Two children.
    if roll < 0.16:
        wish = {"child": True, "gender": rng.choice("fm"), "friend_child": True, "friend_gender": rng.choice("fm")}
        wish["name"] = pick_name(rng, wish["gender"], True)
        wish["friend_name"] = pick_name(rng, wish["friend_gender"], True, avoid=[wish["name"]])
        return wish, rng.choice([" about %s and %s", " about %s and %s", " about two children called %s and %s",
                                 " about two friends called %s and %s", " about %s and a friend called %s"]) % (
                                     wish["name"], wish["friend_name"])
    # Only a name.
    if roll < 0.19:
        wish = {"child": False, "gender": rng.choice("fm"), "name": rng.choice(PET_NAMES)}
        return wish, " about " + wish["name"]
    # An event.
    if roll < 0.27:
        return wish_for_event(rng)
    child = rng.random() < 0.25
    wish["child"] = child
    wish["gender"] = rng.choice("fm")
    trait = ""
    if rng.random() < 0.35:
        wish["trait"] = rng.choice(TRAITS)
        trait = wish["trait"] + " "
    size = rng.choice(["", "", "", "little ", "small ", "young "])
    if child:
        noun = "girl" if wish["gender"] == "f" else "boy"
    else:
        wish["animal"] = noun = rng.choice(RARE_ANIMALS if rng.random() < 0.15 else COMMON_ANIMALS)
        wish["gender"] = GENDERS.get(noun, wish["gender"])
    who = "a " + size + trait + noun
    if rng.random() < 0.55:
        wish["name"] = invented_name(rng) if rng.random() < 0.4 else pick_name(rng, wish["gender"], child)
        name = wish["name"]
        who = rng.choice([who + " called " + name, who + " called " + name, who + " named " + name,
                          name + " the " + trait + noun, name + ", " + who,
                          who + " whose name is " + name])
        if child and rng.random() < 0.3 and name not in PET_NAMES:
            who = name if not trait else who
    ask = " about " + who
    extra = rng.random()
    if extra < 0.3:
        wish["thing"] = rng.choice(RARE_THINGS if rng.random() < 0.2 else COMMON_THINGS)
        own = "his " if wish["gender"] == "m" else "her "
        ask += rng.choice([" and a ", " and a ", " with a ", " who has a ", " and the ", " and " + own]) + wish["thing"]
        if ask.startswith(" about " + wish.get("name", "\0") + ","):
            ask = " about " + who.replace(", ", " the ", 1).replace("the a ", "the ") + " and a " + wish["thing"]
    elif extra < 0.42:
        others = [a for a in ANIMALS if a != noun]
        wish["friend"] = rng.choice(others)
        if rng.random() < 0.35:
            wish["friend_gender"] = rng.choice("fm")
            wish["friend_name"] = pick_name(rng, wish["friend_gender"], False, avoid=[wish.get("name", "")])
            ask += rng.choice([" and a " + wish["friend"] + " called " + wish["friend_name"],
                               " and " + wish["friend_name"] + " the " + wish["friend"]])
        else:
            ask += " and " + rng.choice(["a ", "a ", "his friend the " if wish["gender"] == "m" else "her friend the "]) + wish["friend"]
    elif extra < 0.5:
        wish["place"] = rng.choice(list(PLACES))
        ask += " " + PLACE_WORDS[wish["place"]]
    elif extra < 0.55:
        wish["theme"] = rng.choice(["friendship", "honesty", "patience", "sharing", "kindness", "bravery", "bedtime"])
        ask += rng.choice([" that is ", ", "]) + rng.choice(THEME_WORDS[wish["theme"]]) if wish["theme"] != "bedtime" else " for bedtime"
    return wish, ask


def wish_for_event(rng):
    """A wish for an event: somebody loses a thing, is afraid, learns something."""
    child, gender = rng.random() < 0.3, rng.choice("fm")
    wish = {"child": child, "gender": gender}
    if child:
        noun = "girl" if gender == "f" else "boy"
    else:
        wish["animal"] = noun = rng.choice(COMMON_ANIMALS)
        wish["gender"] = gender = GENDERS.get(noun, gender)
    own = "his" if gender == "m" else "her"
    who = "a " + rng.choice(["", "", "little "]) + noun
    if rng.random() < 0.4:
        wish["name"] = pick_name(rng, gender, child)
        who += " called " + wish["name"]
    event = rng.choice(["lost", "found", "broken", "fear", "skill", "shared", "lost_way", "alone"])
    if event in ("lost", "found", "broken", "shared"):
        wish["thing"] = rng.choice(COMMON_THINGS)
        wish["plot"] = {"lost": ["lost", "floats_away"], "found": ["found_thing", "magic_thing"],
                        "broken": ["mended"], "shared": ["share_thing"]}[event]
        thing = wish["thing"]
        what = {"lost": rng.choice(["loses %s %s" % (own, thing), "lost %s %s" % (own, thing)]),
                "found": rng.choice(["finds a " + thing, "found a " + thing]),
                "broken": "has a broken " + thing, "shared": "learns to share %s %s" % (own, thing)}[event]
    elif event == "fear":
        wish["plot"], wish["fear"] = ["fear"], rng.choice(list(FEARS))
        what = rng.choice(["is afraid of ", "was afraid of "]) + wish["fear"]
    elif event == "skill":
        wish["plot"], wish["skill"] = ["skill"], rng.choice(SKILLS)[0]
        what = rng.choice(["wants to learn ", "learns "]) + wish["skill"]
    elif event == "lost_way":
        wish["plot"], what = ["lost_way"], rng.choice(["gets lost", "is lost", "cannot find the way home"])
    else:
        wish["plot"], what = ["new_friend"], rng.choice(["has no friends", "is lonely", "finds a friend", "makes a new friend"])
    return wish, " about %s who %s" % (who, what)


def ask_for_story(rng):
    """Returns (request, story)."""
    story = None
    while not story:
        wish, ask = make_wish(rng)
        verb = rng.choice(STORY_VERBS)
        if "short" in verb or "little" in verb:
            story = write_story(rng, {**wish, "short": True})
        story = story or write_story(rng, wish)
    if not ask and verb in ("Story", "A story"):
        verb = "Tell me a story"
    if "for bedtime" in ask or "sleep" in ask:
        verb = verb.replace("a story", rng.choice(["a story", "a bedtime story"]))
    words = _ARTICLE.sub(r"\1n ", verb + ask)
    if "Can you" in verb or "Could you" in verb:
        words += rng.choice(["?", "?", ", please?"])
    else:
        words += rng.choice([".", ".", ".", ".", "", "!", ", please."])
    return casual(rng, words), story


def casual(rng, words):
    """Sometimes drops capitals and full stops, as users do."""
    roll = rng.random()
    if roll < 0.08:
        return words.lower()
    if roll < 0.14:
        return words[0].lower() + words[1:]
    if roll < 0.2:
        return words.rstrip(".")
    return words


def small_talk(rng):
    """Returns a (question, answer) that is not about a story."""
    questions, answers = rng.choice(SMALL_TALK)
    question, answer = rng.choice(questions), rng.choice(answers)
    asks = question.split()[0] in ("What", "Who", "Where", "Why", "How", "Can", "Do", "Are", "Which", "What's")
    question += rng.choice(["?", "?", "?", ""]) if asks else rng.choice([".", "!", ""])
    return casual(rng, question), answer


def remembering(rng):
    """A short chat in which the model must remember what the user said."""
    kind = rng.choice(["name", "name", "pet", "pet", "repeat", "repeat", "repeat"])
    gender, child = rng.choice("fm"), rng.random() < 0.5
    name = invented_name(rng) if rng.random() < 0.5 else pick_name(rng, gender, child)
    if kind == "name":
        words = rng.choice(["Hello, I am %s.", "Hi, my name is %s.", "My name is %s.", "I am %s.", "Hello! My name is %s."]) % name
        answer = rng.choice(["Hello, %s! Would you like to hear a story?", "Hello, %s! It is nice to meet you.",
                             "Nice to meet you, %s! I am cria's small demo model."]) % name
        question, reply = rng.choice(["What is my name", "Do you remember my name", "Who am I"]), "Your name is %s." % name
    elif kind == "pet":
        noun = rng.choice(RARE_ANIMALS if rng.random() < 0.2 else COMMON_ANIMALS)
        words = rng.choice(["I have a %s called %s.", "I have a %s named %s.", "My %s is called %s."]) % (noun, name)
        answer = rng.choice(["{n} is a lovely name for a {an}! Shall I tell you a story about {n}?",
                             "A {an} called {n}! That sounds like a good story.", "I would like to meet {n} the {an}!"])
        answer = fill(answer, {"n": name, "an": noun}, rng)
        question, reply = "What is the name of my " + noun, "Your %s is called %s." % (noun, name)
    else:
        count = rng.choice([3, 4, 5, 6])
        listed = rng.sample(COMMON_THINGS + RARE_THINGS + COMMON_ANIMALS + GIRL_NAMES + BOY_NAMES + TRAITS + COLOURS, count)
        if rng.random() < 0.5:
            listed[rng.randrange(count)] = invented_name(rng)
        line = ", ".join(listed)
        words = rng.choice(["Repeat after me: %s.", "Repeat: %s.", "Say: %s.", "Please repeat these words: %s."]) % line
        answer = line + "."
        question, reply = rng.choice([("Say it again", answer), ("What was the first word", listed[0] + "."),
                                      ("What was the last word", listed[-1] + ".")])
    turns = [("user", _ARTICLE.sub(r"\1n ", words)), ("assistant", answer)]
    if rng.random() < 0.6:
        turns += [("user", question + ("." if question.startswith("Say") else "?")), ("assistant", reply)]
    return turns


def follow_up(rng, story):
    """Returns a (question, answer) about the story before it."""
    slots = story.cast.slots
    name, noun = slots["n"], slots["an"]
    general = [
        (rng.choice(["What was the name of the %s" % noun, "What was the %s called" % noun, "Who was the story about", "Who is the story about"]),
         "The story is about a %s called %s." % (noun, name)),
        (rng.choice(["What did %s learn" % name, "What is the lesson", "What does the story teach us", "What is the moral"]),
         "%s learned that %s." % (name, story.lesson)),
        (rng.choice(["What was %s", "Who was %s"]) % name,
         fill("%s was a %s." % (name, noun), slots, rng)),
    ]
    question, answer = rng.choice(general + story.facts * 2)
    return question + "?", _ARTICLE.sub(r"\1n ", answer)


def write_chat(rng):
    """A list of (role, text); the first may be a system message."""
    return write_chat_with_words(rng)[0]


def write_chat_with_words(rng):
    """A chat, and the words of earlier messages that later ones repeat."""
    turns = []
    if rng.random() < 0.06:
        turns.append(("system", rng.choice(SYSTEM_LINES)))
    roll = rng.random()
    if roll < 0.14:
        kept = remembering(rng)
        return turns + kept, re.findall(r"\w+", kept[1][1])
    roll = rng.random()
    if roll < 0.10:
        for _ in range(rng.choice([1, 1, 2])):
            question, answer = small_talk(rng)
            turns += [("user", question), ("assistant", answer)]
        return turns, []
    if roll < 0.16:
        question, answer = small_talk(rng)
        turns += [("user", question), ("assistant", answer)]
    words, story = ask_for_story(rng)
    turns += [("user", words), ("assistant", story.text)]
    roll = rng.random()
    if roll < 0.25:
        for _ in range(rng.choice([1, 1, 2])):
            question, answer = follow_up(rng, story)
            turns += [("user", question), ("assistant", answer)]
    elif roll < 0.29:
        question, answer = rng.choice([(["Thank you", "Thanks", "That was nice", "I liked that"],
                                        ["You are welcome! Would you like another story?",
                                         "I am glad you liked it."])])
        turns += [("user", rng.choice(question) + rng.choice(["!", "."])), ("assistant", rng.choice(answer))]
    elif roll < 0.33:
        turns += [("user", rng.choice(["Tell me another one.", "Another one, please.", "Another story!", "One more story, please."])),
                  ("assistant", write_story(rng).text)]
    return turns, story.words()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--chat", action="store_true", help="write chats instead of plain stories")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    for _ in range(args.count):
        if args.chat:
            print("\n".join("%s: %s" % turn for turn in write_chat(rng)))
        else:
            print(write_story(rng).text)
        print("-" * 40)


if __name__ == "__main__":
    main()
