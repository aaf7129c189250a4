"""The floor of the house: what every room may know.

Errors, addresses, the inventory (our picture of Docker), the agent's configuration and
every bound in the product. Standard library only; nothing here performs I/O.
"""
