"""Which settings of runs make a row of a comparison, how tables show each, and which make a race."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RowSetting:
    """A setting of which each row of a comparison has one value, and all that is said of it anywhere.

    `short` is its head where room is scarce, `label` how it reads behind a variant's name where two rows of one variant
    and dataset differ in it: empty if it does not stand there. One that comes `with_machine` is no news between two
    machines. A `shared` one stands above a table where all rows agree in it.
    """

    name: str
    short: str = ""
    label: str = "{}"
    with_machine: bool = False
    shared: bool = True

    @property
    def head(self) -> str:
        """What tables for people call it."""
        return self.name.replace("_", " ")


ROW_SETTINGS = (
    RowSetting("variant", label="", shared=False),
    RowSetting("dataset", label=""),
    RowSetting("image_size", short="size", label="{} px"),
    RowSetting("kimg", label="{:g} kimg"),
    RowSetting("batch_size", short="batch", label="batch {}"),
    RowSetting("precision"),
    RowSetting("device", with_machine=True, shared=False),
    RowSetting("threads", label="{} threads", with_machine=True, shared=False),
    RowSetting("hardware"),
)
"""Records that agree in these, and whose specs otherwise differ in the seed only, are one row of a comparison.

In the order of DataFrames.
"""

RACE = ("dataset", "image_size", "kimg")
"""Rows that agree in these had the same images and the same budget.

They are told apart on one hardware at a time, for a variant that ran on several would count as several.
"""
