"""The host's composition root: arguments, exit codes, and the words a person reads.

Each command is a small module; ``main`` knows the options and nothing else. The command line
speaks to Docker through ``agent.docker.engine`` and to a running agent over its front door.
"""
