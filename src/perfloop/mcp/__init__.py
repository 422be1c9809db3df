"""The same verbs as tools for coding agents, over stdio or HTTP on loopback."""
