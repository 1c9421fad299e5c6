"""Third-party plugins: the healthy ones work, and the broken ones break nothing but themselves."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sys
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

import ganzoo
from ganzoo.errors import AmbiguousName, PluginError, UnknownName
from ganzoo.planning.plan import resolve
from ganzoo.planning.request import BenchPlan
from ganzoo.registry.discovery import discover
from ganzoo.registry.registry import KINDS, PluginStatus, Registry
from ganzoo.running.runner import run_plan
from ganzoo.running.wire import Failure, Outcome

BROKEN = {
    "import_error": "ModuleNotFoundError: No module named 'a_package_that_nobody_has'",
    "raises_on_import": "no licence found",
    "exits_on_import": "SystemExit: usage: train.py CONFIG",
    "exits_in_hook": "ganzoo_variants raised SystemExit",
    "speechless": "SpeechlessError",
    "misspelt_hook": "unknown hook 'ganzoo_variant'",
    "unknown_argument": "{'registry'}",
    "raising_hook": "ganzoo_variants raised KeyError: 'data/config.yaml'",
    "wrong_type": "it must yield Variant",
    "not_iterable": "ganzoo_variants raised TypeError: 'Variant' object is not iterable",
    "yields_class": "it must yield Reporter",
    "duplicate_names": "two records called 'sweep'",
    "inline_namesakes": "the loss 'weighted'; give them two names",
    "hook_wrapper": "ganzoo_variants is a hook wrapper",
    "undecorated": "put @ganzoo.hookimpl above",
    "escaping_name": "the name '../../escape'",
    "unprintable_name": "starts with a letter or digit",
    "careless_fields": "Variant 'careless'.batch_size is '64'; it must be int",
}
"""The error of each broken plugin that its status must name."""


@pytest.fixture
def no_entry_points(monkeypatch):
    """Load only the plugins that a test names: no zoo, and so no torch."""
    monkeypatch.setenv("GANZOO_PLUGINS", "")


def statuses_by_name(registry: Registry) -> dict[str, PluginStatus]:
    named = {status.name: status for status in registry.statuses}
    assert len(named) == len(registry.statuses), "two plugins have one name"
    return named


def offered_by(registry: Registry, plugin: str) -> list[str]:
    return [offer.record.name for kind in KINDS for offer in registry.offers[kind] if offer.plugin == plugin]


# --- broken plugins, one at a time -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_entry_points")
@pytest.mark.parametrize("name", BROKEN)
def test_broken_plugin_is_reported_and_registers_nothing(name, stranger):
    registry = discover([str(stranger("twins_a")), str(stranger(name)), str(stranger("healthy"))])
    named = statuses_by_name(registry)
    status = named[f"{name}.py"]
    assert status.state == "broken"
    assert BROKEN[name] in status.error
    assert status.error.isprintable(), "a stranger's message must not reach the terminal as it is"
    assert status.source == str(stranger(name))
    assert offered_by(registry, f"{name}.py") == []
    assert registry.observers == []
    # The plugins before and after it are unaffected.
    assert [named[f"{other}.py"].state for other in ("twins_a", "healthy")] == ["ok", "ok"]
    assert registry.names("variants") == ["healthy", "only-a", "twin"]
    assert registry.names("losses") == ["twin-loss"]


def test_every_broken_plugin_file_is_tried(stranger):
    registry = discover([str(path) for path in sorted(stranger("healthy").parent.glob("*.py"))])
    broken = {status.name.removesuffix(".py") for status in registry.statuses if status.state == "broken"}
    assert broken == set(BROKEN)


def test_a_file_with_a_syntax_error_is_broken_and_not_fatal(tmp_path, stranger):
    path = tmp_path / "unfinished.py"
    path.write_text("import ganzoo\n\ndef ganzoo_variants(:\n")
    registry = discover([str(path), str(stranger("healthy"))])
    status = statuses_by_name(registry)["unfinished.py"]
    assert status.state == "broken"
    assert "SyntaxError" in status.error
    assert "healthy" in registry.names("variants")


NAMES = [
    "",
    " ",
    "-rf",
    ".hidden",
    "a b",
    "a/b",
    "a,b",
    "a+b",
    "a=b",
    "a:b",
    "!a",
    "a*",
    "\u200bzero",
    "naïve",
    "x" * 65,
]


@pytest.mark.usefixtures("no_entry_points")
@pytest.mark.parametrize("name", [*NAMES, None, 7, b"bytes"])
@pytest.mark.parametrize("kind", ["Variant", "inline"])
def test_name_with_forbidden_characters_is_refused(name, kind, tmp_path):
    # `--models`, `--set` and the results folder parse names; an inline object has a name too.
    path = tmp_path / "named.py"
    given = f"{name!r}, architecture='dcgan', loss='hinge'"
    if kind == "inline":
        given = f"'fine', loss='hinge', architecture=ganzoo.Architecture({name!r}, lambda shape, latent, classes: None)"
    path.write_text(
        f"import ganzoo\n\n@ganzoo.hookimpl\ndef ganzoo_variants():\n    yield ganzoo.Variant({given})\n",
        encoding="utf-8",
    )
    (status,) = (status for status in discover([str(path)]).statuses if status.name == "named.py")
    assert status.state == "broken"
    assert "a name is up to 64 letters, digits" in status.error
    assert status.error.isprintable()


CARELESS = {
    "batch_size='64'": "batch_size",
    "batch_size=64.0": "batch_size",
    "batch_size=True": "batch_size",
    "penalties='r1'": "penalties",
    "penalties=(1,)": "penalties",
    "optimizer='adam'": "optimizer",
    "optimizer=ganzoo.Optimizer('adamz')": "optimizer.kind",
    "optimizer=ganzoo.Optimizer(learning_rate='2e-4')": "optimizer.learning_rate",
    "optimizer=ganzoo.Optimizer(betas=(0.5,))": "optimizer.betas",
    "rate_decay=ganzoo.Schedule('cosin')": "rate_decay.kind",
    "hyper={'clip': None}": "hyper",
    "hyper={7: 1.0}": "hyper",
    "schedules={'clip': 'linear'}": "schedules",
    "label_smoothing=None": "label_smoothing",
    "summary=None": "summary",
    "architecture=None": "architecture",
    "loss=ganzoo.Loss": "loss",
    "loss=ganzoo.Loss('empty')": "neither phases nor functions",
}


@pytest.mark.usefixtures("no_entry_points")
@pytest.mark.parametrize("given", CARELESS)
def test_field_of_the_wrong_type_is_a_plugin_error(given, tmp_path):
    path = tmp_path / "careless.py"
    defaults = "".join(f"{name}='dcgan', " for name in ("architecture", "loss") if not given.startswith(name))
    path.write_text(
        f"import ganzoo\n\n@ganzoo.hookimpl\ndef ganzoo_variants():\n    yield ganzoo.Variant('v', {defaults}{given})\n"
    )
    status = statuses_by_name(discover([str(path)]))["careless.py"]
    assert status.state == "broken"
    assert CARELESS[given] in status.error


@pytest.mark.usefixtures("no_entry_points")
def test_scores_have_names_that_are_text(tmp_path):
    (tmp_path / "numbered.py").write_text(
        "import ganzoo\n\n@ganzoo.hookimpl\ndef ganzoo_metrics():\n"
        "    yield ganzoo.Metric('numbered', lambda real, fake, settings: {7: 1.0}, better={7: 'lower'})\n"
    )
    registry = discover([str(tmp_path / "numbered.py")])
    status = statuses_by_name(registry)["numbered.py"]
    assert (status.state, offered_by(registry, "numbered.py")) == ("broken", [])
    assert "Metric 'numbered'.better is {7: 'lower'}" in status.error


# --- good plugins ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_entry_points")
def test_postponed_annotations_with_a_dataclass_load_from_a_path(stranger):
    registry = discover([str(stranger("postponed_annotations"))])
    assert statuses_by_name(registry)["postponed_annotations.py"].state == "ok"
    assert registry.names("variants") == ["postponed-narrow", "postponed-wide"]
    assert registry.get("variants", "postponed-wide").record.options == {"base_channels": 16}


@pytest.mark.usefixtures("no_entry_points")
def test_healthy_status_has_version_source_hooks_and_sha256(stranger):
    status = statuses_by_name(discover([str(stranger("twins_a"))]))["twins_a.py"]
    assert (status.name, status.source, status.version) == ("twins_a.py", str(stranger("twins_a")), None)
    assert status.hooks == ("ganzoo_losses", "ganzoo_variants")
    assert (status.state, status.error) == ("ok", None)
    assert len(status.source_sha256) == 64
    assert status.load_seconds > 0


@pytest.mark.usefixtures("no_entry_points")
def test_the_source_hash_follows_the_source(tmp_path, stranger):
    copy = tmp_path / "healthy.py"
    hashes = []
    for addition in ("", "\n# a comment\n"):
        copy.write_text(stranger("healthy").read_text() + addition)
        hashes.append(statuses_by_name(discover([str(copy)]))["healthy.py"].source_sha256)
    assert hashes[0] == statuses_by_name(discover([str(stranger("healthy"))]))["healthy.py"].source_sha256
    assert hashes[0] != hashes[1]


HIGHER_UP = """
from __future__ import annotations
from typing import TYPE_CHECKING

