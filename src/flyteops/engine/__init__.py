"""The engine: computes the outcome of an event for the flows that listen to it.

Pure and deterministic. `evaluation` evaluates, `compiled` has compiled flows and their index,
`join` the dependencies of steps, `context` all other inputs, `completion` the rules for results.
"""
