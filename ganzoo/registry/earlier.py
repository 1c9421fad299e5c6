"""What a plugin of version 1 of the language is told, whose words this version no longer has."""

from __future__ import annotations

import re

ADVICE = {
    "uses_fakes": "leave it out, for what a function does not name is not computed",
    "discriminator_optimizer": "write optimizers={'discriminator': …}",
}
"""Arguments of version 1, and what stands in their place."""

INPUTS_ALONE = "labels ride along in the inputs: write {0}(discriminator, real, …) and its coefficients by name"

_UNEXPECTED = re.compile(r"unexpected keyword argument '(\w+)'")
_HELPER = re.compile(r"\b(r1|r2|gradient_penalty)\(\) (?:takes|got|missing)")


def advice_for(error: BaseException) -> str:
    """What to change where an error comes from words of version 1, to stand behind it; empty for any other error."""
    if not isinstance(error, TypeError):
        return ""
    if (unexpected := _UNEXPECTED.search(str(error))) and unexpected[1] in ADVICE:
        return f" (of version 1 of the language; {ADVICE[unexpected[1]]})"
    if helper := _HELPER.search(str(error)):
        return f" ({INPUTS_ALONE.format(helper[1])})"
    return ""
