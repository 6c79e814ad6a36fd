"""`casemate bench`: what the perimeter costs on this machine, as ratios within one run.

`figures` is the form of a result; `rounds` interleaves what is compared. Measured are `startup`,
`files`, `memory` and `large`, each on a project made by `fixture`; `report` shows the outcome.
"""
