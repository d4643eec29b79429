"""Shares one pull of a model between all callers who ask for it."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from eudai_server.core.errors import Reason, ServiceError
from eudai_server.core.model_name import ModelName
from eudai_server.core.models import Pull, Transfer

Start = Callable[[], AsyncGenerator[Transfer, None]]


class _SharedPull:
    """One pull and its progress."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.task: asyncio.Task[None]
        self.followers = 0
        self.detached = False
        # Whether it was cancelled. It may still be closing its connection.
        self.is_cancelled = False
        self.latest: Transfer | None = None
        self.changed = asyncio.Event()

    def notify(self) -> None:
        """Wake all followers that wait for a change."""
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    async def cancel(self) -> None:
        """Cancel the pull; returns when its connection is closed."""
        self.is_cancelled = True
        self.task.cancel()
        await asyncio.wait((self.task,))


class SharedPulls:
    """The running pulls."""

    def __init__(self) -> None:
        """Start without pulls."""
        self._running: dict[str, _SharedPull] = {}

    async def follow(
        self, model: ModelName, start: Start, *, detach: bool
    ) -> AsyncGenerator[Transfer, None]:
        """Yield progress to the end. Raises the pull's errors.

        The pull is cancelled when its last follower leaves, unless one has detached it.
        """
        pull = await self._find(model, start)
        pull.followers += 1
        pull.detached = pull.detached or detach
        seen = None
        try:
            while True:
                changed = pull.changed
                if pull.latest is not seen and pull.latest is not None:
                    seen = pull.latest
                    yield seen
                elif pull.task.done():
                    _raise_failure(pull)
                    return
                else:
                    await changed.wait()
        finally:
            pull.followers -= 1
            if not (pull.followers or pull.detached or pull.task.done()):
                await pull.cancel()

    def list(self) -> Sequence[Pull]:
        """The running pulls, sorted by model."""
        pulls = (
            Pull(
                model=pull.model,
                progress=pull.latest,
                detached=pull.detached,
                callers=pull.followers,
            )
            for pull in self._running.values()
            if not pull.is_cancelled
        )
        return sorted(pulls, key=lambda pull: pull.model)

    async def cancel(self, model: ModelName) -> None:
        """Cancel a pull for all followers. Raises PULL_NOT_FOUND."""
        pull = self._running.get(model.key)
        if pull is None or pull.is_cancelled:
            raise ServiceError(
                Reason.PULL_NOT_FOUND, f"no pull of model {model.listed!r} is running"
            )
        await pull.cancel()

    async def close(self) -> None:
        """Cancel all pulls."""
        await asyncio.gather(*(pull.cancel() for pull in list(self._running.values())))

    async def _find(self, model: ModelName, start: Start) -> _SharedPull:
        """The running pull of a model, or a new one."""
        pull = self._running.get(model.key)
        while pull is not None and pull.is_cancelled:
            await asyncio.wait((pull.task,))
            pull = self._running.get(model.key)
        if pull is None:
            pull = self._running[model.key] = _SharedPull(model.listed)
            pull.task = asyncio.create_task(_run(pull, start), name=f"pull {model.key}")
            pull.task.add_done_callback(lambda _: self._end(model.key))
        return pull

    def _end(self, key: str) -> None:
        pull = self._running.pop(key)
        if not pull.task.cancelled():
            pull.task.exception()  # mark it as retrieved, even if nobody follows
        pull.notify()


async def _run(pull: _SharedPull, start: Start) -> None:
    async with aclosing(start()) as transfers:
        async for transfer in transfers:
            pull.latest = transfer
            pull.notify()


def _raise_failure(pull: _SharedPull) -> None:
    """Raise the failure of a pull that has ended, if it failed."""
    if pull.task.cancelled():
        raise ServiceError(
            Reason.PULL_CANCELLED,
            "the pull was cancelled with CancelPull; pull the model again to continue it",
        )
    pull.task.result()
