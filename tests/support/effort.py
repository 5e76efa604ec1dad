"""How many examples a property is tried with: a third of them, unless `tools/test --all` asks for all."""

import os


def examples(all_of_them: int) -> int:
    """The number for this run. They are others in each."""
    return all_of_them if "PYKEXEC_TEST_ALL" in os.environ else max(10, all_of_them // 3)
