"""`casemate demo`: a stand-in agent let loose on a copy of a project, without and with casemate.

Read in this order: `attempts` (what is tried, and what counts as success), `decoys` (what it is
tried on), `project` (what the agent works on), `play` (the acts in order), `report` (the words).
The programs in `agent` run inside the sandbox and know nothing of casemate.
"""
