"""Sans-IO IPMI 2.0: bytes in, bytes and events out; time is an argument."""
