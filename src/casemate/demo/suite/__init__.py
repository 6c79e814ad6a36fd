"""A part of casemate's tests for the standard library's unittest: what the demonstration runs."""
