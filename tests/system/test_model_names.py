"""The real Ollama reads model references as the server does, on every route that accepts one."""

import json
from collections.abc import Iterator

import httpx
import pytest
from eudai_server.core.errors import CloudDisabledError
from eudai_server.core.generation import Generation, Prompt
from eudai_server.core.model_name import InvalidModelNameError, model_name_from
from eudai_server.ollama.wire.requests import request_from
from hypothesis import HealthCheck, given, settings, strategies as st
from model_names import VECTORS, reading_of

READINGS: dict[str, str] = json.loads(VECTORS.read_text())
PIECES = [
    *"aB1-_.:/@ é",
    "foo",
    "org/",
    "h.x/",
    "h:1/",
    "http://",
    "registry.ollama.ai/",
    "library/",
]
SOURCES = [":local", ":cloud", "-cloud", ":LOCAL", ": cloud "]
references = st.lists(st.sampled_from([*PIECES, *SOURCES]), max_size=7).map("".join)
# No two share a part, because Ollama keeps the case in which it first saw a part.
COPIES = ["Eudai-A", "Eudai-B/Copy:T.1", "eudai.test:1/Some/Eudai-C:Q4", "library/x/eudai-d"]


@pytest.fixture
def post(real_url: str) -> Iterator[httpx.Client]:
    """A client of the real Ollama."""
    with httpx.Client(base_url=real_url, trust_env=False, timeout=30) as client:
        yield client


@pytest.mark.parametrize("reference", READINGS)
def test_the_recorded_readings_are_those_of_ollama(real_url: str, reference: str) -> None:
    assert reading_of(real_url, reference) == READINGS[reference]


@given(references)
@settings(max_examples=300, suppress_health_check=list(HealthCheck))
def test_an_accepted_reference_is_the_same_model_in_ollama(real_url: str, reference: str) -> None:
    reading = reading_of(real_url, reference)
    try:
        ours = model_name_from(reference).key
    except CloudDisabledError:
        ours = "cloud"
    except InvalidModelNameError:
        assert reading == "invalid" or "://" in reference
        return

    assert ours == reading.lower()


@pytest.mark.parametrize(
    "listed",
    sorted({reading for reading in READINGS.values() if ":" in reading and len(reading) < 255}),
)
def test_the_name_that_is_sent_is_valid_on_every_route(post: httpx.Client, listed: str) -> None:
    generation = Generation(id="", model=model_name_from(listed), input=Prompt("x"))
    request = request_from(generation, can_think=False)
    answers = [
        post.post(request.route, content=request.body),
        post.post("/api/embed", json={"model": f"{listed}:local", "input": "x"}),
        post.post("/api/copy", json={"source": listed, "destination": "eudai-e"}),
        post.post("/api/copy", json={"source": "eudai-e", "destination": listed}),
        post.request("DELETE", "/api/delete", json={"model": listed}),
    ]

    # An invalid name is 400, except on the first two routes, whose message repeats it.
    assert [answer.status_code for answer in answers] == [404] * 5
    assert not any("invalid" in answer.text for answer in answers)


def test_a_model_is_listed_by_its_listed_name(post: httpx.Client) -> None:
    expected = {model_name_from(each).listed for each in COPIES}
    try:
        for name in expected:
            post.post("/api/copy", json={"source": "all-minilm:latest", "destination": name})
        rows = {row["name"] for row in post.get("/api/tags").json()["models"]}
    finally:
        for name in expected:
            post.request("DELETE", "/api/delete", json={"model": name})

    assert expected <= rows
