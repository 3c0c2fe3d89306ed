"""The words of the story generator: names, animals, objects, places, small talk.

All of it was written for this project. `stories.py` combines the words.
"""

import re
from collections import namedtuple

# ---------------------------------------------------------------- names

GIRL_NAMES = """Anna Lily Mia Rosa Nora Ella Lucy Ivy Clara Daisy Ruby Maya Zoe Emma Hana Tara
Nina Olive Poppy Willa Greta Lena Sofia Amina Leila Suki Wren Pearl Hazel Juno Cora Flora Tilly
Molly Penny Luna Bella Fern Mabel Alma Ada Edie Freya Inga Kira Mina Nell Priya Rosie Sara Tess
Una Vera Yuki Zara Betty Dora Elsie Goldie Honey Iris Jenny Kitty Lottie Minnie Nala Opal Pippa
Tulip Violet Winnie Heidi Marta Paloma Robin""".split()

BOY_NAMES = """Tom Ben Max Leo Sam Finn Oscar Hugo Noah Jack Milo Otis Theo Felix Toby Jasper
Arlo Bruno Caleb Dario Eli Fritz Gus Henry Ivan Jonas Kofi Liam Mateo Nico Omar Paco Quinn Remy
Silas Tariq Umar Victor Walter Yusuf Zeke Barnaby Charlie Dusty Ernie Freddie George Harold Jory
Kai Lenny Monty Ned Ollie Percy Rufus Sunny Teddy Wally Ziggy Alfie Basil Chester Dexter Emil
Frank Archie Lars Moss Rowan Pablo Tim Bertie""".split()

# Names that suit anybody, mostly for animals.
PET_NAMES = """Pip Momo Biscuit Pepper Button Nibbles Tumble Clover Acorn Pickle Waffle Maple
Bramble Cookie Dot Fidget Ginger Hops Jelly Koko Lolo Mango Noodle Oats Peanut Pebble Pudding Rusty
Scout Snowy Sparky Speck Spot Squeak Sprout Thistle Tiny Toffee Truffle Twig Whisper Ziggy Zuzu
Bobo Bubbles Buttons Cocoa Dash Echo Fluff Fuzzy Happy Inky Juniper Kiwi Lulu Misty Nutmeg Patches
Puff Quill Rolo Skip Sky Star Storm Tango Tick Velvet Wink Yoyo""".split()

# Syllables of invented names, which teach the model to copy names that it has never seen.
NAME_HEADS = """Ba Be Bo Bri Ca Chi Cle Co Da De Di Do Dra Ea El Fa Fi Flo Ga Ge Gri Ha He Hu I Ja
Je Jo Ka Ke Ki Kri La Le Li Lo Ma Me Mi Mo Na Ne Ni No O Or Pa Pe Pi Po Pru Qua Ra Re Ri Ro Sa Se
Shi Si So Sta Su Ta Te Ti To Tri Tu U Va Ve Vi Wa We Wi Ya Yo Za Ze Zi Zo""".split()
NAME_MIDDLES = ["", "", "", "ba", "bi", "da", "di", "ga", "la", "li", "lo", "ma", "mi", "na", "ni",
                "ra", "ri", "sa", "ta", "ti", "va", "vi", "ze", "do", "ko"]
NAME_TAILS = """ba bel ber bo by cho da del den der die do dor fi fo ga go ko kin la len let lin lo
lor ly ma mel mi min mo mus na nel ni nie nny no nor pa per pi ppy ra ran rin ro rry sa sha son sy ta
tan ter tin to tto va vi vin x ya yo za zi zzy""".split()

# Parts that invented names must not contain.
UNWANTED = re.compile("nig|nag|tit|fag|coc|kok|kak|dic|dik|pis|cum|sex|naz|pus|rap|shi|fat|kil|gay|"
                      "jap|jew|ass|anu|ana|peni|vag|hoe|bas|dev|dum|fuk|puk|sat|slu|tur|lul")

# ---------------------------------------------------------------- animals

Animal = namedtuple("Animal", "noun paws went flies swims strong coat home")


