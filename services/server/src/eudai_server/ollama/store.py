"""Manages models in Ollama: implements the port `Store`."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Coroutine, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import TypeVar

import msgspec

from eudai_server.core.errors import CloudDisabledError, ModelNotFoundError, Reason, ServiceError
from eudai_server.core.generation import LoadOptions
from eudai_server.core.model_name import ModelName, is_reachable
from eudai_server.core.models import Capability, Creation, Description, Model, Transfer
from eudai_server.ollama.shared_pull import Sharing
from eudai_server.ollama.state.ollama_state import OllamaState
from eudai_server.ollama.transport.client import BODY_BYTES_MAX
from eudai_server.ollama.upload import Upload
from eudai_server.ollama.wire.error_texts import blob_not_found
from eudai_server.ollama.wire.models import listed_models, model_description, models_from
from eudai_server.ollama.wire.requests import create_request_from, unload_request_from
from eudai_server.ollama.wire.transfer_stream import TransferDecoder

# More than a list or a description needs, which are read from disk.
TIMEOUT_S = 30.0
UNLOAD_POLL_S = 0.1
# The number of concurrent descriptions while a list is built.
DESCRIBED_AT_ONCE = 4
DESCRIBED_MAX = 4096
# Ollama sends nothing while it verifies the digest of a layer, converts a model or writes it, which
# takes long for a large model on a slow disk.
WORK_TIMEOUT_S = 3600.0
# Templates and licenses have some kilobytes; the vocabulary in a verbose answer has about ten
# megabytes.
SHOW_BYTES_MAX = 8 << 20
VERBOSE_SHOW_BYTES_MAX = 32 << 20
# The capabilities of a model that Ollama did not describe.
UNKNOWN = frozenset({Capability.UNSPECIFIED})

T = TypeVar("T")


class OllamaStore:
    """A Store that uses one Ollama."""

    def __init__(
        self,
        state: OllamaState,
        *,
        load_timeout_s: float,
        event_timeout_s: float,
    ) -> None:
        """`event_timeout_s` limits the silence of a transfer.

        `load_timeout_s` limits a load and an unload.
        """
        self._state = state
        self._load_timeout_s = load_timeout_s
        self._event_timeout_s = event_timeout_s
        self._pulls = Sharing()
        # By digest, because a name may be given to another model.
        self._capabilities: dict[str, frozenset[Capability]] = {}

    async def list(self) -> Sequence[Model]:
        """See `Store.list`."""
        rows = [row for row in await self._rows() if not row.remote and is_reachable(row.name)]
        known = dict(self._capabilities)
        gate = asyncio.Semaphore(DESCRIBED_AT_ONCE)

        async def describe(row: Model) -> None:
            async with gate:
                with suppress(ServiceError):
                    description = await self._describe(row, verbose=False)
                    known[row.digest] = description.model.capabilities

        with suppress(TimeoutError):  # the next list continues where this one ends
            async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as group:
                for row in rows:
                    if row.digest not in known:
                        group.create_task(describe(row))
        return [replace(row, capabilities=known.get(row.digest, UNKNOWN)) for row in rows]

    async def describe(self, model: ModelName, *, verbose: bool) -> Description:
        """See `Store.describe`."""
        return await self._describe(await self._row(model), verbose=verbose)

    async def copy(self, source: ModelName, destination: ModelName) -> None:
        """See `Store.copy`."""
        await self._row(source)
        body: dict[str, object] = {"source": source.listed, "destination": destination.listed}
        await self._fetch("POST", "/api/copy", body, model=source.listed)
        await self._refresh()

    async def delete(self, model: ModelName) -> None:
        """See `Store.delete`."""
        await self._fetch("DELETE", "/api/delete", {"model": model.listed}, model=model.listed)
        self._state.loader.forget(model.listed)
        await self._refresh()

    async def load(self, model: ModelName, load: LoadOptions) -> None:
        """See `Store.load`."""
        capabilities = (await self.describe(model, verbose=False)).model.capabilities
        embeds = Capability.EMBEDDING in capabilities and Capability.COMPLETION not in capabilities
        await self._state.loader.load(model.listed, load, embeds=embeds)

    async def unload(self, model: ModelName) -> None:
        """See `Store.unload`."""
        name = model.listed
        route, body = unload_request_from(name)
        try:
            async with asyncio.timeout(self._load_timeout_s), self._state.hangs.undisturbed(name):
                await self._row(model)
                await self._call("POST", route, body, model=name, vital=True)
                self._state.loader.forget(name)
                while (await self._row(model)).loaded:  # noqa: ASYNC110 - in another process
                    await asyncio.sleep(UNLOAD_POLL_S)
                await self._refresh()
        except TimeoutError:
            raise ServiceError(
                Reason.BACKEND_STALLED,
                f"the model is still loaded after {self._load_timeout_s:g} s because it is in use",
            ) from None
        except ServiceError as error:
            error.may_have_run = True  # the operation itself succeeded
            raise

    async def pull(
        self, model: ModelName, *, insecure: bool, detach: bool
    ) -> AsyncGenerator[Transfer, None]:
        """See `Store.pull`."""
        following = self._pulls.follow(
            model.key, lambda: self._download(model, insecure=insecure), detach=detach
        )
        async with aclosing(following) as transfers:
            async for transfer in transfers:
                yield transfer

    async def push(self, model: ModelName, *, insecure: bool) -> AsyncGenerator[Transfer, None]:
        """See `Store.push`."""
        await self._row(model)
        body = {"model": model.listed, "insecure": insecure}
        async with aclosing(self._transfer("/api/push", body, model.listed)) as transfers:
            async for transfer in transfers:
                yield transfer

    async def create(self, creation: Creation) -> AsyncGenerator[Transfer, None]:
        """See `Store.create`."""
        if creation.base_model:
            # Ollama would pull a missing base model, which the caller did not ask for.
            await self._row(creation.base_model)
        for digest in (*creation.files.values(), *creation.adapters.values()):
            if not await self.has_blob(digest):
                raise blob_not_found(digest)
        route, body = create_request_from(creation)
        async with aclosing(self._transfer(route, body, creation.model.listed)) as transfers:
            async for transfer in transfers:
                yield transfer
        self._state.loader.forget(creation.model.listed)
        await self._refresh()

    async def has_blob(self, digest: str) -> bool:
        """See `Store.has_blob`."""
        try:
            await self._call("HEAD", f"/api/blobs/{digest}")
        except ServiceError as error:
            if error.reason in (Reason.BACKEND_UNSUPPORTED, Reason.MODEL_NOT_FOUND):
                return False
            raise
        return True

    async def upload(self, digest: str, data: AsyncIterable[bytes]) -> int:
        """See `Store.upload`."""
        limit = asyncio.timeout(None)
        upload = Upload(digest, data, limit, self._event_timeout_s)
        try:
            async with limit:
                await self._state.client.fetch("POST", f"/api/blobs/{digest}", upload.checked())
        except TimeoutError:
            raise _stalled(self._event_timeout_s) from None
        except ServiceError:
            if upload.failure:
                raise upload.failure from None
            raise
        return upload.size_bytes

    async def close(self) -> None:
        """Cancel the running pulls."""
        await self._pulls.close()

    async def _rows(self) -> Sequence[Model]:
        present = listed_models(await self._call("GET", "/api/tags"))
        return models_from(present, listed_models(await self._call("GET", "/api/ps")))

    async def _row(self, model: ModelName) -> Model:
        rows = await self._rows()
        found = next((row for row in rows if row.name.lower() == model.key), None)
        if found is None:
            raise ModelNotFoundError(model.listed)
        if found.remote:
            raise CloudDisabledError(model.listed)
        return found

    async def _describe(self, row: Model, *, verbose: bool) -> Description:
        plain = await self._show(row.name, SHOW_BYTES_MAX)
        full = await self._show(row.name, VERBOSE_SHOW_BYTES_MAX, verbose=True) if verbose else b""
        description = model_description(plain, row, full)
        if len(self._capabilities) >= DESCRIBED_MAX:
            self._capabilities.clear()
        self._capabilities[row.digest] = description.model.capabilities
        return description

    async def _show(self, model: str, bytes_max: int, *, verbose: bool = False) -> bytes:
        body = msgspec.json.encode({"model": model, "verbose": verbose})
        return await self._call("POST", "/api/show", body, model=model, bytes_max=bytes_max)

    async def _download(
        self, model: ModelName, *, insecure: bool
    ) -> AsyncGenerator[Transfer, None]:
        body = {"model": model.listed, "insecure": insecure}
        async with aclosing(self._transfer("/api/pull", body, model.listed)) as transfers:
            async for transfer in transfers:
                yield transfer
        await self._refresh()

    async def _transfer(
        self, route: str, body: dict[str, object] | bytes, model: str
    ) -> AsyncGenerator[Transfer, None]:
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        decoder = TransferDecoder(model)
        opening = self._state.client.open("POST", route, data, model=model)
        async with await self._within(self._event_timeout_s, opening) as answer:
            while True:
                work_s = WORK_TIMEOUT_S if decoder.is_working else 0.0
                chunk = await self._within(max(work_s, self._event_timeout_s), answer.read())
                if not chunk:
                    break
                transfer = decoder.feed(chunk)
                if transfer:
                    yield transfer
        decoder.close()

    async def _within(self, limit_s: float, step: Coroutine[None, None, T]) -> T:
        try:
            async with asyncio.timeout(limit_s):
                return await step
        except TimeoutError:
            raise _stalled(limit_s) from None

    async def _fetch(
        self, method: str, route: str, body: dict[str, object], *, model: str
    ) -> bytes:
        return await self._call(method, route, msgspec.json.encode(body), model=model)

    async def _call(
        self,
        method: str,
        route: str,
        body: bytes | None = None,
        *,
        model: str = "",
        vital: bool = False,
        bytes_max: int = BODY_BYTES_MAX,
    ) -> bytes:
        self._state.probe.require_up()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._state.client.fetch(
                    method, route, body, model=model, vital=vital, bytes_max=bytes_max
                )
        except TimeoutError:
            raise ServiceError(
                Reason.BACKEND_STALLED, f"Ollama did not answer within {TIMEOUT_S:g} s"
            ) from None

    async def _refresh(self) -> None:
        """Probe now, so that health and the next call see the change."""
        try:
            await self._state.probe.refresh()
        except (ServiceError, TimeoutError):
            return  # the next probe will show it


def _stalled(limit_s: float) -> ServiceError:
    return ServiceError(
        Reason.BACKEND_STALLED, f"Ollama neither read nor sent data for {limit_s:g} s"
    )
