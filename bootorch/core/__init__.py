"""Pure core: model, graph, plan, events, state and engine. No I/O, no clock, no randomness."""
