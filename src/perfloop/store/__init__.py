"""What is kept: runs in the project, the machine-wide journal of open changes, the audit log, and events that wait to be forwarded."""
