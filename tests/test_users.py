"""Two users on one machine: the umask and a shared folder's group decide, and who owns what is in the way is named."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ONE_MACHINE
from skips import needs_system

from ganzoo.data.prepared import prepare
from ganzoo.evaluation.features import kept_features
from ganzoo.records.folder import claim, make_run_folder
from ganzoo.types import Dataset, DatasetRequest, LabelledImages
from ganzoo.util.files import cache_folder, write_atomically
from ganzoo.util.rights import make_folder

pytestmark = needs_system(os.name == "posix", "users and modes as POSIX has them")

ANNE, BERT = 4711, 4712
"""Users that no machine has, both of the group `LAB`."""

LAB = 4700

needs_root = needs_system(os.name == "posix" and os.geteuid() == 0, "only root may be two users")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask() -> Iterator[Callable[[int], None]]:
    before = os.umask(0o022)
    yield lambda mask: os.umask(mask) and None
    os.umask(before)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def small(version: str = "1") -> Dataset:
    images = np.arange(20 * 256, dtype=np.uint8).reshape(20, 1, 16, 16)
    return Dataset("small", lambda request: LabelledImages(images, np.arange(20) % 3), lambda request: version)


def prepared(version: str = "1") -> Path:
    return Path(prepare(small(version), DatasetRequest(Path(), "", 16, hold_out=0), None).folder)


# --- modes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mask", "file", "folder"), [(0o077, 0o600, 0o700), (0o022, 0o644, 0o755)])
def test_files_and_folders_have_the_rights_that_the_umask_leaves(mask, file, folder, umask, cache, tmp_path, invoke):
    umask(mask)
    for command in (("report", ONE_MACHINE), ("compare", ONE_MACHINE, "-o", "table.txt")):
        assert invoke(*command).code == 0
    place = prepared()
    with claim(tmp_path / "runs", "0123456789abcdef"):
        pass
    files = [tmp_path / "report.html", tmp_path / "table.txt", *place.iterdir(), *(tmp_path / "runs").rglob("*.lock")]
    folders = [cache, cache / "datasets", place, tmp_path / "runs", tmp_path / "runs" / ".claims"]
    assert {path.name: oct(mode(path)) for path in files} == {path.name: oct(file) for path in files}
    assert {path.name: oct(mode(path)) for path in folders} == {path.name: oct(folder) for path in folders}


def test_in_a_folder_that_its_group_may_write_to_the_group_may_use_everything(umask, cache, tmp_path):
    umask(0o077)
    for shared in (cache, tmp_path / "runs"):
        shared.mkdir()
        shared.chmod(0o2770)
    place = prepared()
    with claim(tmp_path / "runs", "0123456789abcdef"):
        pass
    make_run_folder(tmp_path / "runs" / "machine" / "run")
    write_atomically(cache_folder("references") / "some", lambda stream: stream.write(b"x"), shared=True)
    made = [*cache.rglob("*"), *(tmp_path / "runs").rglob("*")]
    assert len(made) >= 9
    assert place in made
    for path in made:
        assert oct(mode(path) & 0o777) == oct(0o770 if path.is_dir() else 0o660), path


@pytest.mark.parametrize("around", [0o777, 0o1777, 0o755])
def test_what_everyone_may_write_to_is_no_folder_of_a_group(around, umask, tmp_path):
    umask(0o022)
    (tmp_path / "around").mkdir()
    (tmp_path / "around").chmod(around)
    make_folder(tmp_path / "around" / "inside" / "deeper")
    assert {oct(mode(path)) for path in (tmp_path / "around").rglob("*")} == {oct(0o755)}


# --- two users --------------------------------------------------------------------------------------------------------


def as_user(user: int, do: Callable[[], object]) -> object:
    """What `do()` gives, or the message of what it raises, in a copy of this process that belongs to `user`.

    It may import nothing: Python itself may lie where only root can read.
    """
    reader, writer = os.pipe()
    copy = os.fork()
    if copy == 0:
        try:
            os.setgroups([])
            os.setgid(LAB)
            os.setuid(user)
            answer = do()
        except Exception as error:
            answer = str(error)
        os.write(writer, json.dumps(answer).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        answer = json.loads(stream.read())
    os.waitpid(copy, 0)
    return answer


@pytest.fixture
def shared(umask, tmp_path_factory, monkeypatch) -> Path:
    """A folder that root has made, and that both users may go through; the cache below it is Anne's."""
    folder = tmp_path_factory.mktemp("shared")
    for path in (folder, *folder.parents):
        if path.stat().st_mode & 0o005 != 0o005 and path.is_relative_to("/tmp"):
            path.chmod(path.stat().st_mode | 0o055)
    for name in ("cache", "runs"):
        (folder / name).mkdir()
        os.chown(folder / name, ANNE, LAB)
    monkeypatch.setenv("GANZOO_CACHE", str(folder / "cache"))
    return folder


