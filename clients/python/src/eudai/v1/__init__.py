"""Stubs of eudai.v1, generated from proto/eudai/v1 by `make generate`."""