def _animals():
    """Rows of: noun | hands | moved | flags | coat | home."""
    rows = """
fox|paws|trotted||bushy red tail|in a den under an old oak tree
bear|paws|padded|strong|thick brown fur|in a warm cave
rabbit|paws|hopped||long soft ears|in a burrow under the hill
mouse|paws|scurried||tiny pink nose|in a hole behind the barn
owl|wings|flew|flies|soft grey feathers|in a hollow tree
hedgehog|paws|trotted||prickly back|under a pile of dry leaves
squirrel|paws|scampered||fluffy tail|high up in a pine tree
frog|feet|hopped|swims|smooth green skin|beside a quiet pond
turtle|feet|walked slowly|swims|round green shell|near the river bank
duck|wings|waddled|swims|shiny feathers|among the tall reeds
cat|paws|padded||soft striped fur|in a little house with a blue door
kitten|paws|padded||soft white fur|in a basket by the stove
dog|paws|ran||shaggy brown coat|in a wooden house on the farm
puppy|paws|ran||floppy ears|in a little house with a red roof
lion|paws|walked|strong|golden mane|in the tall dry grass
elephant|feet|walked|strong|long grey trunk|beside a wide river
monkey|hands|swung||long curly tail|in the top of a fig tree
giraffe|hooves|walked|strong|very long neck|where the tall trees grow
pig|feet|trotted||curly pink tail|in a tidy sty on the farm
lamb|hooves|skipped||white wool|in a green field
goat|hooves|skipped||little white beard|on a rocky hill
pony|hooves|trotted|strong|long silky mane|in a stable behind the mill
deer|hooves|walked||spotted coat|deep in the woods
badger|paws|walked||striped face|in a sett under the hill
mole|paws|shuffled||velvet fur|in a tunnel under the garden
otter|paws|ran|swims|sleek brown fur|by a rushing stream
beaver|paws|waddled|swims strong|flat tail|in a lodge made of sticks
penguin|flippers|waddled|swims|black and white coat|on a snowy shore
sparrow|wings|flew|flies|small brown wings|under the roof of the school
robin|wings|flew|flies|bright red breast|in a nest in the hedge
crow|wings|flew|flies|shiny black feathers|at the top of an old tower
hen|wings|ran||speckled feathers|in a henhouse on the farm
goose|wings|waddled|swims|long white neck|beside the mill pond
snail|feelers|crept||round brown shell|under a flower pot
dragon|claws|flew|flies strong|shining green scales|in a cave on the mountain
wolf|paws|ran||thick grey fur|in the northern woods
tiger|paws|padded|strong|orange stripes|at the edge of the jungle
panda|paws|padded|strong|black and white fur|in a bamboo grove
koala|paws|climbed||round fuzzy ears|in a tall gum tree
kangaroo|paws|hopped|strong|long strong legs|on a wide dusty plain
donkey|hooves|trotted|strong|long grey ears|in a shed behind the bakery
cow|hooves|walked|strong|brown patches|in a meadow full of clover
llama|feet|trotted|strong|soft woolly coat|high in the mountains
camel|feet|walked|strong|two tall humps|at the edge of the desert
robot|hands|rolled|strong|shiny metal arms|in a workshop full of clocks
dinosaur|claws|stomped|strong|long green tail|in a warm valley
unicorn|hooves|trotted|strong|silver horn|in a forest clearing
raccoon|paws|ran||ringed tail|in a hollow log
chipmunk|paws|scampered||striped back|under a stone wall
bat|wings|flew|flies|soft dark wings|in the attic of an old house
seal|flippers|slid|swims|smooth grey coat|on a rocky shore
bee|wings|flew|flies|fuzzy stripes|in a hive beside the orchard
ladybug|wings|flew|flies|bright red wings|on a rose bush
butterfly|wings|flew|flies|yellow wings|in a field of wild flowers
parrot|wings|flew|flies|bright green feathers|in a tall palm tree
swan|wings|waddled|swims|snow white feathers|on a quiet lake
horse|hooves|trotted|strong|long brown mane|in a stable behind the mill
sheep|hooves|walked||thick curly wool|in a green field
zebra|hooves|trotted||black and white stripes|on a wide sunny plain
hippo|feet|stomped|swims strong|big round belly|by a muddy river
rhino|feet|stomped|strong|grey horn|on a wide dusty plain
moose|hooves|walked|strong|wide antlers|in the northern woods
alpaca|feet|trotted||soft fluffy wool|high in the mountains
lizard|feet|ran||long thin tail|on a sunny wall
spider|legs|crept||eight long legs|in the corner of an old barn
ant|legs|marched||six quick legs|in an ant hill by the road
crab|claws|scuttled|swims|hard red shell|among the rocks by the sea
toad|feet|hopped|swims|bumpy brown skin|under a damp stone
chick|wings|ran||soft yellow feathers|in a henhouse on the farm
wombat|paws|shuffled|strong|round fluffy belly|in a burrow under the hill
pigeon|wings|flew|flies|soft grey wings|at the top of the clock tower
eagle|wings|flew|flies strong|wide brown wings|on a high cliff
fairy|hands|flew|flies|thin silver wings|inside a blue flower
elf|hands|skipped||pointed ears|under an old oak tree
giant|hands|stomped|strong|enormous feet|on top of a mountain
wizard|hands|walked||long grey beard|in a crooked tower
knight|hands|marched|strong|shining armor|in a stone castle
pirate|hands|marched|swims|big black hat|on an old wooden ship
princess|hands|walked||long golden hair|in a castle on a hill
prince|hands|walked||curly dark hair|in a castle on a hill
king|hands|walked||silver beard|in a castle by a lake
queen|hands|walked||long silver hair|in a castle by a lake
ghost|hands|floated||long white sheet|in an empty old house
monster|claws|stomped|strong|shaggy blue fur|under a big bed
whale|fins|swam|swims strong|great grey tail|in the deep blue sea
dolphin|fins|swam|swims|smooth grey back|in a warm blue bay
fish|fins|swam|swims|golden scales|in a clear cool pond
octopus|arms|swam|swims|eight long arms|under the waves
"""
    animals = {}
    for row in rows.strip().splitlines():
        noun, paws, went, flags, coat, home = row.split("|")
        animals[noun] = Animal(noun, paws, went, "flies" in flags, "swims" in flags,
                               "strong" in flags, coat, home)
    return animals


