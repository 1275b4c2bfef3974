"""The words of `village`: who lives there, what is there, and what is said without much thought."""

SHE = "nell ada rosa martha ivy olive greta pearl".split()
HE = "tom abel otto hugo felix walter simon bert".split()
NAMES = [name for pair in zip(SHE, HE, strict=True) for name in pair]

# Every topic has nouns of four classes, and places.
NOUNS = {
    "kitchen": {
        "beast": "cat mouse",
        "food": "pie soup bread cake jam butter pudding",
        "person": "cook maid grandmother",
        "thing": "oven kettle spoon pot apron knife plate stove",
    },
    "farm": {
        "beast": "cow pig goose hen goat sheep horse donkey",
        "food": "egg milk turnip cabbage corn",
        "person": "farmer shepherd",
        "thing": "cart plough bucket fence gate",
    },
    "river": {
        "beast": "trout eel duck otter frog swan",
        "food": "herring shrimp",
        "person": "fisherman sailor ferryman",
        "thing": "boat net oar rope anchor hook basket wheel",
    },
    "church": {
        "beast": "owl bat dove",
        "food": "wine wafer",
        "person": "priest widow bride bishop choirboy",
        "thing": "bell candle book bench organ letter ring statue cross",
    },
    "market": {
        "beast": "dog parrot rabbit",
        "food": "cheese apple honey sausage pear",
        "person": "baker butcher tailor thief",
        "thing": "coin hat shawl clock mirror barrel purse scale",
    },
    "fair": {
        "beast": "bear pony monkey",
        "food": "beer cider toffee",
        "person": "piper juggler soldier stranger dancer",
        "thing": "fiddle drum flute ribbon lantern tent mask boot",
    },
}
TOPICS = list(NOUNS)
PLACES = {
    "kitchen": "pantry cellar kitchen",
    "farm": "barn stable orchard",
    "river": "mill boathouse harbour",
    "church": "churchyard tower chapel",
    "market": "square shop inn",
    "fair": "meadow circus wagon",
}
# A verb, the classes of nouns that it takes, and the topics in which it is common: all, if none.
VERBS = {
    "washed": ("beast thing", "kitchen"),
    "tasted": ("food", "kitchen"),
    "stirred": ("food", "kitchen"),
    "burned": ("food thing", "kitchen"),
    "fed": ("beast person", "farm"),
    "chased": ("beast person", "farm"),
    "counted": ("beast food thing", "farm market"),
    "brushed": ("beast", "farm"),
    "caught": ("beast", "river"),
    "mended": ("thing", "river farm"),
    "dropped": ("food thing", "river"),
    "pulled": ("beast thing", "river"),
    "polished": ("thing", "church"),
    "blessed": ("beast food person", "church"),
    "kissed": ("beast person", "church fair"),
    "praised": ("food person", "church"),
    "sold": ("beast food thing", "market"),
    "bought": ("beast food thing", "market"),
    "stole": ("beast food thing", "market"),
    "weighed": ("beast food", "market"),
    "painted": ("beast person thing", "fair"),
    "teased": ("beast person", "fair"),
    "followed": ("beast person", "fair"),
    "invited": ("person", "fair"),
    "hid": ("food thing", ""),
    "lost": ("beast thing", ""),
    "found": ("beast food person thing", ""),
    "loved": ("beast food person thing", ""),
}
# An adjective, and the classes of nouns that it fits.
ADJECTIVES = {
    **dict.fromkeys("old little strange famous lovely".split(), "beast food person thing"),
    **dict.fromkeys("hungry lazy sleepy clever shy noisy greedy".split(), "beast person"),
    **dict.fromkeys("fat muddy wild spotted hairy".split(), "beast"),
    **dict.fromkeys("proud lonely rude jealous rich poor".split(), "person"),
    **dict.fromkeys("sweet salty stale bitter fresh sour warm".split(), "food"),
    **dict.fromkeys("rusty broken shiny dusty golden wooden".split(), "thing"),
}
OPENERS = (
    "last night ,", "as everybody knows ,", "between you and me ,", "believe it or not ,",
    "early this morning ,", "to tell the truth ,", "once again ,", "so they say ,",
    "after supper ,", "on sunday ,", "if you ask me ,", "while nobody looked ,", "for a bet ,",
    "out of love ,", "long ago ,", "by mistake ,",
)  # fmt: skip
EXCLAMATIONS = (
    "oh dear !", "what a day !", "who would have thought it !", "bless my soul !",
    "you should have seen it !", "how we laughed !", "imagine that !", "never mind !",
    "such a pity !", "good heavens !", "there was such a noise !", "don't ask me why !",
)  # fmt: skip
CLOSERS = (
    ", of course .", ", as always .", ", poor thing .", ", and nobody said a word .",
    ", just like that .", ", of all things .", ", and then it rained .", ", i was there .",
    ", would you believe it .", ", and not for the first time .", ", thank goodness .",
    ", the whole day long .",
)  # fmt: skip
BESIDE = ("in", "near", "behind")
START, END = "<bos>", "<end>"
STOPS = (".", "!")  # a sentence ends with one of them

CLASS_OF = {
    noun: kind for kinds in NOUNS.values() for kind, ns in kinds.items() for noun in ns.split()
}
TOPIC_OF = {
    word: topic
    for topic in TOPICS
    for word in " ".join((*NOUNS[topic].values(), PLACES[topic])).split()
}
ALL_PLACES = " ".join(PLACES.values()).split()
VOCABULARY: tuple[str, ...] = tuple(
    dict.fromkeys(
        (
            START,
            END,
            *". ! , the that her his she he and very with said went to".split(),
            *BESIDE,
            *NAMES,
            *VERBS,
            *CLASS_OF,
            *ADJECTIVES,
            *ALL_PLACES,
            *" ".join((*OPENERS, *EXCLAMATIONS, *CLOSERS)).split(),
        )
    )
)
ID_OF = {word: index for index, word in enumerate(VOCABULARY)}
