"""The checks of a variant by name, in the order in which they are shown and run."""

from __future__ import annotations

from collections.abc import Callable

from ganzoo.conformance import variant_checks as of_variant
from ganzoo.conformance.augmentation_checks import augmentation
from ganzoo.conformance.colour_checks import three_channels
from ganzoo.conformance.course_checks import resumes, state_moves
from ganzoo.conformance.drawing_checks import seeded_drawing
from ganzoo.conformance.player_checks import averages, frozen_weights, lazy_correction, updated_or_frozen
from ganzoo.conformance.trial import Trial

Check = Callable[[Trial], None]
"""A check returns, or raises `Failed` or `Skipped`."""

CHECKS: dict[str, Check] = {
    function.__name__.replace("_", "-"): function
    for function in (
        of_variant.runs,
        of_variant.leaves_settings,
        of_variant.shapes,
        of_variant.finite_terms,
        of_variant.updates,
        updated_or_frozen,
        frozen_weights,
        averages,
        lazy_correction,
        of_variant.penalty_gradients,
        augmentation,
        state_moves,
        of_variant.captured_gradients,
        of_variant.compiled_gradients,
        of_variant.same_bits,
        resumes,
        of_variant.no_host_sync_in_a_phase,
        of_variant.batch_independence,
        seeded_drawing,
        of_variant.state_dict,
        of_variant.json_spec,
        of_variant.memory_formats,
        three_channels,
        of_variant.learns,
    )
}
"""All others need the first. Their names are those of the functions, with dashes."""
