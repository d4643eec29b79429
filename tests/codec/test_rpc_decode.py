"""Decoding requests: the result is a Generation or a ServiceError, and nothing else."""

from eudai.v1 import generation_service_pb2 as pb, options_pb2
from eudai_server.core.errors import ServiceError
from eudai_server.core.generation import Generation
from eudai_server.rpc.wire.generation_request import generation_from
from eudai_server.rpc.wire.generation_violations import generation_violations
from eudai_server.rpc.wire.parsing import parse
from eudai_server.rpc.wire.references import References
from eudai_server.rpc.wire.request_schemas import RequestSchemas
from hypothesis import given, settings, strategies as st


@settings(max_examples=1500)
@given(st.binary(max_size=200))
def test_any_bytes_give_a_generation_or_a_service_error(data: bytes) -> None:
    try:
        request = parse(pb.GenerateRequest, data)
        generation = generation_from(request, id="g", arrived_s=0.0, load_options=True)
    except ServiceError:
        return

    assert isinstance(generation, Generation)


@settings(max_examples=500)
@given(
    st.sampled_from(
        sorted(
            field.name
            for field in options_pb2.SamplingOptions.DESCRIPTOR.fields
            if field.name != "seed"
        )
    ),
    st.one_of(st.integers(-(2**31), 2**31 - 1), st.floats()),
)
def test_a_sampling_value_is_accepted_or_its_field_is_named(name: str, value: float) -> None:
    sampling = options_pb2.SamplingOptions()
    try:
        setattr(sampling, name, value)
    except TypeError:
        return
    request = pb.GenerateRequest(model="m", prompt="x", sampling=sampling)
    fields = [
        violation.field
        for violation in generation_violations(request, RequestSchemas(), References())
    ]

    assert fields in ([], [f"sampling.{name}"])
    if not fields:
        assert generation_from(request, id="g", arrived_s=0.0, load_options=True).sampling == {
            name: getattr(sampling, name)
        }


def test_every_sampling_and_load_field_is_decoded() -> None:
    sampling = options_pb2.SamplingOptions(
        **{field.name: 1 for field in options_pb2.SamplingOptions.DESCRIPTOR.fields}
    )
    load = options_pb2.LoadOptions(
        **{  # type: ignore[arg-type]
            field.name: 4
            for field in options_pb2.LoadOptions.DESCRIPTOR.fields
            if field.name != "keep_alive"
        }
    )
    load.keep_alive.seconds = 60
    request = pb.GenerateRequest(model="m", prompt="x", sampling=sampling, load=load)
    generation = generation_from(request, id="g", arrived_s=0.0, load_options=True)

    assert len(generation.sampling) == len(sampling.ListFields())
    assert len(generation.load.options) == len(load.ListFields()) - 1
    assert generation.load.keep_alive_s == 60


def test_zero_differs_from_unset() -> None:
    request = pb.GenerateRequest(
        model="m", prompt="x", sampling=options_pb2.SamplingOptions(temperature=0)
    )

    assert generation_from(request, id="g", arrived_s=0.0, load_options=False).sampling == {
        "temperature": 0
    }


def test_empty_load_options_need_no_permission() -> None:
    request = pb.GenerateRequest(model="m", prompt="x", load=options_pb2.LoadOptions())

    assert generation_from(request, id="g", arrived_s=0.0, load_options=False).load.options == ()
