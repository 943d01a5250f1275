"""Indexes of vectors: the same promises for every kind, the exact one as the reference."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiadapt.errors import ArtifactError, CellError, ExtraError, SpecError
from multiadapt.search import KINDS, Sources, build_index, check_index, open_index
from multiadapt.search import lance as lance_module
from multiadapt.search.exact import BLOCK, PARTS, ExactIndex
from multiadapt.search.faiss import FaissIndex

EXTRAS = {"hnsw": "faiss", "ivf": "faiss", "lance": "lancedb"}
MADE_BY = "0" * 64


def units(rows: int, width: int = 8, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def installed(kind: str) -> bool:
    return kind not in EXTRAS or importlib.util.find_spec(EXTRAS[kind]) is not None


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    if not installed(request.param):
        pytest.skip(f"needs {EXTRAS[request.param]}")
    return request.param


def build(kind: str, rows: int = 60, **options: Any) -> Any:
    ids = [f"photo {i}" if i % 2 else i for i in range(rows)]
    return build_index(ids, units(rows), made_by=MADE_BY, kind=kind, **options)


def dense(index: Any, vectors: np.ndarray, queries: np.ndarray, ids: list[Any], k: int) -> Any:
    """What a full sort finds."""
    scores = queries @ vectors.T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return [[ids[i] for i in row] for row in order], np.take_along_axis(scores, order, 1)


# every kind


def test_every_vector_finds_itself(kind: str) -> None:
    index = build(kind)
    found = index.search(units(60), k=1)
    assert [ids[0] for ids in found.ids] == list(index.ids)
    assert all(scores[0] == pytest.approx(1, abs=1e-5) for scores in found.scores)
    assert (len(index), index.count, index.dimension, index.made_by) == (60, 60, 8, MADE_BY)
    assert index.metric == "inner product of unit vectors"


def test_scores_fall_and_ids_keep_their_type(kind: str) -> None:
    found = build(kind).search(units(3, seed=1), k=7)
    for ids, scores in zip(found.ids, found.scores, strict=True):
        assert (np.diff(scores) <= 0).all()
        assert len(set(ids)) == len(ids) == 7
        assert {type(i) for i in ids} <= {int, str}


def test_more_than_there_are_gives_all(kind: str) -> None:
    index = build(kind, rows=100)
    ids, scores = dense(index, units(100), units(4, seed=2), list(index.ids), 100)
    found = index.search(units(4, seed=2), k=1000)
    assert [sorted(map(str, i)) for i in found.ids] == [sorted(map(str, i)) for i in ids]
    np.testing.assert_allclose(found.scores, scores, atol=1e-5)


def test_removed_are_not_found_and_can_be_added_again(kind: str) -> None:
    index = build(kind)
    index.remove([0, "photo 1", "photo 59"])
    assert len(index) == 57
    assert 0 not in index
    found = index.search(units(60), k=60)
    assert all(len(ids) == 57 and not {0, "photo 1", "photo 59"} & set(ids) for ids in found.ids)
    index.add([0], units(60)[59:])
    assert index.search(units(60)[59:], k=1).ids == [[0]]


def test_removing_most_or_all_leaves_a_working_index(kind: str) -> None:
    index = build(kind)
    index.remove(list(index.ids)[:50])
    assert index.search(units(60)[55:56], k=3).ids[0][0] == "photo 55"
    index.remove(list(index.ids))
    with pytest.raises(ArtifactError, match="the index is empty: add vectors before you search"):
        index.search(units(1))
    index.add(["new"], units(1))
    assert index.search(units(1), k=5).ids == [["new"]]


def test_updated_are_found_at_their_new_place(kind: str) -> None:
    index = build(kind)
    index.update(["photo 3", 10], units(2, seed=9))
    assert len(index) == 60
    assert [i[0] for i in index.search(units(2, seed=9), k=1).ids] == ["photo 3", 10]
    assert index.search(units(60)[3:4], k=1).ids != [["photo 3"]]


@pytest.mark.parametrize("rows", [0, 60])
def test_saved_and_opened_is_the_same(kind: str, rows: int, tmp_path: Path) -> None:
    index = build_index(list(range(rows)), units(rows), made_by=MADE_BY, kind=kind)
    if rows:
        index.remove([5, 6])
    index.save(tmp_path / "index")
    again = open_index(tmp_path / "index", made_by=MADE_BY)
    assert list(again.ids) == list(index.ids)
    assert (again.kind, again.dimension, again.made_by) == (kind, 8, MADE_BY)
    if not rows:
        with pytest.raises(ArtifactError, match="the index is empty"):
            again.search(units(1))
        return
    a, b = (i.search(units(5, seed=3), k=9) for i in (index, again))
    assert a.ids == b.ids
    np.testing.assert_array_equal(a.scores, b.scores)


def test_changes_stay_in_memory_until_saved(kind: str, tmp_path: Path) -> None:
    build(kind).save(tmp_path / "index")
    changed = open_index(tmp_path / "index", made_by=MADE_BY)
    changed.update([0], units(1, seed=7))
    changed.remove([2])
    changed.add(["new"], units(1, seed=8))
    before = open_index(tmp_path / "index", made_by=MADE_BY)
    assert before.search(units(60)[:1], k=1).ids == [[0]]
    assert 2 in before
    changed.save(tmp_path / "index")
    after = open_index(tmp_path / "index", made_by=MADE_BY)
    assert after.search(units(1, seed=8), k=1).ids == [["new"]]
    assert after.search(units(1, seed=7), k=1).ids == [[0]]
    assert (2 in after, len(after)) == (False, 60)
    assert [p.name for p in tmp_path.iterdir()] == ["index"]


def test_what_vectors_were_made_of_is_kept_and_follows_changes(kind: str, tmp_path: Path) -> None:
    cells: dict[Any, Any] = {"a": "a", 1: "one.png", "b": ["x.png", "y.png"]}
    index = build_index(
        list(cells),
        units(3),
        made_by=MADE_BY,
        kind=kind,
        sources=Sources("target", "/r", cells.copy()),
    )
    index.add(["new"], units(1, seed=5), cells=[Path("new.png")])
    index.update(["a"], units(1, seed=6))
    index.remove([1])
    index.save(tmp_path / "index")
    again = open_index(tmp_path / "index", made_by=MADE_BY).sources
    assert again == Sources("target", "/r", {"b": ["x.png", "y.png"], "new": "new.png"})
    with pytest.raises(CellError, match="each id needs its cell, got 1 ids, 2 cells"):
        index.add(["more"], units(1, seed=7), cells=["a", "b"])
    with pytest.raises(CellError, match=r"cell of id 'more' must be a text, a path .* got int"):
        index.add(["more"], units(1, seed=7), cells=[5])
    assert "more" not in index
    plain = build(kind)
    with pytest.raises(SpecError, match="this index keeps no cells"):
        plain.update([0], units(1), cells=["a"])
    plain.save(tmp_path / "plain")
    assert open_index(tmp_path / "plain", made_by=MADE_BY).sources is None
    moved = open_index(tmp_path / "index", made_by=MADE_BY, root=tmp_path / "other").sources
    assert moved == Sources("target", str((tmp_path / "other").resolve()), again.cells)
    with pytest.raises(SpecError, match="plain keeps no paths of files: leave root out"):
        open_index(tmp_path / "plain", made_by=MADE_BY, root=tmp_path)
    (tmp_path / "index/sources.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"sources\.json has 2 bytes of"):
        open_index(tmp_path / "index", made_by=MADE_BY)


def test_an_index_of_another_model_is_refused(kind: str, tmp_path: Path) -> None:
    build(kind).save(tmp_path / "index")
    with pytest.raises(
        ArtifactError, match=r"another model or adapter \(000000000000…\).*\(ffffffffffff…\)"
    ):
        open_index(tmp_path / "index", made_by="f" * 64)


def test_every_file_cut_short_or_altered_is_refused(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    build(kind).save(folder)
    for path in [p for p in folder.rglob("*") if p.is_file() and p.name != "index.json"]:
        held = path.read_bytes()
        path.unlink()  # the file may be linked to another
        with pytest.raises(ArtifactError, match=f"{path.name} is gone: copy the index again"):
            open_index(folder, made_by=MADE_BY)
        path.write_bytes(held[:-1])
        with pytest.raises(ArtifactError, match=f"has {len(held) - 1} bytes of {len(held)}"):
            open_index(folder, made_by=MADE_BY)
        path.write_bytes(held[:-1] + bytes([held[-1] ^ 1]))
        with pytest.raises(ArtifactError, match="was altered, its checksum is another"):
            open_index(folder, made_by=MADE_BY)
        path.write_bytes(held)
    open_index(folder, made_by=MADE_BY)


def test_a_broken_save_leaves_the_old_index(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = build(kind)
    index.save(tmp_path / "index")
    index.remove([0])
    rename = Path.rename

    def fail(self: Path, target: Any) -> Any:
        if self.name == "new":
            raise OSError("disk full")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="disk full"):
        index.save(tmp_path / "index")
    monkeypatch.undo()
    assert 0 in open_index(tmp_path / "index", made_by=MADE_BY)
    assert [p.name for p in tmp_path.iterdir()] == ["index"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i: i.add(["a", "b", "a"], units(3)), "'a' stands 2 times"),
        (lambda i: i.add(["a", 4], units(2)), "1 of 2 ids are in the index already, such as 4"),
        (lambda i: i.add(["a"], units(2)), "got 1 ids, 2 vectors"),
        (lambda i: i.add([True], units(1)), "id 0: an id must be text or a whole number, got bool"),
        (lambda i: i.add(["a"], units(1, 9)), r"shape \(n, 8\), got float32 of \(1, 9\)"),
        (lambda i: i.add(["a", "b"], units(2) * [[1.0], [2.0]]), "vector of id 'b' has length 2,"),
        (lambda i: i.add(["a"], units(1) * np.nan), "has length nan, 1 of 1 are not of length 1"),
        (lambda i: i.remove(["a"]), "1 of 1 ids are not in the index, such as 'a'"),
        (lambda i: i.update([1], units(1)), "not in the index, such as 1"),
        (lambda i: i.search(units(2) * 0, k=1), "vector 0 has length 0, 2 of 2"),
    ],
)
def test_bad_ids_and_vectors_are_errors_and_change_nothing(
    kind: str, change: Callable[[Any], Any], message: str
) -> None:
    index = build(kind)
    with pytest.raises(CellError, match=message):
        change(index)
    assert len(index) == 60


def test_less_than_one_result_is_an_error(kind: str) -> None:
    with pytest.raises(SpecError, match="k must be at least 1, got 0"):
        build(kind).search(units(1), k=0)


def test_ids_may_be_any_text(kind: str, tmp_path: Path) -> None:
    names = ["it's", 'a "b"', "дом 🦊", "", "\ud800", " x "]
    index = build_index(names, units(6), made_by=MADE_BY, kind=kind)
    index.save(tmp_path / "index")
    index = open_index(tmp_path / "index", made_by=MADE_BY)
    index.remove(["it's"])
    assert [i[0] for i in index.search(units(6)[1:], k=1).ids] == names[1:]


def test_nothing_added_removed_or_updated_is_nothing(kind: str) -> None:
    index = build(kind)
    index.add([], units(0))
    index.remove([])
    index.update([], units(0))
    assert len(index) == 60
    assert index.search(units(0)).ids == []


def test_most_neighbours_are_those_of_the_exact_index(kind: str) -> None:
    rng = np.random.default_rng(0)
    centres = units(20, 16)
    vectors = centres[rng.integers(20, size=3000)] + 0.3 * units(3000, 16, seed=1)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index, exact = (
        build_index(range(3000), vectors, made_by=MADE_BY, kind=k) for k in (kind, "exact")
    )
    a, b = (i.search(vectors[:100], k=10).ids for i in (index, exact))
    recall = np.mean([len(set(x) & set(y)) / 10 for x, y in zip(a, b, strict=True)])
    assert recall >= (0.9 if kind in ("hnsw", "ivf") else 0.999)


# the exact index


@given(
    rows=st.integers(1, 40),
    k=st.integers(1, 50),
    levels=st.integers(1, 4),
    seed=st.integers(0, 99),
    removed=st.integers(0, 10),
)
def test_exact_equals_a_full_sort_with_the_first_added_of_equal_ones(
    rows: int, k: int, levels: int, seed: int, removed: int
) -> None:
    # Few different vectors: many ties. Their products are exact, in whatever order a machine adds.
    kinds = np.random.default_rng(seed).choice([-0.5, 0.5], (levels, 4)).astype(np.float32)
    vectors = kinds[np.random.default_rng(seed).integers(levels, size=rows)]
    index = build_index(list(range(rows)), vectors, made_by=MADE_BY)
    gone = list(range(0, rows - 1, 3))[:removed]
    index.remove(gone)
    left = [i for i in range(rows) if i not in gone]
    ids, scores = dense(index, vectors[left], kinds, left, k)
    found = index.search(kinds, k)
    np.testing.assert_allclose(found.scores, scores, atol=1e-6)
    assert found.ids == ids


def test_exact_over_several_blocks_equals_a_full_sort() -> None:
    rows = BLOCK + 1000
    vectors, queries = units(rows), units(5, seed=4)
    index = ExactIndex(8, MADE_BY)
    for start in range(0, rows, 5000):
        stop = min(start + 5000, rows)
        index.add(list(range(start, stop)), vectors[start:stop])
    ids, scores = dense(index, vectors, queries, list(range(rows)), 20)
    found = index.search(queries, k=20)
    assert found.ids == ids
    np.testing.assert_allclose(found.scores, scores, atol=1e-6)


def test_many_small_additions_are_joined() -> None:
    index = ExactIndex(8, MADE_BY)
    for i, vector in enumerate(units(3 * PARTS)):
        index.add([i], vector[None])
    assert len(index._parts) <= PARTS
    found = index.search(units(3 * PARTS), k=1)
    assert [i[0] for i in found.ids] == list(range(3 * PARTS))


def test_half_precision_is_half_the_file_and_nearly_the_same(tmp_path: Path) -> None:
    sizes = []
    for dtype in ("float32", "float16"):
        index = build("exact", rows=1000, dtype=dtype)
        index.save(tmp_path / dtype)
        again = open_index(tmp_path / dtype, made_by=MADE_BY)
        found = again.search(units(1000)[:50], k=3)
        assert [i[0] for i in found.ids] == list(index.ids)[:50]
        assert all(abs(s[0] - 1) < 2e-3 for s in found.scores)
        sizes.append((tmp_path / dtype / "vectors.npy").stat().st_size)
    assert sizes[1] < 0.52 * sizes[0]
    with pytest.raises(SpecError, match="dtype must be float32 or float16, got 'int8'"):
        build("exact", dtype="int8")


def test_a_saved_exact_index_is_mapped_not_read(tmp_path: Path) -> None:
    build("exact").save(tmp_path / "index")
    index: Any = open_index(tmp_path / "index", made_by=MADE_BY)
    assert isinstance(index._parts[0], np.memmap)


def test_the_callers_vectors_are_copied() -> None:
    vectors = units(4)
    index = build_index(list("abcd"), vectors, made_by=MADE_BY)
    index.update(["a"], units(1, seed=5))
    np.testing.assert_array_equal(vectors, units(4))
    vectors[:] = 0
    assert index.search(units(4)[1:2], k=1).ids == [["b"]]


# folders


def test_another_folder_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ArtifactError, match="holds something that is no index"):
        build("exact").save(tmp_path)
    with pytest.raises(ArtifactError, match="holds something that is no index"):
        build("exact").save(tmp_path / "letter.txt")


def test_a_folder_without_an_index_says_so(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"is no saved index: it has no index\.json"):
        open_index(tmp_path, made_by=MADE_BY)


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ("{", "index.json is not JSON"),
        ("[]", "index.json has format 'list'; this version reads 1"),
        ('{"format": 9}', "has format 9; this version reads 1"),
        ('{"format": 1}', "index.json is damaged: KeyError"),
    ],
)
def test_a_damaged_description_is_refused(tmp_path: Path, held: str, message: str) -> None:
    build("exact").save(tmp_path / "index")
    (tmp_path / "index/index.json").write_text(held)
    with pytest.raises(ArtifactError, match=message):
        open_index(tmp_path / "index", made_by=MADE_BY)


def test_a_kind_that_this_version_does_not_know_is_refused(tmp_path: Path) -> None:
    build("exact").save(tmp_path / "index")
    path = tmp_path / "index/index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"kind": "tree"}))
    with pytest.raises(ArtifactError, match="an index of kind 'tree'; this version reads exact"):
        open_index(tmp_path / "index", made_by=MADE_BY)


def test_options_that_do_not_exist_are_errors() -> None:
    with pytest.raises(SpecError, match="kind must be one of exact, hnsw, ivf, lance, got 'tree'"):
        build("tree")
    with pytest.raises(SpecError, match="kind must be hnsw or ivf, got 'exact'"):
        FaissIndex(8, MADE_BY, kind="exact")
    with pytest.raises(CellError, match=r"vectors must be of shape \(n, width\), got \(3, 0\)"):
        build_index([1, 2, 3], np.zeros((3, 0), np.float32), made_by=MADE_BY)
    for kind in EXTRAS:
        with pytest.raises(SpecError, match="effort must be at least 1, got 0"):
            build(kind, effort=0)


def test_an_option_of_another_kind_is_named_with_those_there_are(kind: str) -> None:
    known = "dtype" if kind == "exact" else "effort"
    with pytest.raises(
        SpecError, match=rf"kind '{kind}' has no options \['nprob'\]; it has {known}$"
    ):
        check_index(kind, {"nprob": 3})
    with pytest.raises(SpecError, match=f"it has {known}$"):
        build(kind, made_of="vectors")


@pytest.mark.parametrize(("kind", "package"), [("hnsw", "FAISS"), ("lance", "LanceDB")])
def test_without_the_extra_the_error_names_it(
    kind: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, EXTRAS[kind], None)
    with pytest.raises(
        ExtraError, match=rf"needs {package}: pip install multiadapt\[search\]; the exact one"
    ):
        build(kind)


# what only one kind does


@pytest.mark.skipif(not installed("ivf"), reason="needs faiss")
def test_lists_are_made_anew_as_the_index_grows() -> None:
    index: Any = build_index(range(100), units(100), made_by=MADE_BY, kind="ivf")
    first = index._index.nlist
    index.add(range(100, 2000), units(1900, seed=1))
    assert index._index.nlist > first
    assert index.search(units(1900, seed=1)[-1:], k=1).ids == [[1999]]


@pytest.mark.skipif(not installed("hnsw"), reason="needs faiss")
def test_removed_vectors_leave_the_graph_when_they_are_many() -> None:
    index: Any = build("hnsw", rows=100)
    index.remove(list(index.ids)[:10])
    assert index._index.ntotal == 100
    index.remove(list(index.ids)[:20])
    assert index._index.ntotal == 70


@pytest.mark.skipif(not installed("lance"), reason="needs lancedb")
def test_a_saved_table_is_read_where_it_lies_until_it_is_changed(tmp_path: Path) -> None:
    build("lance").save(tmp_path / "index")
    index: Any = open_index(tmp_path / "index", made_by=MADE_BY)
    index.search(units(1))
    assert index._home == tmp_path / "index"
    index.remove([0])
    home = index._home
    assert home != tmp_path / "index"
    del index
    assert not home.exists()


@pytest.mark.skipif(not installed("lance"), reason="needs lancedb")
def test_lists_on_disk_find_what_comparing_all_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lance_module, "LOOSE", 500)
    index: Any = build_index(range(1000), units(1000), made_by=MADE_BY, kind="lance")
    index.effort = 1000
    index.save(tmp_path / "index")
    assert index._lists == 31
    again: Any = open_index(tmp_path / "index", made_by=MADE_BY)
    again.effort = 1000
    again.add(["late"], units(1, seed=6))
    exact = build_index(range(1000), units(1000), made_by=MADE_BY)
    exact.add(["late"], units(1, seed=6))
    queries = units(6, seed=6)
    assert again.search(queries, k=8).ids == exact.search(queries, k=8).ids
    again.effort = 1
    assert len(again.search(queries[:1], k=1000).ids[0]) == 1000
