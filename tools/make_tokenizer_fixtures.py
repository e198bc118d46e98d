#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes what the reference tokenizer makes of many strings, for mpo/text to be checked against.

Needs the PyPI package tokenizers==0.23.3.
Usage: make_tokenizer_fixtures.py TOKENIZER OUTPUT.jsonl [--count N] [--seed N] [--train llama3|qwen2|llama2]

TOKENIZER is a model directory or a tokenizer.json. With --train it is written first: a small vocabulary learnt from
this repository's own texts, in the form of that family (its pattern, normaliser, special tokens, ignore_merges), with
added tokens of every kind. Checked in:
  make_tokenizer_fixtures.py .deps/models/smollm2-135m-instruct tests/fixtures/smollm2_tokenizer.jsonl
  make_tokenizer_fixtures.py tests/fixtures/llama3_tokenizer.json tests/fixtures/llama3_tokenizer.jsonl --count 300 --train llama3
  make_tokenizer_fixtures.py tests/fixtures/qwen2_tokenizer.json tests/fixtures/qwen2_tokenizer.jsonl --count 300 --train qwen2
  make_tokenizer_fixtures.py tests/fixtures/llama2_tokenizer.json tests/fixtures/llama2_tokenizer.jsonl --count 200 --train llama2
Each line of the output: {"text", "ids", "decoded"}; decoded leaves special tokens out.
"""
import argparse
import json
import pathlib
import random

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

VERSION = "0.23.3"
ROOT = pathlib.Path(__file__).resolve().parent.parent

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


# For the trained tokenizers only.
ADDED = ["<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>", "<|endoftext|>x<|im_start|>\n",
         "a  <lstrip>  b", "a  <rstrip> \t\u3000 b", "<rstrip>  <lstrip>  <lstrip> ", " \u00a0<both>\u2003 \n<both>", "<lstrip>",
         "a word, sword words word_ word\u0301 word\u200d (word) word", "word", "wordword", "\u24d0word \u0661word \u2167word word\u203f",
         "caf\u00e9 cafe\u0301 cafe caf\u00e9s", "<tool_call>\n{}\n</tool_call>", "<tool_call", "it'\u017f 'K 'LL 'Re 'VE",
         "word word", "\u00e9word", "word\u2003<lstrip>word<rstrip> word", "<s>a</s> b<unk>", "\u2581a \u2581", "<0x41>"]


def random_string(rng, added):
    """A mixture of words, cut pieces of the lists above and random code points."""
    parts = []
    for _ in range(rng.randint(1, 8)):
        if added and rng.random() < 0.2:
            parts.append(rng.choice(rng.choice(ADDED).split("|")) if rng.random() < 0.2 else rng.choice(ADDED))
            continue
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


LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
          r"\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")


def corpus():
    return [(ROOT / name).read_text() for name in ("README.md", "ARCHITECTURE.md", "docs/algorithms.md")] + ALL


def train_byte_fallback(path):
    """The form of Llama 2: characters, bytes for those that are missing, spaces as U+2581, no pre-tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()  # Only to learn words.
    tokenizer.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=700, limit_alphabet=120, show_progress=False))
    spec = json.loads(tokenizer.to_str())
    first = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    learnt = sorted(spec["model"]["vocab"], key=spec["model"]["vocab"].get)
    spec["model"].update(vocab={t: i for i, t in enumerate(first + learnt)}, byte_fallback=True, fuse_unk=True,
                         unk_token="<unk>")
    spec["pre_tokenizer"] = None
    spec["normalizer"] = {"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "\u2581"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]}
    spec["decoder"] = {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    spec["added_tokens"] = [
        {"id": i, "content": t, "special": True, "normalized": False, "lstrip": False, "rstrip": False,
         "single_word": False} for i, t in enumerate(first[:3])]
    path.write_text(json.dumps(spec, ensure_ascii=False, separators=(",", ":")) + "\n")


def train(family, path):
    """Learns a small vocabulary and writes it as a tokenizer.json of the family."""
    llama = family == "llama3"
    tokenizer = Tokenizer(models.BPE(ignore_merges=llama))
    if not llama:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3 if llama else QWEN2), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=900, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    special = (["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"] if llama else
               ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    tokenizer.add_tokens([
        AddedToken("<tool_call>", normalized=False), AddedToken("</tool_call>", normalized=False),
        AddedToken("<lstrip>", lstrip=True, normalized=False), AddedToken("<rstrip>", rstrip=True, normalized=True),
        AddedToken("<both>", lstrip=True, rstrip=True, normalized=False),
        AddedToken("word", single_word=True, normalized=True), AddedToken("caf\u00e9", normalized=True)])
    byte_level = processors.ByteLevel(trim_offsets=True)
    tokenizer.post_processor = byte_level
    if llama:
        tokenizer.post_processor = processors.Sequence([byte_level, processors.TemplateProcessing(
            single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", tokenizer.token_to_id(special[0]))])])
    spec = json.loads(tokenizer.to_str())
    if llama:  # Words that only ignore_merges can reach, as the real vocabulary has them.
        spec["model"]["merges"] = [m for i, m in enumerate(spec["model"]["merges"]) if i % 7 != 3]
    path.write_text(json.dumps(spec, ensure_ascii=False, separators=(",", ":")) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tokenizer")
    parser.add_argument("output")
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--train", choices=["llama3", "qwen2", "llama2"])
    arguments = parser.parse_args()
    if tokenizers.__version__ != VERSION:
        raise SystemExit(f"expected tokenizers {VERSION}, found {tokenizers.__version__}")
    path = pathlib.Path(arguments.tokenizer)
    if arguments.train:
        (train_byte_fallback(path) if arguments.train == "llama2" else train(arguments.train, path))
    added = path.is_file()
    tokenizer = Tokenizer.from_file(str(path if added else path / "tokenizer.json"))
    rng = random.Random(arguments.seed)
    texts = list(dict.fromkeys(ALL + (ADDED if added else [])))
    while len(texts) < arguments.count:
        text = random_string(rng, added)
        if not any(0xd800 <= ord(c) < 0xe000 for c in text):
            texts.append(text)
    with open(arguments.output, "w", encoding="utf-8") as out:
        for text in texts[:arguments.count]:
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            line = {"text": text, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=True)}
            out.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