import ganzoo

try:
    from . import _fast
except ImportError:
    _fast = None
try:
    from .. import settings
except ImportError:
    settings = None
if TYPE_CHECKING:
    from .types import T

@ganzoo.hookimpl
def ganzoo_variants():
    yield ganzoo.Variant("higher-up", architecture="mlp", loss="hinge")
"""
"""A plugin that works in a package and as a single file."""


def test_single_file_plugin_may_try_a_relative_import(fake_distribution, invoke, tmp_path):
    fake_distribution("ganzoo-higher-up", {"higher-up": HIGHER_UP})
    (tmp_path / "as_a_file.py").write_text(HIGHER_UP)
    outcome = invoke("list", "variants", "--json", "--plugin", "as_a_file.py")
    assert (outcome.code, outcome.err) == (0, "")
    offered = {(entry["plugin"], entry["name"]) for entry in json.loads(outcome.out)}
    assert {("higher-up", "higher-up"), ("as_a_file.py", "higher-up"), ("dcgan", "dcgan")} <= offered
    assert all(status.source_sha256 for status in discover().statuses)


def test_plugin_without_a_hashable_source_is_broken_and_not_fatal(tmp_path, stranger):
    path = tmp_path / "odd_name.py"
    path.write_text(stranger("healthy").read_text() + "\n__file__ = 7\n")
    registry = discover([str(path), str(stranger("twins_a"))])
    named = statuses_by_name(registry)
    assert (named["odd_name.py"].state, named["twins_a.py"].state) == ("broken", "ok")
    assert "TypeError" in named["odd_name.py"].error
    assert offered_by(registry, "odd_name.py") == []
    # Nor does it stay among the modules, which `inspect` goes through for torch.compile.
    assert not [module for module in sys.modules.values() if getattr(module, "__file__", None) == 7]


LAZY = {
    "__init__": "",
    "plugin": """