ANIMALS = _animals()

# Other heroes a reader may ask for. They share one plain description each.
_OTHER_ANIMALS = """lynx ferret weasel gecko walrus vulture hamster gorilla leopard bison stork heron
skunk porcupine platypus sloth lemur cricket beetle worm snake caterpillar puma hyena
ostrich peacock turkey bull calf foal gopher hare mongoose newt raven seagull guinea@pig polar@bear
crocodile alligator cheetah jaguar antelope buffalo ox ram rat rooster salamander dragonfly moth
poodle wasp falcon hawk reindeer armadillo chameleon flamingo meerkat anteater""".split()
_OTHER_PEOPLE = """goblin troll mermaid scarecrow snowman teapot farmer teacher sailor painter tailor
astronaut doctor clown cook nurse superhero alien baby vampire captain carpenter dancer
singer scientist shepherd fisherman mermaid sorcerer hero ninja viking toymaker woodcutter tree
cloud flower raindrop train truck toy@soldier gingerbread@man leprechaun genie phoenix griffin""".split()
for _noun in _OTHER_ANIMALS + _OTHER_PEOPLE:
    _noun = _noun.replace("@", " ")
    ANIMALS[_noun] = Animal(_noun, "feet" if _noun in _OTHER_ANIMALS else "hands", "ran", False, False,
                            False, "bright eyes", "in a cozy little home")
RARE_ANIMALS = [n.replace("@", " ") for n in _OTHER_ANIMALS + _OTHER_PEOPLE]
COMMON_ANIMALS = [n for n in ANIMALS if n not in RARE_ANIMALS]
SEA_ANIMALS = {"whale", "dolphin", "fish", "octopus"}

