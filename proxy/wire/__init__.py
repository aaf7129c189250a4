"""Codecs of the front door: bytes in, messages and bytes out, no I/O.

Every parser has one form: ``parse(buffer)`` returns ``(message, bytes consumed)``, or None when
more bytes are needed, or raises MalformedMessage. The caller owns the buffer and bounds it.
"""
