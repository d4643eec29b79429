"""The catalog of models: which references it finds, and which models are remote."""

import msgspec
import pytest
from eudai_server.core.errors import CloudDisabledError, ModelNotFoundError
from eudai_server.core.model_name import model_name_from
from eudai_server.ollama.state.catalog import Catalog
from eudai_server.ollama.wire.models import ListedModel
from eudai_server.ollama.wire.server import cloud_enabled_from


def catalog_of(*models: dict[str, object]) -> Catalog:
    """A catalog that was updated with these rows."""
    catalog = Catalog()
    catalog.update(msgspec.convert(models, list[ListedModel]), ())
    return catalog


@pytest.mark.parametrize("model", ["Foo", "foo:latest", "library/foo", "foo:local"])
def test_a_local_model_is_found_by_every_spelling(model: str) -> None:
    facts = catalog_of({"name": "foo:latest", "digest": "ab"}).require_model(model_name_from(model))

    assert (facts.name, facts.digest) == ("foo:latest", "sha256:ab")


def test_an_unknown_model_is_not_found() -> None:
    with pytest.raises(ModelNotFoundError):
        catalog_of({"name": "foo:latest"}).require_model(model_name_from("foo:1b"))


@pytest.mark.parametrize(
    "fact", [{"remote_host": "https://ollama.com:443"}, {"remote_model": "big"}]
)
def test_a_remote_model_is_refused(fact: dict[str, object]) -> None:
    catalog = catalog_of({"name": "foo:latest", **fact})

    with pytest.raises(CloudDisabledError):
        catalog.require_model(model_name_from("foo"))
    with pytest.raises(CloudDisabledError):
        catalog.check_digest(model_name_from("foo"), "")
    assert not catalog.names


@pytest.mark.parametrize("model", ["foo:cloud", "foo:1b-cloud"])
def test_a_cloud_name_is_refused_even_if_it_is_listed(model: str) -> None:
    with pytest.raises(CloudDisabledError):
        catalog_of({"name": model, "digest": "ab"}).require_model(model_name_from(model))


def test_a_listed_model_without_a_valid_name_is_never_found() -> None:
    catalog = catalog_of({"name": "foo:local", "digest": "ab"})

    with pytest.raises(ModelNotFoundError):
        catalog.require_model(model_name_from("foo:local"))
    assert not catalog.names


@pytest.mark.parametrize(
    ("body", "enabled"),
    [
        (b'{"cloud":{"disabled":true,"source":"env"}}', False),
        (b'{"cloud":{"disabled":false}}', True),
        (b"{}", None),
        (b"404 page not found", None),
        (b'{"cloud":{"disabled":"no"}}', None),
        (b"\xff", None),
    ],
)
def test_the_cloud_is_enabled_disabled_or_unknown(body: bytes, enabled: bool | None) -> None:
    assert cloud_enabled_from(body) is enabled
