"""How models made for each of Ollama's parsers write reasoning, text and tool calls."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

# Ollama finds the tags of reasoning and of tool calls in the template: they surround them.
TEMPLATE = """{{ range .Messages }}{{ .Role }}: {{ if .Thinking }}\
<think>{{ .Thinking }}</think>{{ end }}
{{- .Content }}{{ if .ToolCalls }}{{ range .ToolCalls }}<tool_call>
{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}
</tool_call>{{ end }}{{ end }}
{{ end }}{{ if .Tools }}{{ .Tools }}{{ end }}"""

# llama.cpp does the same with the template in the file if Ollama has no template or renderer.
JINJA_TEMPLATE = """{%- if tools %}system: Answer with a call inside <tool_call></tool_call>.
<tools>{% for tool in tools %}{{ tool | tojson }}{% endfor %}</tools>
{% endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}user: <tool_response>{{ message.content }}</tool_response>
{% else %}{{ message.role }}: {{ message.content }}
{%- if message.tool_calls %}{% for tool_call in message.tool_calls %}<tool_call>
{"name": "{{ tool_call.function.name }}", "arguments": {{ tool_call.function.arguments | tojson }}}
</tool_call>{% endfor %}{% endif %}
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}assistant: {% endif %}"""


@dataclass(frozen=True)
class Call:
    """A tool call of a script; its arguments are JSON texts."""

    name: str
    arguments: Mapping[str, str] = field(default_factory=dict)

    @property
    def json(self) -> str:
        """The arguments as a JSON object."""
        return "{" + ", ".join(f'"{key}": {text}' for key, text in self.arguments.items()) + "}"


@dataclass(frozen=True)
class Dialect:
    """What a model writes. `options` are the fields of `/api/create`."""

    options: Mapping[str, str]
    calls: Callable[[Sequence[Call]], str]
    # Around reasoning. Some models have the opening tag in the prompt.
    think: tuple[str, str] = ("<think>", "</think>")
    thinks: bool = True
    # Before a text, and after a text that does not end the answer.
    text: tuple[str, str] = ("", "")

    def answer(self, text: str = "", thought: str = "", calls: Sequence[Call] = ()) -> str:
        """A complete answer: reasoning, text, calls."""
        written = self.think[0] + thought + self.think[1] if thought else ""
        if text:
            written += self.text[0] + text + (self.text[1] if calls else "")
        return written + (self.calls(calls) if calls else "")


def _each(begin: str, end: str, body: Callable[[Call], str]) -> Callable[[Sequence[Call]], str]:
    """Calls one after another."""
    return lambda calls: "\n".join(begin + body(call) + end for call in calls)


def _all(
    begin: str, end: str, body: Callable[[Call], str], separator: str
) -> Callable[[Sequence[Call]], str]:
    """Calls in one list."""
    return lambda calls: begin + separator.join(map(body, calls)) + end


def _object(call: Call) -> str:
    return f'{{"name": "{call.name}", "arguments": {call.json}}}'


def _bare(json: str) -> str:
    """A value in formats without JSON: a text has no quotation marks."""
    return json.strip('"')


def _xml(call: Call) -> str:
    parameters = "".join(
        f"<parameter={key}>\n{_bare(text)}\n</parameter>\n" for key, text in call.arguments.items()
    )
    return f"\n<function={call.name}>\n{parameters}</function>\n"


def _key_value(call: Call) -> str:
    pairs = (
        f"<arg_key>{key}</arg_key><arg_value>{_bare(text)}</arg_value>"
        for key, text in call.arguments.items()
    )
    return call.name + "".join(pairs)


def _python(call: Call) -> str:
    return f"{call.name}({', '.join(f'{key}={text}' for key, text in call.arguments.items())})"


def _gemma(call: Call) -> str:
    pairs = (f"{key}:{text}" for key, text in call.arguments.items())
    return f"call:{call.name}{{{','.join(pairs)}}}".replace('"', '<|"|>')


def _cohere(call: Call) -> str:
    return f'{{"tool_call_id": "0", "tool_name": "{call.name}", "parameters": {call.json}}}'


def _harmony(call: Call) -> str:
    return f"commentary to=functions.{call.name} <|constrain|>json<|message|>{call.json}"


def _built_in(parser: str, renderer: str = "") -> dict[str, str]:
    return {"parser": parser, "renderer": renderer or parser}


def _with_template(parser: str) -> dict[str, str]:
    return {"parser": parser, "template": TEMPLATE}


_JSON_CALLS = _each("<tool_call>\n", "\n</tool_call>", _object)
_XML_CALLS = _each("<tool_call>", "</tool_call>", _xml)

DIALECTS: Mapping[str, Dialect] = {
    "template": Dialect({"template": TEMPLATE}, _JSON_CALLS),
    # llama.cpp's own parser, selected by the template in the GGUF file.
    "native": Dialect({}, _JSON_CALLS, thinks=False),
    "qwen3": Dialect(_with_template("qwen3-thinking"), _JSON_CALLS),
    "qwen3-coder": Dialect(_built_in("qwen3-coder"), _XML_CALLS, thinks=False),
    "qwen3.5": Dialect(_built_in("qwen3.5"), _XML_CALLS, ("", "</think>\n\n")),
    "nemotron-3-nano": Dialect(_built_in("nemotron-3-nano"), _XML_CALLS, ("", "</think>\n\n")),
    "harmony": Dialect(
        _with_template("harmony"),
        _all(
            "<|start|>assistant<|channel|>", "", _harmony, "<|call|><|start|>assistant<|channel|>"
        ),
        ("<|channel|>analysis<|message|>", "<|end|>"),
        text=("<|start|>assistant<|channel|>final<|message|>", "<|end|>"),
    ),
    "deepseek3": Dialect(
        _built_in("deepseek3", "deepseek3.1"),
        _all(
            "<｜tool▁calls▁begin｜>",  # noqa: RUF001 - DeepSeek writes its tags so
            "<｜tool▁calls▁end｜>",  # noqa: RUF001
            lambda call: (
                f"<｜tool▁call▁begin｜>{call.name}<｜tool▁sep｜>{call.json}<｜tool▁call▁end｜>"  # noqa: RUF001
            ),
            "",
        ),
        ("", "</think>"),
    ),
    "gemma4": Dialect(
        _built_in("gemma4"),
        _each("<|tool_call>", "<tool_call|>", _gemma),
        ("<|channel>thought\n", "<channel|>"),
    ),
    "ministral": Dialect(
        _with_template("ministral"),
        _each("[TOOL_CALLS]", "", lambda call: f"{call.name}[ARGS]{call.json}"),
        thinks=False,
    ),
    "olmo3": Dialect(
        _built_in("olmo3"),
        _all("<function_calls>", "</function_calls>", _python, "\n"),
        thinks=False,
    ),
    "lfm2": Dialect(
        _built_in("lfm2-thinking"),
        _all("<|tool_call_start|>[", "]<|tool_call_end|>", _python, ", "),
    ),
    "cohere": Dialect(
        _built_in("cohere"),
        _all("<|START_ACTION|>[", "]<|END_ACTION|>", _cohere, ", "),
        ("", "<|END_THINKING|>"),
        text=("<|START_TEXT|>", "<|END_TEXT|>"),
    ),
    "glm-4.7": Dialect(
        _built_in("glm-4.7"),
        _each("<tool_call>", "</tool_call>", _key_value),
        ("", "</think>"),
    ),
}
