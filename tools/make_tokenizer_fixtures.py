#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes what the reference tokenizer makes of many strings, for mpo/text to be checked against.

Needs the PyPI package tokenizers==0.23.3.
Usage: make_tokenizer_fixtures.py MODEL_DIR OUTPUT.jsonl [--count N] [--seed N]

The checked-in fixture is made with --count 400. Each line: {"text", "ids", "decoded"}; decoded leaves special tokens
out.
"""
import argparse
import json
import pathlib
import random

import tokenizers

VERSION = "0.23.3"

PROSE = """Cities should build more parks because trees cool the streets; therefore everyone, rich or poor, sleeps better.
She'll say it's fine, but they've seen that we're late and I'd rather not. DON'T SHOUT, I'M HERE!
In 1969, 3.14159 was still pi, and 1,000,000 dollars ($1.5e6) bought 42% more than today's.
Education matters.   Three spaces,\ttabs\t\tand\n\nblank lines\r\nof two kinds.   """.split("\n")
CODE = """def f(x: int) -> str:
    return f"{x!r:>10}"  # comment
for (int i = 0; i < n; ++i) { a[i] += b[i] << 3; }
SELECT * FROM "t" WHERE id IN (1,2,3) AND name LIKE '%\\\\%';
<html><body class="x">&nbsp;</body></html>
std::vector<std::pair<int, std::string>> v{{1, "a"}};
\tif err != nil {\n\t\treturn fmt.Errorf("bad: %w", err)\n\t}""".split("\n")
FOREIGN = ["Größe, naïve café, Señor Ñandú, Ødegård, Łódź", "Привет, как дела? Ёлка и съезд.", "Καλημέρα κόσμε, άνθρωπος",
           "你好，世界！今天的天气很好。", "こんにちは世界。カタカナとひらがな、漢字", "안녕하세요 세계 각",
           "مرحبا بالعالم، كيف حالك؟ ١٢٣", "שלום עולם, מה שלומך?", "नमस्ते दुनिया १२३ क्षत्रिय", "สวัสดีชาวโลก ๑๒๓",
           "Tiếng Việt có dấu", "ქართული ენა", "አማርኛ ቋንቋ", "தமிழ் மொழி"]
MARKS = ["e\u0301 a\u0308 n\u0303 o\u0302\u0323", "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334\u0319\u0324 zalgo",
         "\u00e9 against e\u0301", "\u1100\u1161\u11a8 against \uac01", "\u0958 \u0915\u093c", "\ufb01 \ufb03 \u00bd \u2167 \u2460 \u00b2"]
EMOJI = ["😀😃😄", "👩‍👩‍👧‍👦 family", "🏳️‍🌈🇩🇪🇯🇵", "👍🏽👍🏿", "1️⃣ 2️⃣ #️⃣", "text ❤️ text ☺ ☺️", "🧑🏻‍🚀🚀🌕"]
CONTROL = ["\x00", "a\x00b\x01\x02\x03\x04\x05\x06\x07\x08", "\x13\x14\x16\x1d\x7f\x80\x85\x9f", "\u200b\u200c\u200d\ufeff\u2060",
           "\u180e \u00a0\u2003\u3000 \u2028\u2029", " ", "  ", "\n", "\r\n\r\n", "\t \t", "\ufffd\uffff\ue000",
           "a" * 300, " " * 200, "0" * 65, "!" * 130, "ab" * 150]
SPECIAL = ["<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "<|im_start|", "<|endoftext|><|endoftext|>",
           "x<repo_name>y<reponame>z", "<|im_end|><|im_start|>", "a <|im_end|> b", "<<|im_end|>>", "<empty_output>1<gh_stars>"]
ALL = PROSE + CODE + FOREIGN + MARKS + EMOJI + CONTROL + SPECIAL
RANGES = [(0x20, 0x7f), (0xa0, 0x250), (0x300, 0x530), (0x590, 0x700), (0x900, 0xe00), (0x1100, 0x1200), (0x2000, 0x2c00),
          (0x3000, 0x3200), (0x4e00, 0x9fff), (0xac00, 0xd7a3), (0x1f300, 0x1fb00), (0, 0xd800), (0xe000, 0x110000)]


def random_string(rng):
    """A mixture of words, cut pieces of the lists above and random code points."""
    parts = []
    for _ in range(rng.randint(1, 8)):
        kind = rng.random()
        if kind < 0.35:
            parts.append(" ".join(rng.choice(rng.choice(PROSE + CODE).split(" ")) for _ in range(rng.randint(1, 6))))
        elif kind < 0.6:
            text = rng.choice(ALL)
            begin = rng.randint(0, len(text))
            parts.append(text[begin:begin + rng.randint(1, 20)])
        elif kind < 0.7:
            parts.append(rng.choice([" ", "  ", "\n", "\t", "\r\n", "   \n ", "'s", "'LL", "7", "1234", "\u00a0"]))
        else:
            low, high = rng.choice(RANGES)
            parts.append("".join(chr(rng.randrange(low, high)) for _ in range(rng.randint(1, 8))))
    return "".join(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("output")
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if tokenizers.__version__ != VERSION:
        raise SystemExit(f"expected tokenizers {VERSION}, found {tokenizers.__version__}")
    tokenizer = tokenizers.Tokenizer.from_file(str(pathlib.Path(arguments.model) / "tokenizer.json"))
    rng = random.Random(arguments.seed)
    texts = list(dict.fromkeys(ALL))
    while len(texts) < arguments.count:
        text = random_string(rng)
        if not any(0xd800 <= ord(c) < 0xe000 for c in text):
            texts.append(text)
    with open(arguments.output, "w", encoding="utf-8") as out:
        for text in texts[:arguments.count]:
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            line = {"text": text, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=True)}
            out.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