GENDERS = {"mermaid": "f", "princess": "f", "queen": "f", "hen": "f", "cow": "f", "prince": "m", "king": "m",
           "wizard": "m", "fairy": "f"}

CHILD_HOMES = ["in a small house by the sea", "in a tall house in the middle of town",
               "in a cottage at the edge of the forest", "on a farm with many hens",
               "in a little village", "in a yellow house on a hill", "above a bakery",
               "in a house with a green gate", "near the river", "next to an old mill"]

TRAITS = ["kind", "brave", "shy", "curious", "clever", "cheerful", "gentle", "quiet", "playful",
          "happy", "careful", "stubborn", "friendly", "polite", "lively", "patient", "silly",
          "sleepy", "hungry", "lonely", "proud", "grumpy", "funny", "busy", "dreamy", "honest"]

# ---------------------------------------------------------------- objects

Thing = namedtuple("Thing", "noun verb ger rest breaks mends high wind floats")

COLOURS = ["red", "blue", "green", "yellow", "purple", "orange", "white", "golden", "silver",
           "pink", "striped", "bright red", "sky blue", "shiny", "old", "wooden", "tiny", "big",
           "beautiful", "spotted"]


def _things():
    """Rows of: noun | verb | -ing form | rest | what breaks | how it is mended | flags."""
    rows = """
kite|fly|flying|it high above the hill|its string snapped|tied a strong new knot in the string|high wind
ball|bounce|bouncing|it against the garden wall|it went flat|patched the little hole and filled it with air|high float
boat|sail|sailing|it on the pond|its mast broke in two|carved a new mast from a straight stick|float
drum|play|playing|it in the yard|its side split open|glued the side and tied it with string|float
hat|wear|wearing|it on sunny days|a hole opened in the brim|sewed a bright patch over the hole|high wind float
scarf|wear|wearing|it on cold days|it came apart at one end|knitted the end back together|high wind
lantern|carry|carrying|it at night|its glass cracked|put in a new piece of glass|
book|read|reading|it under a shady tree|some of its pages fell out|glued the pages back in|wind
basket|carry|carrying|it to the market|its handle came off|made a new handle from a bendy twig|float
bell|ring|ringing|it in the morning|the little clapper fell out|hung the clapper on a new string|
teddy bear|hug|hugging|it at bedtime|one of its arms came loose|sewed the arm back on|
wagon|pull|pulling|it along the path|one of its wheels came off|hammered the wheel back on|
sled|ride|riding|it down the hill|one side cracked|nailed a new board to the side|
umbrella|spin|spinning|it in the rain|one of its ribs bent|bent the rib straight again|high wind float
flute|play|playing|it at sunset|it would not make a sound|cleaned out a leaf that was stuck inside|float
music box|wind up|winding up|it before bed|its song stopped|put a drop of oil on the tiny wheels|
train|push|pushing|it across the floor|one of its wheels came off|put the wheel back with a new pin|
bicycle|ride|riding|it down the lane|the chain came off|put the chain back on|
crown|wear|wearing|it at dinner|it tore down the middle|stuck it together with paste|high wind
blanket|hug|hugging|it at bedtime|a hole opened in the middle|sewed a patch shaped like a star|wind high
bucket|fill|filling|it with water|its handle broke|made a new handle from rope|float
paintbrush|paint with|painting with|it every day|its handle broke|tied the handle with thread|float
doll|play with|playing with|it on the steps|one of its button eyes fell off|sewed on a new button|
whistle|blow|blowing|it in the garden|it would not make a sound|shook out a grain of sand|float
balloon|hold|holding|it on a long string|||high wind
shell|listen to|listening to|it before bed|||
marble|roll|rolling|it down the steps|||
feather|look at|looking at|it in the light|||wind float
key|wear|wearing|it on a string|||
coin|polish|polishing|it every night|||
button|polish|polishing|it until it shone|||
spoon|tap|tapping|it on the table|||float
mirror|look into|looking into|it in the morning|||
ribbon|wear|wearing|it on special days|||high wind float
map|look at|looking at|it by candlelight|it tore down the middle|stuck it together with paste|wind float
star|look at|looking at|it at night|one of its points came off|glued the point back on|
clock|wind up|winding up|it every morning|it stopped ticking|put a drop of oil on the tiny wheels|
guitar|play|playing|it by the fire|one of its strings snapped|put on a new string|
violin|play|playing|it by the window|one of its strings snapped|put on a new string|
telescope|look through|looking through|it at night|it came apart in the middle|screwed the two parts together|
coat|wear|wearing|it on cold days|one of its sleeves tore|sewed the sleeve back on|
mitten|wear|wearing|it in the snow|its thumb came off|knitted a new thumb|
boot|wear|wearing|it in the rain|its heel came off|nailed the heel back on|
cup|drink from|drinking from|it every morning|its handle came off|glued the handle back on|
puppet|play with|playing with|it for friends|one of its strings snapped|tied on a new string|
ring|wear|wearing|it every day|||
stone|hold|holding|it in the sun|||
flag|wave|waving|it on the hill|its pole broke|found a straight new pole|high wind float
rope|swing on|swinging on|it after lunch|it snapped in the middle|tied the two ends in a strong knot|
lamp|read by|reading by|it at night|it would not light|put in a new wick|
ship|sail|sailing|it on the lake|its mast broke in two|carved a new mast from a straight stick|float
pillow|sleep on|sleeping on|it at night|a hole opened in one corner|sewed up the corner with strong thread|
box|fill|filling|it with small stones|its lid came off|nailed the lid back on|
candle|look at|looking at|it in the evening|it broke in two|melted the two halves together|
pencil|draw with|drawing with|it every day|its tip broke|made the tip sharp again|
necklace|wear|wearing|it on special days|its string snapped|threaded every bead on a new string|
ladder|climb|climbing|it to see far away|one of its steps broke|put in a new step|
rocket|play with|playing with|it in the yard|one of its fins came off|glued the fin back on|
car|push|pushing|it across the floor|one of its wheels came off|put the wheel back with a new pin|
spade|dig with|digging with|it in the sand|its handle broke|made a new handle from a straight branch|
letter|read|reading|it again and again|||wind
watch|wind up|winding up|it every morning|it stopped ticking|put a drop of oil on the tiny wheels|
trumpet|play|playing|it in the morning|it would not make a sound|cleaned out a leaf that was stuck inside|
harp|play|playing|it by the window|one of its strings snapped|put on a new string|
broom|sweep with|sweeping with|it in the morning|its handle broke|made a new handle from a straight branch|
bottle|fill|filling|it with water|||float
chair|sit on|sitting on|it by the window|one of its legs came off|glued the leg back on|
"""
    things = {}
    for row in rows.strip().splitlines():
        noun, verb, ger, rest, breaks, mends, flags = row.split("|")
        things[noun] = Thing(noun, verb, ger, rest, breaks, mends, "high" in flags,
                             "wind" in flags, "float" in flags)
    return things


