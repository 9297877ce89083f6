"""Real services for tests, each in a process of its own on loopback ports, with its data in a temporary folder.

`bash tests/services/provide.sh` installs what this machine lacks; without it the tests that need a service are
skipped and say what is missing. `.ci/run` sets `PAIREC_SERVICES_REQUIRED` after it has installed everything: from
then on a missing service is a failure, not a skip.
"""
