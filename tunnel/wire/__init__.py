"""Link frames and IP packets as bytes: no I/O, no clock. Addresses are packed bytes: 4 or 16, in network byte order.

What comes off a wire and breaks its protocol raises MalformedMessage; what our own code must not ask for, ValueError.
"""
