"""Async I/O behind small Protocols. One exchange a call; no policy."""
