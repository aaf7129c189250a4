"""DNS on the wire: bytes in, messages and bytes out, no I/O."""
