"""Load plugins from entry points, files and modules into a `Registry`; a failure stays with its plugin.

pluggy validates which hooks a plugin implements. Importing, registering, calling and checking the records are done one
plugin and one implementation at a time. All that a broken plugin offered is dropped, and its `PluginStatus` says why.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pluggy

from ganzoo.errors import PluginError, UsageError
from ganzoo.registry import hookspecs
from ganzoo.registry.earlier import advice_for
from ganzoo.registry.importing import ImportMarker, ended_imports
from ganzoo.registry.isolation import undisturbed
from ganzoo.registry.registry import RECORD_TYPES, SINGULAR, Kind, Offer, PluginStatus, Registry
from ganzoo.registry.sources import (
    FILE_MODULE,
    Code,
    Places,
    Sources,
    code_behind,
    places_of_file,
    places_of_module,
    source_sha256,
)
from ganzoo.registry.validation import check_record
from ganzoo.types import Loss, Penalty, Variant
from ganzoo.util.streams import reopen_closed_streams
from ganzoo.util.text import did_you_mean, error_line, printable

if TYPE_CHECKING:
    from ganzoo.runs import Event

ALLOW_LIST = "GANZOO_PLUGINS"
"""The environment variable that lists the entry points that may load: empty means none, unset means all."""


LOGS = "ganzoo.logs"
"""The entry-point group of observers that load only when `--log` names them."""


OWN_DISTRIBUTION = "ganzoo"

ENDED = "its import ended an earlier command; skipped here; fix or uninstall it"
"""What is wrong with a plugin that is spared."""


def discover(
    plugins: Sequence[str] = (),
    *,
    strict: bool = False,
    logs: Sequence[str] = (),
    only: Collection[str] | None = None,
    spared: Collection[str] = (),
) -> Registry:
    """Load the entry points that `GANZOO_PLUGINS` allows and the `plugins` named (paths of .py files, or modules).

    `logs` names observers of the entry-point group `ganzoo.logs`, which the list concerns too, ganzoo's own excepted.
    `only` names the plugins to be loaded, as a registry of all of them calls them; the others are not imported. Those
    `spared` count as broken without being imported: their import has ended a process, see `ganzoo.registry.importing`.
    Raises `UsageError` for a path, module or log that is not there or not allowed, and `PluginError` for a broken log
    and, with `strict`, for any broken plugin. What a plugin prints meanwhile goes to stderr.
    """
    loader = _Loader(os.environ.get(ALLOW_LIST), _places_of_plugins(plugins), only, spared)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            loader.load_entry_points()
            for plugin in plugins:
                loader.load_named(plugin)
            for log in dict.fromkeys(logs):
                loader.load_log(log)
    finally:
        loader.marker.close()
        reopen_closed_streams()
    loader.note_conflicts()
    broken = [status for status in loader.registry.statuses if status.state == "broken"]
    if strict and broken:
        reasons = "; ".join(f"{printable(status.name)}: {status.error}" for status in broken)
        raise PluginError(f"--strict: {len(broken)} broken plugin(s): {reasons}")
    return loader.registry


class _Loader:
    """Fills a registry, one plugin at a time."""

    def __init__(
        self, allow_list: str | None, places: Places, only: Collection[str] | None, spared: Collection[str]
    ) -> None:
        self.allowed = None if allow_list is None else {name.strip() for name in allow_list.split(",")}
        self.only = only
        self.spared = spared
        self.ended = ended_imports()
        self.marker = ImportMarker(in_run=only is not None)
        self.registry = Registry(sources=Sources(places))
        self.manager = pluggy.PluginManager(hookspecs.PROJECT)
        self.manager.add_hookspecs(hookspecs)

    def allows(self, name: str) -> bool:
        return self.allowed is None or name in self.allowed

    def load_entry_points(self) -> None:
        for installed in _entry_points(hookspecs.PROJECT):
            entry_point, distribution = installed.point, installed.distribution
            taken = {status.name for status in self.registry.statuses}
            status = PluginStatus(
                name=entry_point.name if entry_point.name not in taken else f"{entry_point.name}@{distribution}",
                source=f"{entry_point.value} ({distribution})",
                version=installed.version,
            )
            if not self.allows(entry_point.name):
                self.registry.statuses.append(replace(status, state="disabled", error=f"not in {ALLOW_LIST}"))
            else:
                self.load(status, entry_point.load, entry_point.module)

    def load_named(self, plugin: str) -> None:
        path = Path(plugin)
        is_path = _is_path(plugin)
        status = PluginStatus(
            name=self.free_name(path.name if is_path else plugin), source=str(path.resolve()) if is_path else plugin
        )
        if not self.wanted(status):
            # Even to look for `package.module` would import the package.
            self.pass_over(status)
            return
        # A package under development lies beside its own folder's name: an importable name is a module, then.
        if is_path or (path.exists() and not _module_exists(plugin)):
            if not path.is_file() or path.suffix != ".py":
                reason = "is not a Python file (.py)" if path.exists() else "does not exist"
                raise UsageError(f"--plugin {printable(plugin)}: {reason}; give the path of a .py file or a module")
            self.load(status, lambda: _import_file(path.resolve()))
            return
        if not _module_exists(plugin):
            raise UsageError(f"--plugin {printable(plugin)}: no such file or module; give a path that ends in .py")
        self.load(status, lambda: importlib.import_module(plugin), plugin)

    def load_log(self, log: str) -> None:
        known = _entry_points(LOGS)
        matches = [installed for installed in known if installed.point.name == log]
        if not matches:
            names = [installed.point.name for installed in known]
            raise UsageError(f"--log: no log is called '{printable(log)}'{did_you_mean(log, names)}")
        distribution, *others = sorted({installed.distribution for installed in matches})
        if others:
            owners = printable(" and ".join([distribution, *others]))
            raise UsageError(f"--log {printable(log)}: {owners} each have a log of that name; uninstall one")
        entry_point, version = matches[0].point, matches[0].version
        if distribution != OWN_DISTRIBUTION and not self.allows(log):
            raise UsageError(f"--log {printable(log)}: it is of {printable(distribution)} and not in {ALLOW_LIST}")
        source = f"{entry_point.value} ({distribution})"
        self.load(
            PluginStatus(name=self.free_name(log), source=source, version=version), entry_point.load, entry_point.module
        )
        # The user named it with --log, so a run without it is not what was asked for.
        if (status := self.registry.statuses[-1]).state == "broken":
            raise PluginError(f"--log {log}: {status.error}")

    def note_conflicts(self) -> None:
        contested = [offer for _, rivals in self.registry.conflicts() for offer in rivals]
        for index, status in enumerate(self.registry.statuses):
            forms = dict.fromkeys(offer.qualified for offer in contested if offer.plugin == status.name)
            self.registry.statuses[index] = replace(status, conflicts=tuple(forms))

    def free_name(self, name: str) -> str:
        taken = sum(status.name == name or status.name.startswith(f"{name}@") for status in self.registry.statuses)
        return f"{name}@{taken + 1}" if taken else name

    def wanted(self, status: PluginStatus) -> bool:
        return self.only is None or status.name in self.only

    def pass_over(self, status: PluginStatus) -> None:
        self.registry.statuses.append(replace(status, state="disabled", error="not asked for"))

    def load(self, status: PluginStatus, import_plugin: Callable[[], object], module_name: str = "") -> None:
        """Import, register, call and check one plugin; if anything fails, none of its records is kept.

        `module_name` is its module, where the plugin may be something inside of it.
        """
        if not self.wanted(status):
            self.pass_over(status)
            return
        if status.name in self.spared:
            self.registry.statuses.append(replace(status, state="broken", error=ENDED))
            return
        started = time.perf_counter()
        plugin: object = None
        self.marker.name(status.name)
        try:
            with undisturbed(whose=f"plugin {printable(status.name)}"):
                plugin = import_plugin()
                offers, observers = self.collect(status.name, plugin)
                module = plugin if isinstance(plugin, ModuleType) else sys.modules.get(module_name)
                code = code_behind(module, self.registry.sources.places) if module is not None else Code()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if plugin is not None and self.manager.is_registered(plugin):
                self.manager.unregister(plugin)
            _forget_file_module(plugin)
            reason = printable(error) if isinstance(error, PluginError) else error_line(error) + advice_for(error)
            self.registry.statuses.append(replace(status, state="broken", error=reason))
            return
        finally:
            self._clear_import_marker(status.name)
        for kind, offer in offers:
            self.registry.offers[kind].append(offer)
        self.registry.observers += observers
        self.registry.sources.files[status.name] = frozenset(code.files.values())
        self.registry.sources.imports[status.name] = code.imports
        callers = self.manager.get_hookcallers(plugin) or []
        self.registry.statuses.append(
            replace(
                status,
                hooks=tuple(sorted(caller.name for caller in callers)),
                source_sha256=source_sha256(code.files),
                load_seconds=round(time.perf_counter() - started, 4),
            )
        )

    def _clear_import_marker(self, plugin: str) -> None:
        """This import has ended, so the marker that an earlier one has left is out of date."""
        if plugin in self.ended:
            with contextlib.suppress(OSError):
                self.ended.pop(plugin).unlink()

    def collect(
        self, name: str, plugin: object
    ) -> tuple[list[tuple[Kind, Offer]], list[tuple[str, Callable[[Event], object]]]]:
        self.manager.register(plugin, name)
        # pluggy reports a misspelt hook only when asked; asked now, its message names this plugin.
        self.manager.check_pending()
        offers: list[tuple[Kind, Offer]] = []
        observers = []
        for caller in self.manager.get_hookcallers(plugin) or []:
            for implementation in caller.get_hookimpls():
                if implementation.plugin is not plugin:
                    continue
                if implementation.wrapper or implementation.hookwrapper:
                    raise PluginError(f"{caller.name} is a hook wrapper; hooks here only yield records")
                if caller.name == "ganzoo_event":
                    observers.append((name, _event_function(implementation)))
                else:
                    offers += self.records(name, caller.name, implementation.function)
        if not self.manager.get_hookcallers(plugin):
            raise PluginError("implements no hook; put @ganzoo.hookimpl above ganzoo_variants() and the like")
        return offers + _inline_offers(name, offers), observers

    def records(self, plugin: str, hook: str, function: Callable[..., Any]) -> list[tuple[Kind, Offer]]:
        kind, types = RECORD_TYPES[hook]
        expected = " or ".join(type_.__name__ for type_ in types)
        try:
            yielded = function()
            records: list[Any] = [] if yielded is None else list(yielded)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise PluginError(f"{hook} raised {error_line(error)}{advice_for(error)}") from error
        names = set()
        for record in records:
            if not any(isinstance(record, type_) for type_ in types):
                raise PluginError(f"{hook} yielded {printable(repr(record), 80)}; it must yield {expected}")
            check_record(record)
            if record.name in names:
                raise PluginError(f"{hook} yielded two records called '{record.name}'")
            names.add(record.name)
        return [(kind, Offer(plugin, record)) for record in records]


def _places_of_plugins(named: Sequence[str]) -> Places:
    """Where the code of plugins lies: of those installed, allowed or not, and of those named."""
    places = Places()
    for module in {installed.point.module for group in (hookspecs.PROJECT, LOGS) for installed in _entry_points(group)}:
        places |= places_of_module(module, installed=True)
    for plugin in named:
        is_path = _is_path(plugin)
        places |= places_of_file(Path(plugin).resolve()) if is_path else places_of_module(plugin, installed=False)
    return places


def _is_path(plugin: str) -> bool:
    return Path(plugin).suffix == ".py" or os.sep in plugin


@dataclass(frozen=True)
class _Installed:
    """An entry point, and the name and version of its distribution; `?` and None where there is none."""

    point: importlib.metadata.EntryPoint
    distribution: str
    version: str | None


def _entry_points(group: str) -> list[_Installed]:
    """Each entry point once: an editable install beside a stale egg-info lists one distribution twice."""
    facts: dict[int, tuple[str, str | None]] = {}
    found: dict[tuple[str, str, str], _Installed] = {}
    for point in importlib.metadata.entry_points(group=group):
        # Name and version are each read from a file that is parsed anew, and a zoo has many entry points.
        if id(point.dist) not in facts:
            facts[id(point.dist)] = (point.dist.name, point.dist.version) if point.dist else ("?", None)
        installed = _Installed(point, *facts[id(point.dist)])
        found[point.name, point.value, installed.distribution] = installed
    return list(found.values())


def _inline_offers(plugin: str, offers: Sequence[tuple[Kind, Offer]]) -> list[tuple[Kind, Offer]]:
    """The objects that a plugin's records hold in place of a name; they can be looked up as `plugin:name` only.

    Raises `PluginError` where two different objects have one name.
    """
    known = {(kind, offer.record.name): offer.record for kind, offer in offers}
    inline: list[tuple[Kind, Offer]] = []
    for _, offer in offers:
        for kind, part in _inline_objects(offer.record):
            if (kind, part.name) not in known:
                known[kind, part.name] = part
                inline.append((kind, Offer(plugin, part, inline=True)))
            elif known[kind, part.name] != part:
                raise PluginError(f"has two that differ for the {SINGULAR[kind]} '{part.name}'; give them two names")
    return inline


def _inline_objects(record: Any) -> Iterator[tuple[Kind, Any]]:
    parts: list[tuple[Kind, Any]] = []
    if isinstance(record, Variant):
        parts += [("architectures", record.architecture), ("losses", record.loss)]
    if isinstance(record, (Variant, Loss, Penalty)):
        parts += [("losses", penalty) for penalty in record.penalties]
    if isinstance(record, Variant):
        parts += [("losses", augmentation) for augmentation in record.augment]
    for kind, part in parts:
        if not isinstance(part, str):
            yield kind, part
            yield from _inline_objects(part)


def _event_function(implementation: pluggy.HookImpl) -> Callable[[Event], object]:
    return lambda event: implementation.function(*([event] if implementation.argnames else []))


def _module_exists(name: str) -> bool:
    """Whether there is a module to import, even one that fails; looking for `package.module` imports the package.

    A folder without `__init__.py` is none, though Python would import it as an empty namespace.
    """
    if not all(part.isidentifier() for part in name.split(".")):
        return False
    try:
        spec = importlib.util.find_spec(name)
        return spec is not None and spec.origin is not None
    except ModuleNotFoundError as error:
        return error.name is None or not f"{name}.".startswith(f"{error.name}.")
    except ValueError:
        return False
    except (Exception, SystemExit):
        return True


def _forget_file_module(plugin: object) -> None:
    """Take a broken plugin that is a file out of `sys.modules`.

    Whoever goes through all modules, as `inspect` does for torch.compile, would stumble over what it makes of itself.
    """
    for name in [name for name, module in sys.modules.items() if module is plugin and name.startswith(FILE_MODULE)]:
        del sys.modules[name]


def _import_file(path: Path) -> ModuleType:
    """Import a .py file under a module name made from its path.

    The module is in `sys.modules` while it runs: dataclasses with postponed annotations look themselves up there.
    """
    name = f"{FILE_MODULE}{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
