"""Decides who a caller is and whether it may call an RPC, before its message is read."""
