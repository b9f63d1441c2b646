"""The template language of flows of edition 2, whose values have types.

Everything here is pure: time, chance and data are arguments (`Runtime`), cost is bounded
(`Limits`).
"""
