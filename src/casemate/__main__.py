"""`python -I -m casemate`, for where the script is not on PATH."""

from casemate.cli.main import main

raise SystemExit(main())
