"""The options that every channel to an eudai server should use: service config and keepalive.

The service config (service_config.json, for clients in any language) retries only what the server
allows with grpc-retry-pushback-ms, and stops retrying while most calls fail, so that an outage does
not get worse.
"""

from pathlib import Path

KEEPALIVE_MS = 30_000  # the server allows a ping every 10 s
KEEPALIVE_TIMEOUT_MS = 10_000
RECEIVED_BYTES_MAX = 32 << 20  # GenerateOnce returns a whole generation in one message

SERVICE_CONFIG = Path(__file__).with_name("service_config.json").read_text()

CHANNEL_OPTIONS = (
    ("grpc.service_config", SERVICE_CONFIG),
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.max_receive_message_length", RECEIVED_BYTES_MAX),
)
