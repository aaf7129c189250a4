"""Transparent mode: a TUN device on the host, routed through the agent.

Empty on purpose: nothing of it is built yet. The room stands so that its place in the
layering (beside proxy and dns, above core) is enforced from the first day.
"""
