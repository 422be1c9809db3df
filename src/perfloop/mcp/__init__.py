"""The same verbs as read-only tools for coding agents, over stdio."""
