"""Transparent mode: a TUN device on the host, routed through the agent.

Its foundation, that is: frames, packets and devices stand, and nothing moves packets yet.
"""