import ganzoo

def build(image_shape, latent, classes):
    from lazy_gan.nets import networks
    return networks(image_shape, latent)

@ganzoo.hookimpl
def ganzoo_architectures():
    yield ganzoo.Architecture("lazy", build)
""",
    "second": """
import ganzoo, lazy_gan.nets, lazy_gan.deep.er.blocks

@ganzoo.hookimpl
def ganzoo_losses():
    yield ganzoo.Loss.of_logits("lazy-loss", discriminator=lambda real, fake: {}, generator=lambda fake: {})
""",
    "nets": "def networks(shape, latent):\n    from .deep.er import blocks, new\n    return blocks.pair(shape)\n",
    "deep/er/blocks": "def pair(shape): ...\n",
    "deep/er/new": "for a later Python: (\n",
    "unused": "",
}
"""A package whose parts are imported when a network is built; the folders in it have no `__init__.py`."""


@pytest.fixture
def lazy_package(tmp_path, monkeypatch):
    """`lazy_package("plugin", "second")`: source hash of the first when these modules are plugins, in this order."""
    for name, source in LAZY.items():
        path = tmp_path / "lazy_gan" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("GANZOO_PLUGINS", "")

    def forget():
        for name in [name for name in sys.modules if name.partition(".")[0] == "lazy_gan"]:
            del sys.modules[name]

    def source_hash(*parts):
        forget()
        named = statuses_by_name(discover([f"lazy_gan.{part}" for part in parts]))
        assert all(named[f"lazy_gan.{part}"].state == "ok" for part in parts)
        return named["lazy_gan.plugin"].source_sha256

    yield source_hash
    forget()


@pytest.mark.parametrize("part", ["plugin", "nets", "deep/er/blocks", "deep/er/new"])
def test_source_hash_covers_lazy_imports(part, lazy_package, tmp_path):
    before = lazy_package("plugin")
    with (tmp_path / "lazy_gan" / f"{part}.py").open("a") as file:
        file.write("# edited\n")
    assert lazy_package("plugin") != before


def test_source_hash_does_not_depend_on_other_loaded_plugins(lazy_package, tmp_path):
    before = lazy_package("plugin")
    assert lazy_package("plugin", "second") == before
    assert lazy_package("second", "plugin") == before
    (tmp_path / "lazy_gan" / "unused.py").write_text("# edited\n")
    assert lazy_package("plugin") == before


@pytest.mark.usefixtures("no_entry_points")
def test_plugin_option_takes_a_module_name_or_a_path(tmp_path, monkeypatch, stranger):
    package = tmp_path / "their_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('their package is unwell')\n")
    shutil.copy(stranger("healthy"), tmp_path / "their_module.py")
    shutil.copy(stranger("healthy"), package / "plugin.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = discover(["their_module", "their_package.plugin"])
    named = statuses_by_name(registry)
    assert (named["their_module"].state, named["their_module"].source) == ("ok", "their_module")
    assert registry.get("variants", "their_module:healthy").plugin == "their_module"
    # A package that fails on import is broken; it is not "no such module".
    assert named["their_package.plugin"].error == "RuntimeError: their package is unwell"


def test_zoo_plugins_load_with_strict():
    registry = discover(strict=True)
    assert {status.state for status in registry.statuses} == {"ok"}
    assert all(status.version == ganzoo.__version__ for status in registry.statuses)
    assert all(status.hooks and status.source_sha256 for status in registry.statuses)


# --- installed plugins: entry points, the allow-list -----------------------------------------------------------------


def test_broken_installed_plugins_do_not_affect_the_others(fake_distribution, stranger, monkeypatch):
    fake_distribution("ganzoo-strangers", {name: stranger(name) for name in (*BROKEN, "healthy")}, version="2.7.1")
    registry = discover()
    named = statuses_by_name(registry)
    assert {name: named[name].state for name in BROKEN} == dict.fromkeys(BROKEN, "broken")
    for name, reason in BROKEN.items():
        assert reason in named[name].error
        assert offered_by(registry, name) == []
    status = named["healthy"]
    assert (status.state, status.version, status.hooks) == ("ok", "2.7.1", ("ganzoo_variants",))
    assert status.source.endswith("(ganzoo-strangers)")
    assert registry.get("variants", "healthy").plugin == "healthy"
    # The zoo comes after them on the path and is complete.
    assert named["dcgan"].state == "ok"
    assert {"dcgan", "mlp", "wgan-gp"} <= set(registry.names("variants"))


def test_two_entry_points_with_one_name_both_load(fake_distribution, stranger):
    fake_distribution("ganzoo-second", {"twins": stranger("twins_b")})
    fake_distribution("ganzoo-first", {"twins": stranger("twins_a"), "dcgan": stranger("healthy")})
    registry = discover()
    named = statuses_by_name(registry)
    assert named["twins"].source.endswith("(ganzoo-first)")
    assert named["twins@ganzoo-second"].source.endswith("(ganzoo-second)")
    assert {"only-a", "only-b"} <= set(registry.names("variants"))
    assert registry.get("variants", "twins:twin").record.batch_size == 16
    assert registry.get("variants", "twins@ganzoo-second:twin").record.batch_size == 32
    # A plugin that has the name of a zoo plugin loads too.
    assert offered_by(registry, "dcgan") == ["healthy"]
    assert "dcgan" in offered_by(registry, "dcgan@ganzoo")


@pytest.mark.parametrize(
    ("allowed", "loaded"),
    [("", set()), ("one", {"one"}), (" one , three,nobody", {"one", "three"}), (",", set())],
)
def test_the_allow_list_decides_which_entry_points_load(allowed, loaded, fake_distribution, tmp_path, monkeypatch):
    # Each writes a file when it is imported: a plugin that is not allowed must not even be imported.
    source = (
        "from pathlib import Path\nimport ganzoo\nPath({mark!r}).touch()\n"
        "@ganzoo.hookimpl\ndef ganzoo_variants():\n    return []\n"
    )
    names = ("one", "two", "three")
    fake_distribution("ganzoo-marks", {name: source.format(mark=str(tmp_path / f"{name}.mark")) for name in names})
    monkeypatch.setenv("GANZOO_PLUGINS", allowed)
    named = statuses_by_name(discover())
    assert {path.stem for path in tmp_path.glob("*.mark")} == loaded
    assert {name for name, status in named.items() if status.state == "ok"} == loaded
    disabled = [status for status in named.values() if status.state == "disabled"]
    assert {status.name for status in disabled} >= {"dcgan", "fid"}
    assert {status.error for status in disabled} == {"not in GANZOO_PLUGINS"}


def test_the_allow_list_is_for_entry_points_only(stranger, monkeypatch):
    monkeypatch.setenv("GANZOO_PLUGINS", "losses")
    registry = discover([str(stranger("healthy"))])
    assert registry.names("variants") == ["healthy"]
    assert {status.name for status in registry.statuses if status.state == "ok"} == {"losses", "healthy.py"}


# --- names: conflicts, inline objects, unknown names ------------------------------------------------------------------


@pytest.mark.usefixtures("no_entry_points")
def test_name_conflict_is_an_error_only_when_the_name_is_used(stranger):
    registry = discover([str(stranger("twins_a")), str(stranger("twins_b"))], strict=True)
    assert registry.get("variants", "only-a").record.name == "only-a"
    for kind, name in (("variants", "twin"), ("losses", "twin-loss")):
        with pytest.raises(AmbiguousName) as caught:
            registry.get(kind, name)
        assert f"'twins_a.py:{name}' or 'twins_b.py:{name}'" in str(caught.value)
    assert registry.get("variants", "twins_a.py:twin").record.summary == "the first twin"
    assert registry.get("variants", "twins_b.py:twin").record.summary == "the second twin"


@pytest.mark.usefixtures("no_entry_points")
def test_plugins_command_shows_name_conflicts_with_the_qualified_names(invoke, stranger):
    plugins = [argument for name in ("twins_a", "twins_b") for argument in ("--plugin", stranger(name))]
    outcome = invoke("plugins", *plugins)
    assert outcome.code == 0
    told = [line.strip() for line in outcome.out.splitlines() if line.startswith("conflict")]
    assert told == [
        "conflict: 2 plugins offer a variant twin; ask for twins_a.py:twin or twins_b.py:twin",
        "conflict: 2 plugins offer a loss twin-loss; ask for twins_a.py:twin-loss or twins_b.py:twin-loss",
    ]
    listed = {entry["name"]: entry["conflicts"] for entry in json.loads(invoke("plugins", *plugins, "--json").out)}
    assert {name: forms for name, forms in listed.items() if forms} == {
        f"{name}.py": [f"{name}.py:twin", f"{name}.py:twin-loss"] for name in ("twins_a", "twins_b")
    }
    assert "conflict" not in invoke("plugins", "--plugin", stranger("twins_a")).out


@pytest.mark.usefixtures("no_entry_points")
def test_plugins_command_shows_load_times(invoke, stranger):
    outcome = invoke("plugins", "--plugin", stranger("healthy"))
    (row,) = (line for line in outcome.out.splitlines() if "healthy.py" in line)
    assert re.search(r"\b\d+ ms\b", row)


@pytest.mark.usefixtures("no_entry_points")
def test_two_spellings_of_one_plugin_are_one(invoke, stranger):
    path = stranger("twins_a")
    spellings = (path, Path(path.parent, "..", path.parent.name, path.name), path)
    plugins = [part for spelling in spellings for part in ("--plugin", spelling)]
    for command in (("plugins",), ("list", "variants")):
        outcome = invoke(*command, *plugins)
        assert (outcome.code, "conflict" in outcome.out + outcome.err) == (0, False)
    assert invoke("plugins", *plugins).out.count("twins_a.py") == 2, "its name, and where it is from"


def test_plugin_file_given_twice_conflicts_with_itself(stranger):
    registry = discover([str(stranger("healthy"))] * 2)
    with pytest.raises(AmbiguousName, match=r"'healthy\.py:healthy' or 'healthy\.py@2:healthy'"):
        registry.get("variants", "healthy")


@pytest.mark.usefixtures("no_entry_points")
def test_inline_object_is_found_by_its_qualified_name_only(stranger):
    registry = discover([str(stranger("menagerie"))])
    for kind, name in (("architectures", "hidden-den"), ("losses", "hidden-roar")):
        assert name not in registry.names(kind)
        with pytest.raises(UnknownName) as caught:
            registry.get(kind, name)
        assert f"did you mean '{name}'" not in str(caught.value)
        offer = registry.get(kind, f"menagerie.py:{name}")
        assert (offer.record.name, offer.plugin) == (name, "menagerie.py")
        assert registry.reference(kind, offer) == f"menagerie.py:{name}"


def test_inline_object_is_not_confused_with_a_registered_name(tmp_path):
    path = tmp_path / "imitation.py"
    path.write_text(
        "import ganzoo\n"
        "FAKE = ganzoo.Loss.of_logits('hinge', discriminator=lambda real, fake: {}, generator=lambda fake: {})\n"
        "@ganzoo.hookimpl\n"
        "def ganzoo_variants():\n"
        "    yield ganzoo.Variant('imitation', architecture='dcgan', loss=FAKE)\n"
        "    yield ganzoo.Variant('original', architecture='dcgan', loss='hinge')\n"
    )
    registry = discover([str(path)])
    assert registry.get("losses", "hinge").plugin == "losses"
    assert registry.get("losses", "imitation.py:hinge").plugin == "imitation.py"


def test_inline_object_shared_by_two_plugins_belongs_to_both(fake_distribution, stranger):
    site = fake_distribution("ganzoo-lender", {"lender": stranger("hinge")})
    (module,) = (path.stem for path in site.glob("*.py"))
    borrower = (
        f"import ganzoo\nfrom {module} import HINGE\n"
        "@ganzoo.hookimpl\ndef ganzoo_variants():\n"
        "    yield ganzoo.Variant('borrowed', architecture='mlp', loss=HINGE)\n"
    )
    fake_distribution("ganzoo-borrower", {"borrower": borrower})
    registry = discover()
    assert registry.get("losses", "lender:my-hinge").record is registry.get("losses", "borrower:my-hinge").record


def test_unknown_name_error_suggests_the_nearest_and_lists_broken_plugins(stranger):
    registry = discover([str(stranger("raising_hook"))])
    with pytest.raises(UnknownName) as caught:
        registry.get("variants", "dcgann")
    message = str(caught.value)
    assert "no variant is called 'dcgann'; did you mean 'dcgan'" in message
    assert "broken plugins may have held it: raising_hook.py" in message
    with pytest.raises(UnknownName) as caught:
        discover().get("metrics", "fidd")
    assert "did you mean 'fid'?" in str(caught.value)
    assert "broken" not in str(caught.value)


@pytest.mark.parametrize("name", ["twins_a.py:nobody", "nobody:twin", ":twin", "twins_a.py:", ":", ""])
def test_unknown_qualified_name_is_refused(name, stranger):
    with pytest.raises(UnknownName):
        discover([str(stranger("twins_a"))]).get("variants", name)


# --- strict ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_entry_points")
def test_strict_names_every_broken_plugin(stranger):
    with pytest.raises(PluginError) as caught:
        discover([str(stranger(name)) for name in ("import_error", "healthy", "misspelt_hook")], strict=True)
    message = str(caught.value)
    assert message.startswith("--strict: 2 broken plugin(s): import_error.py: ModuleNotFoundError")
    assert "misspelt_hook.py: " in message
    assert "healthy" not in message


# --- plugins on the command line --------------------------------------------------------------------------------------


def test_plugins_command_lists_installed_plugins_and_their_errors(fake_distribution, stranger, run_cli):
    """End to end in a subprocess, with installed plugins."""
    fake_distribution("ganzoo-strangers", {name: stranger(name) for name in BROKEN}, version="2.7.1")
    fake_distribution("ganzoo-fine", {"healthy": stranger("healthy")})
    env = {"GANZOO_PLUGINS": ",".join([*BROKEN, "healthy"])}
    done = run_cli("plugins", "--json", "--plugin", stranger("chatty"), env=env)
    assert done.returncode == 0, done.stderr
    listed = {entry["name"]: entry for entry in json.loads(done.stdout)}
    assert {field.name for field in fields(PluginStatus)} == set(listed["healthy"])
    assert {name: listed[name]["state"] for name in BROKEN} == dict.fromkeys(BROKEN, "broken")
    for name, reason in BROKEN.items():
        assert reason in listed[name]["error"]
        assert listed[name]["version"] == "2.7.1"
    assert (listed["healthy"]["state"], listed["healthy"]["hooks"]) == ("ok", ["ganzoo_variants"])
    assert listed["dcgan"]["state"] == "disabled"
    # Output of a plugin during loading does not go to stdout.
    assert "chatty: imported" in done.stderr

    table = run_cli("plugins", env=env)
    assert table.returncode == 0
    assert table.stderr == ""
    rows = {line.split()[0]: line for line in table.stdout.splitlines() if line.split()}
    assert "broken" in rows["misspelt_hook"]
    assert "unknown hook 'ganzoo_variant'" in rows["misspelt_hook"]
    assert "ok" in rows["healthy"]
    assert "\x1b" not in table.stdout


def test_strict_makes_a_broken_plugin_fatal_for_any_command(fake_distribution, stranger, run_cli):
    fake_distribution("ganzoo-strangers", {"misspelt": stranger("misspelt_hook")})
    done = run_cli("plugins", "--strict", env={"GANZOO_PLUGINS": "misspelt"})
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("ganzoo: --strict: 1 broken plugin(s): misspelt: ")
    assert "ganzoo_variant" in line


@pytest.mark.parametrize("command", [("list", "variants"), ("show", "dcgan")])
def test_broken_plugin_is_one_warning_line(command, invoke, stranger):
    outcome = invoke(*command, "--plugin", stranger("raises_on_import"))
    assert outcome.code == 0
    assert "dcgan" in outcome.out
    (line,) = outcome.err.splitlines()
    assert line.startswith("ganzoo: plugin raises_on_import.py is broken and left out: RuntimeError")
    assert line.isprintable()


def test_output_of_a_plugin_does_not_corrupt_json(invoke, stranger):
    outcome = invoke("list", "--json", "--plugin", stranger("chatty"))
    assert outcome.code == 0
    assert "chatty" in {entry["name"] for entry in json.loads(outcome.out)}
    outcome = invoke("show", "chatty", "--json", "--plugin", stranger("chatty"))
    assert outcome.code == 0
    assert json.loads(outcome.out)[0]["name"] == "chatty"
    assert "chatty: building" in outcome.err
    outcome = invoke(
        *("bench", "--models", "chatty", "--plugin", stranger("chatty"), "--device", "cpu"),
        *("--throughput-only", "--dry-run", "--json"),
    )
    assert outcome.code == 0
    assert json.loads(outcome.out)[0]["spec"]["variant"] == "chatty"
    assert "chatty: a phase" in outcome.err


def test_list_shows_both_sides_of_a_conflict_and_show_asks_which(invoke, stranger):
    both = ("--plugin", stranger("twins_a"), "--plugin", stranger("twins_b"))
    outcome = invoke("list", "variants", "--json", *both)
    twins = [entry["plugin"] for entry in json.loads(outcome.out) if entry["name"] == "twin"]
    assert twins == ["twins_a.py", "twins_b.py"]
    outcome = invoke("show", "twin", *both)
    assert outcome.code == 2
    assert "'twins_a.py:twin' or 'twins_b.py:twin'" in outcome.error
    outcome = invoke("show", "twins_b.py:twin", *both)
    assert outcome.code == 0
    assert "the second twin" in outcome.out
    assert "batch size: 32" in outcome.out


@pytest.mark.parametrize(
    ("variant", "reason"),
    [("typo", "typo: its plugin raised KeyError: 'widht'"), ("no-codes", "LookupError: no codebook")],
)
def test_networks_that_fail_to_build_are_refused_by_name_before_training(variant, reason, invoke, stranger, tmp_path):
    bench = ("bench", "--plugin", stranger("broken_build"), "--device", "cpu", "--throughput-only", "--models")
    outcome = invoke(*bench, variant)
    assert outcome.code == 2
    assert reason in outcome.error
    assert not (tmp_path / "runs").exists()


def test_glob_leaves_out_variants_that_fail_to_build(invoke, stranger):
    bench = (
        "bench",
        "--plugin",
        stranger("broken_build"),
        "--device",
        "cpu",
        "--throughput-only",
        "--dry-run",
        "--json",
    )
    outcome = invoke(*bench, "--models", "typo*,no-code*,reads-value*")
    assert outcome.code == 0
    # This variant reads values of tensors while it is built, which the preflight check must allow.
    assert [entry["spec"]["variant"] for entry in json.loads(outcome.out)] == ["reads-values"]
    assert [line.split(":")[1] for line in outcome.err.splitlines()] == [" left out typo", " left out no-codes"]


@pytest.mark.parametrize("dataset", ["typo-data", "no-fingerprint"])
def test_a_dataset_that_fails_is_refused_by_name(dataset, invoke, stranger, tmp_path):
    outcome = invoke(
        *("bench", "--models", "mlp", "--dataset", dataset, "--throughput-only", "--plugin", stranger("broken_build"))
    )
    assert outcome.code == 2
    assert dataset in outcome.error
    assert {"typo-data": "imagse", "no-fingerprint": "missing"}[dataset] in outcome.error
    assert not (tmp_path / "runs").exists()


ELSEWHERE = """
import os, sys

