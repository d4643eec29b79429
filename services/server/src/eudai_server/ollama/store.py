"""Manages models in Ollama: implements the port `Store`."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace

from eudai_server.core.errors import CloudDisabledError, ModelNotFoundError, Reason, ServiceError
from eudai_server.core.generation import LoadOptions
from eudai_server.core.model_name import ModelName, is_reachable
from eudai_server.core.models import Capability, Creation, Description, Model, Pull, Transfer
from eudai_server.ollama.shared_pull import SharedPulls
from eudai_server.ollama.state.model_request import ModelRequest
from eudai_server.ollama.state.ollama_state import OllamaState
from eudai_server.ollama.transport.client import BODY_BYTES_MAX
from eudai_server.ollama.transport.time_limit import time_limit
from eudai_server.ollama.upload import Upload
from eudai_server.ollama.wire.error_texts import blob_not_found
from eudai_server.ollama.wire.models import listed_models, model_description, models_from
from eudai_server.ollama.wire.requests import (
    Request,
    copy_request_from,
    create_request_from,
    delete_request_from,
    pull_request_from,
    push_request_from,
    show_request_from,
    unload_request_from,
)
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


class OllamaStore:
    """A Store that uses one Ollama."""

    def __init__(
        self,
        state: OllamaState,
        *,
        unload_timeout_s: float,
        event_timeout_s: float,
        upload_gib_max: int,
    ) -> None:
        """`event_timeout_s` limits the silence of a transfer."""
        self._state = state
        self._unload_timeout_s = unload_timeout_s
        self._event_timeout_s = event_timeout_s
        self._upload_gib_max = upload_gib_max
        self._pulls = SharedPulls()
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
        await self._fetch(copy_request_from(source, destination))
        await self._refresh()

    async def delete(self, model: ModelName) -> None:
        """See `Store.delete`."""
        await self._fetch(delete_request_from(model))
        self._state.loader.forget(model)
        await self._refresh()

    async def load(self, model: ModelName, load: LoadOptions) -> None:
        """See `Store.load`."""
        capabilities = (await self.describe(model, verbose=False)).model.capabilities
        embeds = Capability.EMBEDDING in capabilities and Capability.COMPLETION not in capabilities
        with ModelRequest(self._state, model, load, embeds=embeds) as request:
            await request.load()

    async def unload(self, model: ModelName) -> None:
        """See `Store.unload`."""
        hangs = self._state.hangs
        limit_s = self._unload_timeout_s
        message = f"the model is still loaded after {limit_s:g} s because it is in use"
        try:
            async with time_limit(limit_s, message), hangs.without_canary(model):
                await self._row(model)
                await self._fetch(unload_request_from(model), vital=True)
                self._state.loader.forget(model)
                while (await self._row(model)).loaded:  # noqa: ASYNC110 - in another process
                    await asyncio.sleep(UNLOAD_POLL_S)
                await self._refresh()
        except ServiceError as error:
            error.may_have_run = True  # the operation itself succeeded
            raise

    def pull(
        self, model: ModelName, *, insecure: bool, detach: bool
    ) -> AsyncGenerator[Transfer, None]:
        """See `Store.pull`."""
        return self._pulls.follow(
            model, lambda: self._download(model, insecure=insecure), detach=detach
        )

    def list_pulls(self) -> Sequence[Pull]:
        """See `Store.list_pulls`."""
        return self._pulls.list()

    async def cancel_pull(self, model: ModelName) -> None:
        """See `Store.cancel_pull`."""
        await self._pulls.cancel(model)

    async def push(self, model: ModelName, *, insecure: bool) -> AsyncGenerator[Transfer, None]:
        """See `Store.push`."""
        await self._row(model)
        async with aclosing(self._transfer(push_request_from(model, insecure=insecure))) as pushing:
            async for transfer in pushing:
                yield transfer

    async def create(self, creation: Creation) -> AsyncGenerator[Transfer, None]:
        """See `Store.create`."""
        if creation.base_model:
            # Ollama would pull a missing base model, which the caller did not ask for.
            await self._row(creation.base_model)
        for digest in (*creation.files.values(), *creation.adapters.values()):
            if not await self.has_blob(digest):
                raise blob_not_found(digest)
        async with aclosing(self._transfer(create_request_from(creation))) as transfers:
            async for transfer in transfers:
                yield transfer
        self._state.loader.forget(creation.model)
        await self._refresh()

    async def has_blob(self, digest: str) -> bool:
        """See `Store.has_blob`."""
        self._state.endpoint.require_up()  # a refused Ollama does not mean a missing blob
        try:
            await self._fetch(Request("HEAD", f"/api/blobs/{digest}"))
        except ServiceError as error:
            if error.reason in (Reason.BACKEND_UNSUPPORTED, Reason.MODEL_NOT_FOUND):
                return False
            raise
        return True

    async def upload(self, digest: str, data: AsyncIterable[bytes]) -> int:
        """See `Store.upload`."""
        async with time_limit(None, _silence(self._event_timeout_s)) as limit:
            upload = Upload(
                digest,
                data,
                limit,
                silence_s=self._event_timeout_s,
                gib_max=self._upload_gib_max,
            )
            try:
                await self._state.endpoint.fetch(
                    Request("POST", f"/api/blobs/{digest}", upload.checked())
                )
            except ServiceError:
                if upload.failure:
                    raise upload.failure from None
                raise
        return upload.size_bytes

    async def close(self) -> None:
        """Cancel the running pulls."""
        await self._pulls.close()

    async def _rows(self) -> Sequence[Model]:
        present = listed_models(await self._fetch(Request("GET", "/api/tags")))
        return models_from(present, listed_models(await self._fetch(Request("GET", "/api/ps"))))

    async def _row(self, model: ModelName) -> Model:
        rows = await self._rows()
        found = next((row for row in rows if row.name.lower() == model.key), None)
        if found is None:
            raise ModelNotFoundError(model.listed)
        if found.remote:
            raise CloudDisabledError(model.listed)
        return found

    async def _describe(self, row: Model, *, verbose: bool) -> Description:
        plain = await self._fetch(show_request_from(row.name), bytes_max=SHOW_BYTES_MAX)
        full = b""
        if verbose:
            full = await self._fetch(
                show_request_from(row.name, verbose=True), bytes_max=VERBOSE_SHOW_BYTES_MAX
            )
        description = model_description(plain, row, full)
        if len(self._capabilities) >= DESCRIBED_MAX:
            self._capabilities.clear()
        self._capabilities[row.digest] = description.model.capabilities
        return description

    async def _download(
        self, model: ModelName, *, insecure: bool
    ) -> AsyncGenerator[Transfer, None]:
        async with aclosing(self._transfer(pull_request_from(model, insecure=insecure))) as pulling:
            async for transfer in pulling:
                yield transfer
        await self._refresh()

    async def _transfer(self, request: Request) -> AsyncGenerator[Transfer, None]:
        self._state.endpoint.require_up()
        decoder = TransferDecoder(request.model)
        async with time_limit(self._event_timeout_s, _silence(self._event_timeout_s)):
            answer = await self._state.endpoint.open(request)
        async with answer:
            while True:
                work_s = WORK_TIMEOUT_S if decoder.is_working else 0.0
                data = await answer.read(max(work_s, self._event_timeout_s))
                if not data:
                    break
                transfer = decoder.feed(data)
                if transfer:
                    yield transfer
        decoder.close()

    async def _fetch(
        self, request: Request, *, vital: bool = False, bytes_max: int = BODY_BYTES_MAX
    ) -> bytes:
        self._state.endpoint.require_up()
        async with time_limit(TIMEOUT_S, f"Ollama did not answer within {TIMEOUT_S:g} s"):
            return await self._state.endpoint.fetch(request, vital=vital, bytes_max=bytes_max)

    async def _refresh(self) -> None:
        """Probe now, so that health and the next call see the change."""
        try:
            await self._state.probe.refresh()
        except ServiceError:
            return  # the next probe will show it


def _silence(limit_s: float) -> str:
    return f"Ollama neither read nor sent data for {limit_s:g} s"
