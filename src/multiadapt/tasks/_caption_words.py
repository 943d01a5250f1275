"""Captions to words, as the evaluation of COCO captions does it.

There Stanford's PTBTokenizer 3.4.1 (a Java program) splits lower-cased captions, and signs that end or join
sentences are left out. These rules give the same words on the made-up lines of the tests and on 17,500 captions of
Flickr8k. They differ from it:
- abbreviations with one full stop keep it only where they stand in a short list (mr. st. vs. ...);
- a whole number before a fraction is a word of its own (3 1/2), and 12:45pm is one word;
- of foreign scripts, emoji and web addresses only the plain cases are known.
"""

import re
from collections.abc import Mapping

__all__ = ["words"]

ABBREVIATED = "mr mrs ms dr prof st mt jr sr inc co corp ltd vs etc ave blvd gen col capt lt sgt rev gov sen assn ph.d"
PLAIN = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "–": "--", "—": "--", "…": "..."})
PARTED: Mapping[str, tuple[str, ...]] = {
    "cannot": ("can", "not"),
    "gonna": ("gon", "na"),
    "gotta": ("got", "ta"),
    "wanna": ("wan", "na"),
    "lemme": ("lem", "me"),
    "gimme": ("gim", "me"),
    "'tis": ("'t", "is"),
    "'twas": ("'t", "was"),
    "y'all": ("y'", "all"),
}
BRACKETS: Mapping[str, str] = {
    "(": "-lrb-",
    ")": "-rrb-",
    "[": "-lsb-",
    "]": "-rsb-",
    "{": "-lcb-",
    "}": "-rcb-",
}
"""The program writes them so; in lower case its evaluation does not know them, and counts them as words."""
TOKEN = re.compile(
    rf"""
    \w+://\S+ | [\w.+-]+@\w[\w-]*(?:\.\w+)+          # addresses
    | </?[a-z]+>                                      # marks of a page
    | (?<!\w)(?:{"|".join(re.escape(a) for a in ABBREVIATED.split())})\.(?!\w)
    | (?<!\w)no\.(?=\s*\d)
    | (?<![\w'])[a-z](?:(?:\.[a-z])*\.|(?:\.[a-z])+)(?!\w) # u.s., p.m., p.
    | (?<!\w)(?:'tis|'twas|y'all|o'clock|ma'am|[od]'[a-z]{{2,}})(?!\w)
    | (?<!\w)'\d0s(?!\w)                              # the '90s
    | 'n' | n't(?!\w) | '(?:s|m|d|re|ve|ll)(?!\w)           # what follows a contracted word
    | [a-z]+?(?=n't(?!\w))                            # and the word
    | (?<![\w-])[+-]?(?:\d+(?:[.,:/]\d+)+|\.?\d+)(?:(?:[-./])?\w+)*
    | \w+(?:[-./]\w+)*
    | [?!]{{2,}}
    | [^\s\w.,;:?!'"`-]
    """,
    re.VERBOSE,
)


def words(caption: str) -> list[str]:
    """The words of a caption, in lower case, without the signs that end or join sentences."""
    found: list[str] = []
    for token in TOKEN.findall(caption.translate(PLAIN).lower()):
        found.extend(PARTED.get(token, (BRACKETS.get(token, token),)))
    return found