THINGS = _things()

# Other things a reader may ask for.
_OTHER_THINGS = """cake sandwich pen camera radio pot pan plate fork bag sock shoe glove belt brick
lollipop banana pumpkin egg cookie flower rose leaf potion wand sword shield trophy medal painting
yo-yo skateboard scooter tractor truck helicopter plane robot computer phone piano tent pebble apple
snowball jewel diamond pearl locket tree@house snow@globe jump@rope treasure@chest magic@wand
fishing@rod birthday@cake hammer bow jar mug bench clover pie hoop tambourine backpack lunch@box""".split()
for _noun in _OTHER_THINGS:
    _noun = _noun.replace("@", " ")
    THINGS[_noun] = Thing(_noun, "look at", "looking at", "it every day", "", "", False, False, False)
RARE_THINGS = [n.replace("@", " ") for n in _OTHER_THINGS]
COMMON_THINGS = [n for n in THINGS if n not in RARE_THINGS]

MAKEABLE = set("""kite hat scarf basket wagon sled crown blanket doll puppet flag boat drum lantern
mitten coat ribbon train cup box pillow necklace broom chair rocket candle star book map flute""".split())
MAKEABLE.add("teddy bear")
NOT_SOLD = {"coin", "star", "stone", "feather", "letter"}

FOODS = ["a loaf of warm bread", "a basket of berries", "a big red apple", "a honey cake",
         "a blueberry pie", "a bag of nuts", "a plate of pancakes", "a bowl of cherries",
         "a round cheese", "a sweet melon", "a carrot cake", "a jar of honey", "a bag of plums",
         "a pumpkin pie", "a basket of strawberries", "a box of cookies"]

