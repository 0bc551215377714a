"""Command line, terminal progress and report: views that read events and send commands."""
