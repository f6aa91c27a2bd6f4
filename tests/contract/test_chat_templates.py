"""Chat templates against transformers: shapes of real ones, rendered by both."""

# ruff: noqa: E501 - the templates have lines as long as they are there

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from forebay.contract.errors import ArtifactError, InvalidInput
from forebay.contract.generation import Message
from forebay.contract.tools import Tool
from forebay.inference.tasks.chat import ChatTemplate

# The shapes that models' templates have: names, loops and whitespace control are as there.
CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA_2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}{% else %}"
    "{% set loop_messages = messages %}{% set system_message = false %}{% endif %}"
    "{% for message in loop_messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}"
    "{% endif %}{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}"
    "{% endif %}{% endfor %}"
)
LLAMA_3_2 = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Today Date: " + date_string + "\\n\\n" }}
{%- if tools is not none %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
QWEN = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {{- "# Tools\\n\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set content = message.content %}
        {%- if '</think>' in content %}{%- set content = content.split('</think>')[-1].lstrip('\\n') %}{%- endif %}
        {{- '<|im_start|>assistant\\n' + content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'assistant') %}"
    "{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)
PHI_3 = """{% for message in messages %}
    {% if message['role'] == 'system' %}
        {{'<|system|>\n' + message['content'] + '<|end|>\n'}}
    {% elif message['role'] == 'user' %}
        {{'<|user|>\n' + message['content'] + '<|end|>\n'}}
    {% elif message['role'] == 'assistant' %}
        {% generation %}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endgeneration %}
    {% endif %}
    {% if loop.index > 90 %}{% break %}{% endif %}
{% endfor %}
{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"""
DICTIONARIES = (
    "{% set names = dict(user='Human', assistant='Bot') %}{% for m in messages %}"
    "{{ names.get(m.role, m.role) }}: {{ m.content }} {{ m | tojson }}\n{% endfor %}"
)
TEMPLATES = {
    "chatml": CHATML,
    "llama 2": LLAMA_2,
    "llama 3.2": LLAMA_3_2,
    "qwen 3": QWEN,
    "gemma": GEMMA,
    "phi 3": PHI_3,
    "dictionaries": DICTIONARIES,
}

ASKED = (Message("user", "  What's <b>“new”</b> & why?\n"),)
TURNS = (
    Message("user", "Name a river."),
    Message("assistant", "<think>\nhm\n</think>\nThe Tyne."),
    Message("user", "And another, by köyhä \U0001f30a?", name="ann"),
)
INSTRUCTED = (Message("system", "Be brief."), *TURNS)
TOOLS = (Tool("tide", '{"when": "näin <b>"}', "Said <b>before</b>."),)


def theirs(
    template: str, messages: Sequence[Message], tools: Sequence[Tool] | None, *, prompt: bool
) -> str:
    """What transformers makes of it."""
    told = [
        {"role": m.role, "content": m.content, **({"name": m.name} if m.name else {})}
        for m in messages
    ]
    made: Any = render_jinja_template(
        [told],
        tools=None
        if tools is None
        else [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": json.loads(tool.parameters),
                },
            }
            for tool in tools
        ],
        chat_template=template,
        add_generation_prompt=prompt,
        bos_token="<s>",
        eos_token="</s>",
    )
    return str(made[0][0])


@pytest.mark.parametrize("prompt", [True, False])
@pytest.mark.parametrize("tools", [None, TOOLS])
@pytest.mark.parametrize("messages", [ASKED, TURNS, INSTRUCTED], ids=["one", "turns", "system"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_chat_is_rendered_as_transformers_renders_it(
    name: str, messages: Sequence[Message], tools: Sequence[Tool] | None, prompt: bool
) -> None:
    template = ChatTemplate(TEMPLATES[name], bos="<s>", eos="</s>")
    try:
        expected = theirs(TEMPLATES[name], messages, tools, prompt=prompt)
    except Exception as refused:  # the template's own refusal, whatever transformers makes of it
        with pytest.raises(InvalidInput, match=str(refused)):
            template.render(messages, tools, add_generation_prompt=prompt)
        return
    assert template.render(messages, tools, add_generation_prompt=prompt) == expected
    assert any(message.content.strip() in expected for message in messages)


def test_a_template_that_refuses_a_chat_says_so_in_its_own_words() -> None:
    with pytest.raises(InvalidInput, match="System role not supported") as refused:
        ChatTemplate(GEMMA, bos="<s>").render(INSTRUCTED)
    assert refused.value.param == "messages"


def test_a_template_is_told_what_day_it_is() -> None:
    made = ChatTemplate(LLAMA_3_2, bos="<s>", now=lambda: datetime(2025, 3, 9))
    assert "Today Date: 09 Mar 2025" in made.render(ASKED)


def test_a_token_that_the_model_lacks_is_not_defined() -> None:
    text = "{% if bos_token is defined %}begins{% endif %}{{ messages[0].content }}"
    assert ChatTemplate(text).render((Message("user", "x"),)) == "x"


def test_a_template_that_cannot_be_read_is_the_artifacts_fault() -> None:
    with pytest.raises(ArtifactError, match=r"can't be read.*build it again"):
        ChatTemplate("{% for message in messages %}")


@pytest.mark.parametrize(
    "text",
    [
        "{{ messages[0].content + 1 }}",
        "{{ messages[7].content.upper() }}",
        "{{ 1 / 0 }}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__ }}",
        "{% set ns = namespace(_x=1) %}",
        "{{ dict.__subclasses__() }}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
    ],
)
def test_what_a_template_can_not_do_refuses_the_chat_and_nothing_else(text: str) -> None:
    template = ChatTemplate(text)
    with pytest.raises(InvalidInput, match="can't render this chat"):
        template.render(ASKED)