@needs_root
def test_a_second_user_reads_the_cache_of_the_first_and_is_told_who_owns_what_he_may_not_write(shared):
    place = as_user(ANNE, lambda: str(prepared()))
    assert as_user(BERT, lambda: str(prepared())) == place
    told = as_user(BERT, lambda: str(prepared("2")))
    datasets = shared / "cache" / "datasets"
    assert told == (
        f"cannot write the prepared dataset to {datasets}: Permission denied: {datasets} belongs to user {ANNE}, and "
        f"`chmod g+w {datasets}` by user {ANNE} would let its group write there; or set GANZOO_CACHE to a "
        "folder of your own"
    )
    # What is damaged and cannot be replaced is not believed, whoever owns it.
    (Path(place) / "images.npy").write_bytes(b"")
    assert as_user(BERT, lambda: str(prepared())) == told
    assert as_user(ANNE, lambda: str(prepared())) == place


@needs_root
def test_a_cache_that_a_second_user_may_not_even_read_is_named_with_its_owner(shared):
    (shared / "cache").chmod(0o700)
    told = as_user(BERT, lambda: str(prepared()))
    assert f"Permission denied: {shared / 'cache'} belongs to user {ANNE}, and `chmod g+w" in told
    assert told.endswith("set GANZOO_CACHE to a folder you can write to")


@needs_root
def test_two_users_of_a_group_share_a_cache_and_results(shared):
    for name in ("cache", "runs"):
        (shared / name).chmod(0o2775)

    def work(version: str) -> str:
        place = prepared(version)
        with claim(shared / "runs", "0123456789abcdef") as claimed:
            assert claimed
        make_run_folder(shared / "runs" / "machine" / f"run-{version}")
        make_run_folder(shared / "runs" / "machine" / "run-1")
        return str(place)

    first = as_user(ANNE, lambda: work("1"))
    second = as_user(BERT, lambda: work("2"))
    assert Path(first).is_dir()
    assert Path(second).is_dir()
    # Each may repair what the other has made.
    (Path(first) / "images.npy").write_bytes(b"")
    assert as_user(BERT, lambda: work("1")) == first
    assert {path.stat().st_gid for path in shared.rglob("*")} == {LAB}


@needs_root
def test_a_lock_and_a_folder_of_results_of_another_user_are_named_with_their_owner(shared):
    runs = shared / "runs"

    def locked() -> bool:
        with claim(runs, "0123456789abcdef") as claimed:
            return claimed

    assert as_user(ANNE, locked) is True
    lock = runs / ".claims" / "0123456789abcdef.lock"
    owner = f"belongs to user {ANNE}, and `chmod g+w"
    assert as_user(BERT, locked) == (
        f"{lock}: cannot be locked: Permission denied: {lock} {owner} {lock}` by user {ANNE} would let its group write "
        "there; or choose another --results"
    )
    as_user(ANNE, lambda: make_run_folder(runs / "machine" / "run"))
    for place in (runs / "machine" / "run", runs / "machine" / "other"):
        told = as_user(BERT, lambda place=place: make_run_folder(place))
        assert told.startswith(f"{place}: cannot be written to: Permission denied: ")
        assert owner in told


@needs_root
def test_a_reference_that_cannot_be_kept_costs_a_note_that_names_the_owner(shared):
    references = cache_folder("references")
    references.mkdir(parents=True, exist_ok=True)
    os.chown(references, ANNE, LAB)

    def noted() -> list[str]:
        notes: list[str] = []
        kept_features("some-0123456789abcdef", 3, lambda: (torch.zeros(3, 4), torch.zeros(3, 2)), notes.append)
        return notes

    (note,) = as_user(BERT, noted)
    assert note.startswith("cannot keep ")
    assert f"Permission denied: {references} belongs to user {ANNE}" in note
