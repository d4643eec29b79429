"""How long the output of a generation gathers: nothing unless the process is busy."""

from eudai_server.ollama.state.gathering import (
    NEWCOMERS_UNNOTICED,
    PAUSE_MAX_S,
    PAUSE_MIN_S,
    PAUSE_PER_NEWCOMER_S,
    SAMPLE_S,
    Gathering,
)

# A little more than a sample, because sums of fractions are not exact.
TICK_S = 1.01 * SAMPLE_S


class Clocks:
    """A wall clock and a CPU clock that a test moves."""

    def __init__(self) -> None:
        self.wall_s = self.cpu_s = 100.0

    def run(self, seconds: float, share: float) -> None:
        """Let time pass while the process uses this share of a CPU."""
        self.wall_s += seconds
        self.cpu_s += seconds * share


def gathering() -> tuple[Gathering, Clocks]:
    clocks = Clocks()
    return Gathering(lambda: clocks.wall_s, lambda: clocks.cpu_s), clocks


def pauses(one: Gathering, clocks: Clocks, share: float, count: int) -> list[float]:
    """The pauses of an old stream after each of `count` samples."""
    with one.stream() as stream:
        stream.observe_output()
        clocks.run(10, 0.0)
        stream.pause_s()
        result = []
        for _ in range(count):
            clocks.run(TICK_S, share)
            result.append(stream.pause_s())
        return result


def test_nothing_gathers_at_low_load() -> None:
    assert pauses(*gathering(), share=0.6, count=50) == [0.0] * 50


def test_the_pause_grows_under_load_up_to_its_limit() -> None:
    grown = pauses(*gathering(), share=0.9, count=20)

    assert grown[0] == PAUSE_MIN_S
    assert grown == sorted(grown)
    assert grown[-1] == PAUSE_MAX_S


def test_the_pause_ends_after_the_load() -> None:
    one, clocks = gathering()
    pauses(one, clocks, share=0.9, count=20)

    assert pauses(one, clocks, share=0.1, count=1) == [0.0]


def test_the_pause_stays_while_the_load_is_between_the_thresholds() -> None:
    one, clocks = gathering()
    with one.stream() as stream:
        stream.observe_output()
        for share in [0.9] * 5 + [0.5] * 20:
            clocks.run(TICK_S, share)
            stream.pause_s()

        assert stream.pause_s() > PAUSE_MIN_S


def test_a_stream_without_output_never_gathers() -> None:
    one, clocks = gathering()
    pauses(one, clocks, share=0.9, count=20)
    with one.stream() as stream:
        clocks.run(1, 0.9)

        assert stream.pause_s() == 0.0


def test_a_young_stream_gathers_less() -> None:
    one, clocks = gathering()
    pauses(one, clocks, share=0.9, count=20)
    with one.stream() as stream:
        stream.observe_output()
        young = stream.pause_s()
        clocks.run(TICK_S, 0.9)
        older = stream.pause_s()

    assert young == 0.0
    assert 0.0 < older < PAUSE_MAX_S


def test_callers_without_output_lengthen_the_pause() -> None:
    one, clocks = gathering()
    with one.stream() as stream:
        stream.observe_output()
        clocks.run(10, 0.0)
        stream.pause_s()
        waiting = [one.stream() for _ in range(2 * NEWCOMERS_UNNOTICED)]
        for newcomer in waiting:
            newcomer.__enter__()
        idle = stream.pause_s()
        clocks.run(TICK_S, 0.9)
        busy = stream.pause_s()
        for newcomer in waiting:
            newcomer.__exit__(None, None, None)
        after = stream.pause_s()

    assert idle == 0.0
    assert busy == 2 * NEWCOMERS_UNNOTICED * PAUSE_PER_NEWCOMER_S
    assert after == PAUSE_MIN_S