# ---------------------------------------------------------------- places

Place = namedtuple("Place", "key where path spots")


def _places():
    """Rows of: key | where | path | five or more spots."""
    rows = """
forest|at the edge of a quiet forest|along the forest path|under the ferns;behind a mossy log;inside a hollow tree;beside the little stream;among the tall pines;under a heap of golden leaves
meadow|in a wide green meadow|through the tall grass|among the daisies;behind the old fence;under the apple tree;beside the brook;in the long grass;next to a molehill
sea|in a little village by the sea|along the sandy beach|behind the dunes;under an old boat;among the rocks;beside a tide pool;at the end of the pier;under a pile of seaweed
farm|on a busy farm|across the farmyard|behind the barn;in the hay;under the cart;beside the well;among the pumpkins;next to the henhouse
mountain|at the foot of a snowy mountain|up the stony path|behind a big rock;under a bent pine tree;beside the waterfall;in a small cave;among the blue flowers;near the wooden bridge
garden|in a garden full of flowers|down the garden path|behind the roses;under the bench;among the cabbages;beside the fountain;in the flower pots;next to the garden gate
river|by a slow blue river|along the river bank|among the reeds;under the bridge;behind the willow tree;beside the old mill;on the flat stones;near the ferry
town|in a busy little town|down the narrow street|behind the bakery;under the market stalls;beside the fountain;on the steps of the school;next to the clock tower;near the park gate
hill|on top of a windy hill|down the winding path|behind the windmill;under a thorn bush;beside the gate;among the yellow flowers;next to the stone wall;near the beehives
island|on a small sunny island|along the shore|under the palm trees;behind the lighthouse;in a little cave;beside the boats;among the shells;near the big rock
jungle|in a warm green jungle|between the tall trees|under the big leaves;behind a waterfall;inside a hollow log;beside the muddy pool;among the vines;near the old stones
valley|in a sunny valley|along the winding road|under the plum trees;behind the mill;beside the stream;among the sunflowers;next to the bridge;near the old well
"""
    places = {}
    for row in rows.strip().splitlines():
        key, where, path, spots = row.split("|")
        places[key] = Place(key, where, path, spots.split(";"))
    return places


PLACES = _places()

# first mention, later mentions, pronoun
ELDERS = [
    ("the wise old owl", "the owl", "she", "owl"),
    ("an old turtle", "the old turtle", "he", "turtle"),
    ("{his} grandmother", "Grandma", "she", None),
    ("{his} grandfather", "Grandpa", "he", None),
    ("{his} mother", "Mama", "she", None),
    ("{his} father", "Papa", "he", None),
    ("old Mrs. Goose", "Mrs. Goose", "she", "goose"),
    ("old Mr. Badger", "Mr. Badger", "he", "badger"),
    ("{his} big sister", "{his} sister", "she", None),
    ("{his} big brother", "{his} brother", "he", None),
    ("{his} aunt", "{his} aunt", "she", None),
    ("a kind old gardener", "the gardener", "he", None),
    ("a kind old baker", "the baker", "she", None),
]

HOBBIES = ["to sing", "to dance in the rain", "to draw pictures", "to count the clouds",
           "to tell jokes", "to ask questions", "to explore", "to make new friends",
           "to watch the stars", "to collect shiny stones", "to help in the garden",
           "to splash in puddles", "to play hide and seek", "to listen to stories",
           "to build things", "to smell the flowers", "to climb", "to bake with {his} mother"]

# ---------------------------------------------------------------- small talk

