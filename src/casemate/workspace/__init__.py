"""The workspace: the change set a session leaves, and its review, apply and undo."""