import ganzoo, torch
from ganzoo_plugins.variants import mlp

def leave():
    os.makedirs("elsewhere", exist_ok=True)
    os.chdir("elsewhere")

def build(image_shape, latent, classes):
    leave()
    return mlp.build(image_shape, latent, classes)

def quit(image_shape, latent, classes):
    sys.exit("usage: train.py CONFIG")

def quits_on_meta(real, fake):
    if real.is_meta:
        sys.exit("no tensors without memory")
    return {"real": -real.mean(), "fake": fake.mean()}

def load(request):
    leave()
    return ganzoo.LabelledImages(torch.zeros(64, 1, 8, 8, dtype=torch.uint8))

SHY = ganzoo.Loss.of_logits("shy", discriminator=quits_on_meta, generator=lambda fake: {"fool": -fake.mean()})

@ganzoo.hookimpl
def ganzoo_variants():
    wanderer = ganzoo.Architecture("wanderer", build, image_sizes=None)
    quitter = ganzoo.Architecture("quitter", quit, image_sizes=None)
    yield ganzoo.Variant("odd-quitter", quitter, "hinge", batch_size=8)
    yield ganzoo.Variant("odd-wanderer", wanderer, "hinge", batch_size=8)
    yield ganzoo.Variant("odd-shy", "mlp", SHY, batch_size=8)

