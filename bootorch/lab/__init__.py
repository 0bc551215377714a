"""The same fleet on real sockets of 127.0.0.0/8."""