WHO = [
    "I am the small demo model of cria. I tell short stories about animals and children.",
    "I am cria's small demo model. I like to tell short stories.",
    "I am a very small language model made for cria. I can tell you a story.",
    "I am cria's little demo model, and I tell simple stories. Ask me for one!",
]

ANYTHING_ELSE = [
    "I am only a small demo model, so I do not know that. But I can tell you a story!",
    "I do not know the answer. I am a tiny model that tells stories. Would you like one?",
    "That is too hard for a small model like me. Ask me for a story instead!",
]

# questions (alternatives) -> answers
SMALL_TALK = [
    (["Hello", "Hi", "Hey", "Hello there", "Hi there", "Good morning", "Good evening",
      "Hello, how are you", "Hey there", "Good afternoon", "Hi, model", "Greetings"],
     ["Hello! I am cria's small demo model. Would you like to hear a story?",
      "Hello! It is nice to meet you. Shall I tell you a story?",
      "Hi there! I can tell you a story. Who should it be about?",
      "Hello! I tell short stories. Give me an animal and a name, and I will begin."]),
    (["Who are you", "What are you", "What is your name", "Tell me about yourself",
      "Who am I talking to", "What's your name", "Are you a robot", "Are you a person",
      "Are you ChatGPT", "Are you an AI", "Which model are you", "Who is this"], WHO),
    (["What can you do", "How can you help me", "What do you do", "Can you help me",
      "What are you good at", "What should I ask you"],
     ["I can tell short stories. Ask me for a story about a fox, a bear or a child, and give it a name.",
      "I tell simple stories. Try this: tell me a story about a fox called Pip.",
      "I can tell you a story about an animal, a child, a toy or a brave deed. I can also say hello!"]),
    (["How are you", "How are you today", "How do you feel", "Are you well"],
     ["I am well, thank you! Would you like to hear a story?",
      "I am very well. I feel like telling a story!"]),
    (["Who made you", "Where do you come from", "How were you made", "Who built you"],
     ["I was trained for cria on stories that a small program wrote.",
      "I am part of cria. I learned from many little stories written by a program."]),
    (["What is cria", "What does cria mean", "What is a cria", "What's a cria"],
     ["A cria is a baby llama. It is also the name of the engine that runs me.",
      "Cria is the engine that runs me. The word means a baby llama."]),
    (["Thank you", "Thanks", "Thank you very much", "Thanks a lot", "That was nice",
      "I liked that story", "Great story", "That was lovely"],
     ["You are welcome! Would you like another story?", "You are welcome! I am glad you liked it.",
      "Thank you for listening!"]),
    (["Goodbye", "Bye", "Good night", "See you later", "Bye bye", "See you tomorrow"],
     ["Goodbye! Come back soon for another story.", "Good night! Sleep well and dream of kind friends.",
      "Goodbye! It was nice to talk to you."]),
    (["What sound does a cat make", "What does a cat say"], ["A cat says meow."]),
    (["What sound does a dog make", "What does a dog say"], ["A dog says woof."]),
    (["What sound does a cow make", "What does a cow say"], ["A cow says moo."]),
    (["What sound does a duck make", "What does a duck say"], ["A duck says quack."]),
    (["What sound does an owl make", "What does an owl say"], ["An owl says hoo, hoo."]),
    (["What sound does a lion make", "What does a lion do"], ["A lion roars."]),
    (["What sound does a frog make", "What does a frog say"], ["A frog says ribbit."]),
    (["What sound does a sheep make", "What does a sheep say"], ["A sheep says baa."]),
    (["What colour is the sky", "What color is the sky"], ["The sky is blue on a clear day, and red at sunset."]),
    (["What colour is grass", "What color is grass"], ["Grass is green."]),
    (["What colour is snow", "What color is snow"], ["Snow is white."]),
    (["What colour is a frog", "What color is a frog"], ["Most frogs are green."]),
    (["What do bees make", "What does a bee make"], ["Bees make honey."]),
    (["Where do birds live", "Where does a bird live"], ["Many birds live in nests in the trees."]),
    (["Where do fish live", "Where does a fish live"], ["Fish live in the water."]),
    (["Where do bears sleep", "Where does a bear sleep"], ["Many bears sleep in a cave in winter."]),
    (["What do rabbits eat", "What does a rabbit eat"], ["Rabbits eat grass and other green plants."]),
    (["What do squirrels eat", "What does a squirrel eat"], ["Squirrels eat nuts and seeds."]),
    (["What do pandas eat", "What does a panda eat"], ["Pandas eat bamboo."]),
    (["What do llamas eat", "What does a llama eat"], ["Llamas eat grass and hay."]),
    (["What is a llama", "What's a llama"], ["A llama is a woolly animal from the mountains of South America."]),
    (["What is a baby cat called", "What do you call a baby cat"], ["A baby cat is called a kitten."]),
    (["What is a baby dog called", "What do you call a baby dog"], ["A baby dog is called a puppy."]),
    (["What is a baby llama called", "What do you call a baby llama"], ["A baby llama is called a cria."]),
    (["What is a baby sheep called", "What do you call a baby sheep"], ["A baby sheep is called a lamb."]),
    (["How many legs does a spider have"], ["A spider has eight legs."]),
    (["How many legs does a dog have", "How many legs does a cat have"], ["It has four legs."]),
    (["How many legs does a bird have"], ["A bird has two legs."]),
    (["How many days are in a week"], ["There are seven days in a week."]),
    (["What is two plus two", "What is 2 + 2", "What is 2+2"], ["Two plus two is four."]),
    (["What is one plus one", "What is 1 + 1", "What is 1+1"], ["One plus one is two."]),
    (["Why is the sky blue"], ["Sunlight has many colours, and the air scatters the blue light most. So the sky looks blue."]),
    (["Why do we sleep", "Why do people sleep"], ["We sleep so that our bodies and minds can rest."]),
    (["Why does it rain"], ["Clouds are made of tiny drops of water. When the drops grow heavy, they fall as rain."]),
    (["What is friendship", "What is a friend", "What makes a good friend"],
     ["A good friend listens, shares, and helps when things are hard."]),
    (["What does it mean to be brave", "What is courage"],
     ["To be brave is to do the right thing even when you are afraid."]),
    (["What is your favorite animal", "What is your favourite animal", "Which animal do you like"],
     ["I like the llama best, because a cria is a baby llama.", "I like foxes, and llamas most of all."]),
    (["What is your favorite color", "What is your favourite colour"],
     ["I like green, like the grass that llamas eat."]),
    (["Tell me a joke", "Do you know a joke", "Make me laugh", "Say something funny"],
     ["Why did the cow cross the road? To get to the moo-vies!",
      "What do you call a sleeping dinosaur? A dino-snore!",
      "What kind of key opens a banana? A mon-key!"]),
    (["Yes", "Yes, please", "Okay", "Sure"],
     ["Wonderful! Who should the story be about?", "Good! Tell me an animal and a name."]),
    (["No", "No, thank you", "Not now"], ["All right. I will be here if you want a story later."]),
    (["I am sad", "I feel sad", "I had a bad day"],
     ["I am sorry to hear that. A kind story may help. Shall I tell you one?"]),
    (["I am happy", "I feel happy today", "I had a good day"],
     ["That is wonderful! A happy story would fit. Shall I tell you one?"]),
    (["I am bored", "I have nothing to do"], ["Then let me tell you a story! Who should it be about?"]),
    (["What is the capital of France", "What is the capital of Spain", "Who is the president",
      "What is the weather today", "What time is it", "Write some code for me",
      "What is 17 times 23", "Explain quantum physics", "Who won the match",
      "Translate this into German", "How do I install Linux", "Write a Python program",
      "What is the meaning of life", "Who wrote Hamlet", "How far away is the moon",
      "What is the stock price today", "Write an essay about history", "What is the news",
      "How do I fix my car", "What is a neural network", "Which phone should I buy",
      "What is the largest country", "How does a computer work", "Solve this equation",
      "Can you book a flight", "Give me a recipe for soup", "What is JavaScript"], ANYTHING_ELSE),
]
