#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes what transformers renders for chat templates, for mpo/text to be checked against.

Run by hand, in a virtual environment with transformers==4.51.3 and jinja2==3.1.6:
  venv/bin/python tools/make_chat_fixtures.py .deps/models/smollm2-135m-instruct tests/fixtures/chat_templates.json

SmolLM2's template is the model's own. The others are written for this file and render plain system, user and assistant
turns as those families' published templates do; their code for tools is reduced to what recognition has to cope with.
"""
import json
import pathlib
import sys

import jinja2
import transformers
from transformers import PreTrainedTokenizerFast

assert transformers.__version__ == "4.51.3" and jinja2.__version__ == "3.1.6", "pinned versions"

CHATML = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' "
          "+ '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
QWEN25 = r"""{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- for tool in tools %}
        {{- "\n" + (tool | tojson) }}
    {%- endfor %}
    {{- "<|im_end|>\n" }}
{%- elif messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}
{%- else %}
    {{- '<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == "user" or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""
QWEN3 = r"""{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == "user" or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
    {%- elif message.role == "assistant" %}
        {%- set content = message.content %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is defined and message.reasoning_content is not none %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- elif '</think>' in message.content %}
            {%- set content = message.content.split('</think>')[-1].lstrip('\n') %}
            {%- set reasoning_content = message.content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index and (loop.last or reasoning_content) %}
            {{- '<|im_start|>assistant\n<think>\n' + reasoning_content.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
        {%- else %}
            {{- '<|im_start|>assistant\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}"""
LLAMA3 = ("{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + "
          "'<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
          "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}")
LLAMA31 = r"""{{- bos_token }}
{#- Without a date from outside, the one of the release. #}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{{- "Cutting Knowledge Date: December 2023\n" }}
{{- "Today Date: " + date_string + "\n\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if 'tool_calls' in message %}
        {{- raise_exception("no tools") }}
    {%- endif %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"""


def chat(*contents, system=None):
    roles = ["user", "assistant"]
    turns = [{"role": roles[i % 2], "content": c} for i, c in enumerate(contents)]
    return ([{"role": "system", "content": system}] if system is not None else []) + turns


CONVERSATIONS = [
    chat("Hi"), chat("Hi", system="Be brief."), chat(" spaces \u3000\n", "  answer\n\n", "\u00a0more\t"),
    chat("a", "b", "c", "d", system=" S \n"), chat("", ""), chat("x", system=""),
    chat("a", "b") + [{"role": "system", "content": "late system"}] + chat("c"),
    chat("quote ' \" {{ x }} {% y %}", "\u4f60\u597d \U0001f600\n"),
    chat("q", "<think>\nthought\n</think>\n\nanswer"), chat("q", "<think>\n\n</think>\n\nanswer", "q2"),
    chat("q", "<think>one</think>a<think>two</think>b", "q2", "no thought"), chat("q", "\n\nthought only</think>"),
    chat("q", "<think>t</think>\n\ncalls", "<tool_response>\nr\n</tool_response>", "final"),
    chat("q", "calls", "<tool_response>r</tool_response>", "<think>t</think>done", "<tool_response>r</tool_response>"),
    [{"role": "assistant", "content": "<think>t</think>alone"}], [{"role": "system", "content": "alone"}],
]


def main(model, output):
    smollm2 = json.loads((pathlib.Path(model) / "tokenizer_config.json").read_text())["chat_template"]
    templates = {
        "smollm2": {"family": "chatml", "jinja": smollm2}, "chatml": {"family": "chatml", "jinja": CHATML},
        "qwen2.5": {"family": "chatml", "jinja": QWEN25}, "qwen3": {"family": "qwen3", "jinja": QWEN3},
        "llama3": {"family": "llama3", "jinja": LLAMA3}, "llama3.1": {"family": "llama3.1", "jinja": LLAMA31},
    }
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(pathlib.Path(model) / "tokenizer.json"))
    tokenizer.add_special_tokens({"bos_token": "<|begin_of_text|>"})
    cases = []
    for name, template in templates.items():
        for messages in CONVERSATIONS:
            for generation in (False, True):
                extras = [{}]
                if name == "qwen3" and generation:
                    extras.append({"enable_thinking": False})
                if name == "llama3.1":
                    extras.append({"date_string": "01 Jan 2025"})
                for extra in extras:
                    text = tokenizer.apply_chat_template(messages, chat_template=template["jinja"], tokenize=False,
                                                         add_generation_prompt=generation, **extra)
                    cases.append({"template": name, "messages": messages, "generation": generation, **extra,
                                  "text": text})
    pathlib.Path(output).write_text(json.dumps({"templates": templates, "cases": cases}, indent=0) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
