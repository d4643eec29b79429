"""Converts messages of the contract to requests of the core and back. No I/O."""
