"""The agent: what runs in the container, and how it is built and started.

    supervisor (PID 1)     owns the listening sockets, lends them, restarts its children
    ├── control            talks to Docker and to people: watch → inventory → workers; API; dialer
    └── worker × n         front door and DNS
    dialer                 another container, in the engine's network namespace: creates sockets

Every room below is wired here; this is the composition root inside the container.
"""
