"""Programs that use pykexec as a library. Each can be run, as python3 -m pykexec.examples.plan_and_print."""
