"""PAI-Rec's black-box cases, run against the public code: `python -m tests.contract CASES.json`."""