@ganzoo.hookimpl
def ganzoo_datasets():
    yield ganzoo.Dataset("far-away", load, lambda request: "1", image_size=8)

@ganzoo.hookimpl
def ganzoo_event(event):
    leave()
"""
"""Networks, a dataset and an observer that change the working folder or try to exit the process."""

SPEED = ("--throughput-only", "--throughput-seconds", "0.05", "--device", "cpu", "--plugin", "elsewhere.py")


@pytest.fixture
def elsewhere(tmp_path):
    (tmp_path / "elsewhere.py").write_text(ELSEWHERE)


@pytest.mark.usefixtures("elsewhere")
def test_variant_that_calls_exit_is_refused_by_name_and_left_out_of_a_glob(invoke, tmp_path):
    outcome = invoke("bench", "--models", "mlp,odd-quitter", *SPEED)
    assert outcome.code == 2
    assert outcome.error == "ganzoo: odd-quitter: its plugin raised SystemExit: usage: train.py CONFIG"
    outcome = invoke("bench", "--models", "odd-*", "--dry-run", "--json", *SPEED)
    assert outcome.code == 0
    assert [entry["spec"]["variant"] for entry in json.loads(outcome.out)] == ["odd-shy", "odd-wanderer"]
    assert outcome.err == "ganzoo: left out odd-quitter: its plugin raised SystemExit: usage: train.py CONFIG\n"
    assert Path.cwd() == tmp_path


@pytest.mark.usefixtures("elsewhere")
def test_records_go_to_the_results_folder_despite_chdir_in_a_plugin(run_cli):
    done = run_cli("bench", "--models", "odd-wanderer,odd-shy", "--dataset", "far-away", "--results", "mine", *SPEED)
    assert done.returncode == 0, done.stderr
    records = list((run_cli.cwd / "mine").glob("*/*/record.json"))
    assert sorted(path.parent.name.split("-far")[0] for path in records) == ["odd-shy", "odd-wanderer"]
    assert sorted(run_cli.cwd.rglob("record.json")) == sorted(records)


def test_architecture_without_a_readable_signature_is_a_plugin_error(tmp_path, invoke):
    (tmp_path / "signless.py").write_text(
        "import ganzoo\n\nclass Signless:\n    @property\n    def __signature__(self):\n"
        "        raise ValueError('no signature found')\n    def __call__(self, *arguments): ...\n\n"
        "@ganzoo.hookimpl\ndef ganzoo_architectures():\n    yield ganzoo.Architecture('signless', Signless())\n"
    )
    outcome = invoke("list", "architectures", "--plugin", "signless.py")
    assert outcome.code == 0
    assert "dcgan" in outcome.out
    assert outcome.err == (
        "ganzoo: plugin signless.py is broken and left out: architecture 'signless': the parameters of its build "
        "cannot be read (ValueError: no signature found); give a function\n"
    )


# --- a bench with third-party plugins ---------------------------------------------------------------------------------


def test_third_party_variant_runs_to_a_scored_record(strangers_bench):
    hinge, chatty = strangers_bench.records
    assert (hinge["status"], chatty["status"]) == ("ok", "ok")
    assert hinge["spec"]["recipe"]["architecture"] == "dcgan"
    # An inline object is recorded as plugin:name.
    assert hinge["spec"]["recipe"]["loss"] == "hinge.py:my-hinge"
    assert {name for name in hinge["training"]["curves"] if "/" in name} == {
        "discriminator/real",
        "discriminator/fake",
        "generator/fool",
    }
    assert hinge["training"]["updates"] == {"generator": 8, "discriminator": 8}


def test_the_plugins_and_the_allow_list_are_on_the_record(strangers_bench, stranger):
    hinge, _ = strangers_bench.records
    used = hinge["environment"]["plugins"]
    assert set(used) == {"hinge.py", "dcgan", "laboratory.py"}
    status = next(s for s in discover([str(stranger("hinge"))]).statuses if s.name == "hinge.py")
    assert used["hinge.py"] == {"version": None, "source_sha256": status.source_sha256}
    assert used["dcgan"]["version"] == ganzoo.__version__
    assert hinge["environment"]["plugin_allow_list"] == "dcgan,losses"


@pytest.mark.parametrize("ending", ["crashed", "interrupted"])
def test_record_of_a_failed_run_has_plugins_and_allow_list(ending, stranger, tmp_path, monkeypatch):
    class Launcher:
        """A launcher whose run crashes without a message, or is interrupted by the user."""

        def launch(self, request, on_message):
            if ending == "interrupted":
                raise KeyboardInterrupt
            return Outcome("crashed", Failure("SIGKILL", "ended by SIGKILL"))

    monkeypatch.setenv("GANZOO_PLUGINS", "losses")
    plugins = [str(stranger(name)) for name in ("chatty", "laboratory")]
    registry = discover(plugins)
    plan = resolve(BenchPlan(("chatty",), "stripes", device="cpu", throughput_only=True), registry)
    with contextlib.suppress(KeyboardInterrupt):
        run_plan(plan, registry, tmp_path, launcher=Launcher())
    (path,) = tmp_path.rglob("record.json")
    record = json.loads(path.read_text())
    assert record["status"] == ending
    assert set(record["environment"]["plugins"]) == {"chatty.py", "laboratory.py"}
    assert record["environment"]["plugin_allow_list"] == "losses"


def test_output_of_a_plugin_corrupts_neither_run_messages_nor_json(strangers_bench):
    _, chatty = strangers_bench.records
    # Its output during the run looks like a message of the run, but is ignored.
    assert chatty["status"] == "ok"
    assert chatty["error"] is None
    assert chatty["training"]["updates"] == {"generator": 8, "discriminator": 8}
    assert "chatty: " not in strangers_bench.done.stdout
    assert "chatty: imported" in strangers_bench.done.stderr


def test_observer_gets_every_event_in_the_parent_process(strangers_bench):
    events = strangers_bench.events
    assert len({event["pid"] for event in events}) == 1
    first, second = (
        [event for event in events if event["run_id"] == run_id]
        for run_id in dict.fromkeys(e["run_id"] for e in events)
    )
    for run in (first, second):
        kinds = [event["event"] for event in run]
        assert (kinds[0], kinds[-1]) == ("RunStarted", "RunFinished")
        assert {"StageChanged", "TrainingProgress", "Scored"} <= set(kinds)
        stages = [event["stage"] for event in run if event["event"] == "StageChanged"]
        assert stages[0] == "loading"
        assert set(stages) == {"loading", "measuring", "reference", "training", "scoring"}
        assert [event["kimg"] for event in run if event["event"] == "Scored"] == [0.256, 0.512]
        assert run[-1]["skipped"] is False


def test_an_observer_cannot_alter_a_run(strangers_bench):
    assert all(event["frozen"] for event in strangers_bench.events)
    records = strangers_bench.records
    assert [record["spec"]["variant"] for record in records] == ["hinge-dcgan", "chatty"]
    for record in records:
        assert record["spec"]["recipe"]["batch_size"] == 64
        assert record["training"]["kimg"] == 0.512
        assert all(score["value"] > 0 for score in record["scores"])
        written = next(strangers_bench.results.rglob(f"*{record['run_id'][:10]}/record.json"))
        assert json.loads(written.read_text()) == record


@pytest.mark.parametrize(
    ("plugin", "error"),
    [("raising_observer", "ConnectionError: the dashboard is down"), ("quitting_observer", "SystemExit: enough")],
)
def test_an_observer_that_fails_is_reported_once_and_stops_nothing(plugin, error, strangers_bench):
    reports = [line for line in strangers_bench.done.stderr.splitlines() if f"plugin {plugin}.py" in line]
    assert reports == [f"ganzoo: plugin {plugin}.py: ganzoo_event raised {error}; it is not called again"]


def test_bench_reports_a_broken_plugin_in_one_line(strangers_bench):
    lines = [line for line in strangers_bench.done.stderr.splitlines() if "import_error" in line]
    assert lines == [
        "ganzoo: plugin import_error.py is broken and left out: "
        "ModuleNotFoundError: No module named 'a_package_that_nobody_has'"
    ]


# --- observers and reporters, closer up ------------------------------------------------------------------------------


def test_events_are_frozen():
    event = ganzoo.StageChanged("id", "training")
    with pytest.raises(FrozenInstanceError):
        event.stage = "forged"


@pytest.mark.usefixtures("no_entry_points")
def test_each_observer_gets_a_separate_copy_of_an_event(stranger, tmp_path, monkeypatch):
    monkeypatch.setenv("OBSERVED", str(tmp_path / "observed.jsonl"))
    first, second = (shutil.copy(stranger("observer"), tmp_path / f"observer_{index}.py") for index in (1, 2))
    registry = discover([str(first), str(second)])
    spec = {"variant": "true", "batch_size": 64}
    registry.notify(ganzoo.RunStarted("id", spec, 1, 1), pytest.fail)
    seen = [json.loads(line) for line in (tmp_path / "observed.jsonl").read_text().splitlines()]
    assert [entry["run_id"] for entry in seen] == ["id", "id"]
    assert spec == {"variant": "true", "batch_size": 64}


def test_a_reporter_renders_a_comparison_and_one_that_fails_takes_one_line(strangers_bench, invoke, stranger):
    outcome = invoke(
        "compare", strangers_bench.results, "--format", "typo-report", "--plugin", stranger("broken_build")
    )
    assert outcome.code == 1
    assert "KeyError: 'no such column'" in outcome.error
    outcome = invoke("compare", strangers_bench.results, "--format", "names", "--plugin", stranger("laboratory"))
    assert (outcome.code, sorted(outcome.out.split())) == (0, ["chatty", "hinge-dcgan"])
