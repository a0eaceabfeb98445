"""The data sets: what is stored, what a search may see of it, and what a mistake is answered."""

import contextlib
import io
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from sklearn.datasets import load_digits

from jnas import data
from jnas.base import InputError
from jnas.data import digits as digits_file
from jnas.data import reading

N = 12  # rows a split of the toy data sets


@pytest.fixture(scope="session")
def digits_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    data.load("digits", data_dir=folder)
    return folder


def refusal(call, *args, **kwargs):
    """The message of the InputError that a call must raise: one line, and at once."""
    start = time.monotonic()
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    assert time.monotonic() - start < 5
    message = str(caught.value)
    assert message and "\n" not in message
    return message


def toy(root, splits=("train", "test"), shape=(4, 4, 1), num_classes=3, label=None, fmt=None):
    """Prepares a data set of `N` random images a split; returns its folder."""
    features = {
        "extra": tfds.features.Text(),
        "image": tfds.features.Image(shape=shape, encoding_format="png"),
        "label": label or tfds.features.ClassLabel(num_classes=num_classes),
    }

    class Toy(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                supervised_keys=("image", "label"),
                disable_shuffling=True,
            )

        def _split_generators(self, dl_manager):
            return {name: self._generate_examples(i) for i, name in enumerate(splits)}

        def _generate_examples(self, seed):
            for key in range(N):
                pixels = np.full((4, 4), 100 * seed + key, np.uint8)
                png = io.BytesIO()
                Image.fromarray(pixels).save(png, "png")
                yield key, {"extra": "", "image": png.getvalue(), "label": key % 3}

    builder = Toy(data_dir=root)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        builder.download_and_prepare(file_format=fmt or "array_record")
    return builder.data_dir


def pixel(split):
    """The value that tells the rows of a toy data set apart."""
    return split.x[:, 0, 0, 0].tolist()


# ------------------------------------------------------------------------------------ digits


def bag(x, y):
    return Counter((label, row.tobytes()) for label, row in zip(y.tolist(), x, strict=True))


def test_digits_holds_the_rows_of_scikit_learn_without_loss(digits_dir):
    ds, test = (
        data.load("digits", data_dir=digits_dir),
        data.load_test("digits", data_dir=digits_dir),
    )
    assert (len(ds.train.y), len(ds.validation.y), len(test.y)) == (1078, 359, 360)
    assert ds.train.x.dtype == np.uint8 and ds.train.y.dtype == np.int32
    assert ds.name == "digits" and ds.num_classes == 10 and ds.shape == (8, 8, 1)
    x = np.concatenate([ds.train.x, ds.validation.x, test.x])
    y = np.concatenate([ds.train.y, ds.validation.y, test.y])
    assert x.min() == 0 and x.max() == 255
    levels = np.round(x.reshape(-1, 64) * (16 / 255)).astype(np.uint8)
    images, labels = load_digits(return_X_y=True)
    assert bag(levels, y) == bag(images.astype(np.uint8), labels)


def test_every_slice_of_digits_is_stratified(digits_dir):
    ds, test = (
        data.load("digits", data_dir=digits_dir),
        data.load_test("digits", data_dir=digits_dir),
    )
    share = np.bincount(load_digits().target) / 1797
    for y in (ds.train.y, ds.validation.y, test.y, ds.train.y[100:150]):
        np.testing.assert_array_less(np.abs(np.bincount(y, minlength=10) - share * len(y)), 2)


def test_the_order_of_digits_never_changes():
    order = digits_file.mixed_order(load_digits().target)
    assert sorted(order) == list(range(1797))
    assert order[:8].tolist() == [1380, 1468, 409, 938, 1161, 1696, 1382, 1167]


def test_a_load_repeats_bit_for_bit_even_when_prepared_anew(digits_dir, tmp_path):
    first = data.load("digits", data_dir=digits_dir)
    for folder in (digits_dir, tmp_path):
        again = data.load("digits", data_dir=folder)
        for a, b in zip(
            first.train + first.validation, again.train + again.validation, strict=True
        ):
            np.testing.assert_array_equal(a, b, strict=True)


def test_preparing_digits_prints_nothing_and_importing_is_lazy(tmp_path):
    code = (
        "import sys, jnas.data; assert 'digits' in jnas.data.names(); "
        "assert 'tensorflow_datasets' not in sys.modules; "
        "jnas.data.load('digits'); assert 'tensorflow' not in sys.modules"
    )
    env = {"JNAS_DATA_DIR": str(tmp_path), "PYTHONPATH": ":".join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "digits" / "1.0.0" / "dataset_info.json").is_file()


def test_a_preparation_that_stops_half_way_leaves_no_data_set(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(digits_file, "_png", lambda image: 1 // 0)
        assert "cannot prepare data set 'digits'" in refusal(data.load, "digits", data_dir=tmp_path)
    killed = tmp_path / "digits" / "incomplete.ABCDEF_1.0.0"  # what kill -9 leaves
    killed.mkdir(parents=True)
    (killed / "digits-train.array_record-00000-of-00001").write_bytes(b"half")
    assert len(data.load("digits", data_dir=tmp_path).train.y) == 1078


def test_of_two_preparations_at_once_the_later_takes_what_is_there(
    digits_dir, tmp_path, monkeypatch
):
    split_generators, calls = digits_file.Digits._split_generators, []

    def overtaken(self, dl_manager):
        calls.append(1)
        shutil.copytree(digits_dir / "digits" / "1.0.0", tmp_path / "digits" / "1.0.0")
        return split_generators(self, dl_manager)

    monkeypatch.setattr(digits_file.Digits, "_split_generators", overtaken)
    assert len(data.load("digits", data_dir=tmp_path).train.y) == 1078
    assert calls == [1]
    assert [p.name for p in (tmp_path / "digits").iterdir()] == ["1.0.0"]


# ------------------------------------------------------------------------- splits of a search


@pytest.mark.parametrize("field", ["train", "validation"])
@pytest.mark.parametrize(
    "spec",
    [
        "test",
        "test[:10%]",
        "train+test",
        "train[:10]+ test[5:]",
        "all",
        "all[:5]",
        "test_2",
        "TEST",
    ],
)
def test_a_search_never_sees_the_test_split(digits_dir, field, spec):
    message = refusal(data.load, "digits", data_dir=digits_dir, **{field: spec})
    assert repr(spec) in message and "test split" in message


@pytest.mark.parametrize("spec", ["trian", "train[", "train[:5000]", "", "train[:0]", "train+"])
def test_a_wrong_split_is_named(digits_dir, spec):
    message = refusal(data.load, "digits", data_dir=digits_dir, train=spec)
    assert f"split {spec!r}" in message and "test," not in message


@pytest.mark.parametrize(
    ("train", "validation", "common"),
    [
        ("train", "train", "train[0:1437]"),
        ("train[:60]", "train[50:]", "train[50:60]"),
        ("train[:10]+train[20:30]", "train[15:25]", "train[20:25]"),
        ("train[:20]+train[10:20]", "", "train[12:20]"),  # cut into 22 and 8 rows
    ],
)
def test_overlapping_rows_are_refused(digits_dir, train, validation, common):
    message = refusal(data.load, "digits", data_dir=digits_dir, train=train, validation=validation)
    assert f"'{common}'" in message


def test_rows_that_only_touch_do_not_overlap(digits_dir):
    whole = data.load("digits", data_dir=digits_dir)
    ds = data.load(
        "digits", data_dir=digits_dir, train="train[50:60]+train[:40]", validation="train[40:50]"
    )
    order = [*range(50, 60), *range(40)]
    np.testing.assert_array_equal(ds.train.x, whole.train.x[order])
    np.testing.assert_array_equal(ds.validation.y, whole.train.y[40:50])


@pytest.mark.parametrize(("fraction", "cut"), [(0.25, 9), (0.5, 6), (0.1, 11)])
def test_validation_is_cut_off_the_end_of_train(tmp_path, fraction, cut):
    ds = data.load(toy(tmp_path), validation_fraction=fraction)
    assert pixel(ds.train) == list(range(cut)) and pixel(ds.validation) == list(range(cut, N))
    np.testing.assert_array_equal(ds.train.y, np.arange(cut) % 3)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, 0.01, float("nan")])
def test_a_fraction_that_leaves_a_side_empty_is_refused(tmp_path, fraction):
    assert str(fraction) in refusal(data.load, toy(tmp_path), validation_fraction=fraction)


def test_a_validation_split_is_used_where_there_is_one(tmp_path):
    ds = data.load(toy(tmp_path, splits=("train", "validation")))
    assert pixel(ds.train) == list(range(N))
    assert pixel(ds.validation) == list(range(100, 100 + N))


def test_mean_and_std_are_those_of_the_training_rows(digits_dir, monkeypatch):
    ds = data.load("digits", data_dir=digits_dir)
    np.testing.assert_allclose(ds.mean, ds.train.x.mean((0, 1, 2), dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(ds.std, ds.train.x.std((0, 1, 2), dtype=np.float64), rtol=1e-6)
    monkeypatch.setattr(reading, "_CHUNK", 7)
    x = np.random.RandomState(0).normal(50, 2, (100, 3, 2)).astype(np.float32)
    mean, std = reading._moments(x)
    assert mean.shape == std.shape == (2,) and mean.dtype == std.dtype == np.float32
    np.testing.assert_allclose(mean, x.mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(std, x.std((0, 1)), rtol=1e-5)


# ------------------------------------------------------------------------------ names, folders


def test_a_tfds_name_is_read_by_the_same_call(tmp_path):
    info = tfds.builder("cifar10", data_dir=tmp_path).info
    info.set_file_format("array_record", override=True)
    template = tfds.core.ShardedFileTemplate(
        data_dir=tmp_path, dataset_name="cifar10", filetype_suffix="array_record"
    )
    splits = [
        tfds.core.SplitInfo(name=s, shard_lengths=[20], num_bytes=0, filename_template=template)
        for s in ("train", "test")
    ]
    info.set_splits(tfds.core.SplitDict(splits))
    folder = tmp_path / "cifar10" / "3.0.2"
    folder.mkdir(parents=True)
    info.write_to_directory(folder)
    policy = tfds.testing.MockPolicy.USE_FILES
    for name in ("cifar10", "cifar10:3.0.2", "cifar10:3.*.*"):
        with tfds.testing.mock_data(num_examples=20, data_dir=str(tmp_path), policy=policy):
            ds, test = data.load(name, data_dir=tmp_path), data.load_test(name, data_dir=tmp_path)
        assert ds.train.x.shape == (15, 32, 32, 3) and ds.train.x.dtype == np.uint8
        assert ds.validation.x.shape == (5, 32, 32, 3) and test.x.shape == (20, 32, 32, 3)
        assert (ds.name, ds.num_classes, ds.mean.shape) == ("cifar10", 10, (3,))
        np.testing.assert_array_equal(test.x[15:], ds.validation.x)  # the mock's rows of any split


def test_a_prepared_folder_is_read_by_its_path_or_its_name(digits_dir, tmp_path):
    by_name = data.load("digits", data_dir=digits_dir)
    by_path = data.load(str(digits_dir / "digits" / "1.0.0"), data_dir=tmp_path)
    np.testing.assert_array_equal(by_name.train.x, by_path.train.x)
    toy(tmp_path)
    assert data.load("toy", data_dir=tmp_path).name == "toy"
    assert pixel(data.load_test("toy", data_dir=tmp_path)) == list(range(100, 100 + N))
    assert "there are 1.0.0" in refusal(data.load, "toy:2.0.0", data_dir=tmp_path)


def test_the_data_folder_comes_from_the_environment(digits_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(digits_dir))
    monkeypatch.setenv("JNAS_DATA_DIR", str(tmp_path))
    assert repr(str(tmp_path)) in refusal(data.load, "cifar10")
    monkeypatch.delenv("JNAS_DATA_DIR")
    assert repr(str(digits_dir)) in refusal(data.load, "cifar10")
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert repr(str(tmp_path / "tensorflow_datasets")) in refusal(data.load, "cifar10")


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("digts", "digits"),
        ("Digits", "digits"),
        ("cifar-10", "cifar10"),
        ("mnits:3.0.1", "mnist"),
        ("xqzw", None),
        ("huggingface:mnist", None),
        ("no such set", None),
        ("", None),
    ],
)
def test_an_unknown_name_fails_at_once_with_what_is_allowed(tmp_path, name, close):
    message = refusal(data.load, name, data_dir=tmp_path, download=True)
    assert message.startswith(f"unknown data set {name!r}: allowed are digits, ")
    assert message.partition("; did you mean ")[2] == (f"{close!r}?" if close else "")


@pytest.mark.parametrize("name", ["cifar10", "mnist:3.0.1", "imagenet_resized/8x8"])
def test_a_data_set_that_is_not_prepared_says_how_to_get_it(tmp_path, name):
    message = refusal(data.load, name, data_dir=tmp_path)
    assert repr(name) in message and str(tmp_path) in message and "download=True" in message


@pytest.mark.parametrize("name", ["digits:9.0.0", "digits/config", "/no/such/folder", "./nothing"])
def test_a_wrong_version_config_or_path_is_named(digits_dir, name):
    assert repr(name) in refusal(data.load, name, data_dir=digits_dir)


def test_an_unusable_data_folder_is_named(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    assert repr(str(file)) in refusal(data.load, "digits", data_dir=file)
    assert str(file) in refusal(data.load, "digits", data_dir=file / "below")
    assert str(file) in refusal(data.load, "cifar10", data_dir=file / "below")
    (tmp_path / "digits" / "1.0.0").mkdir(parents=True)  # in the way, and not a data set
    assert "in the way" in refusal(data.load, "digits", data_dir=tmp_path)


# ----------------------------------------------------------------- data sets we do not accept


@pytest.mark.parametrize("damage", ["half", "last byte", "empty", "one bit", "missing", "json"])
@pytest.mark.parametrize("by_path", [True, False])
def test_a_damaged_data_set_is_refused(digits_dir, tmp_path, damage, by_path):
    shutil.copytree(digits_dir / "digits", tmp_path / "digits")
    folder = tmp_path / "digits" / "1.0.0"
    file = folder / "digits-train.array_record-00000-of-00001"
    content = file.read_bytes()
    at = len(content) // 4
    if damage == "missing":
        file.unlink()
    elif damage == "json":
        (folder / "dataset_info.json").write_text('{"name": ')
    else:
        file.write_bytes(
            {
                "half": content[: len(content) // 2],
                "last byte": content[:-1],
                "empty": b"",
                "one bit": content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :],
            }[damage]
        )
    name = str(folder) if by_path else "digits"
    message = refusal(data.load, name, data_dir=tmp_path)
    assert "is damaged" in message and str(tmp_path) in message


def test_only_fixed_size_inputs_with_class_labels_are_read(tmp_path):
    variable = toy(tmp_path / "a", shape=(None, None, 1))
    assert "variable size" in refusal(data.load, variable)
    number = toy(tmp_path / "b", label=tfds.features.Scalar(np.int64))
    assert "no class labels" in refusal(data.load, number)
    text = refusal(data.load, toy(tmp_path / "c"), input_key="extra")
    assert "'extra' is Text" in text
    assert "one of extra, image, label" in refusal(data.load, toy(tmp_path / "c"), input_key="x")


def test_a_data_set_without_test_labels_or_test_split_has_no_test_rows(tmp_path):
    assert "no split 'test'" in refusal(data.load_test, toy(tmp_path, splits=("train",)))


def test_unlabelled_rows_are_refused(tmp_path, monkeypatch):
    folder = toy(tmp_path)
    monkeypatch.setattr(tfds.features.ClassLabel, "num_classes", 2)
    assert "labels from 0 to 2, allowed are 0 to 1" in refusal(data.load_test, folder)


def test_parquet_is_refused(tmp_path):
    # TFDS 4.9 reads back only some of the rows that it wrote.
    pytest.importorskip("pyarrow")
    folder = toy(tmp_path, fmt="parquet")
    assert list(Path(folder).glob("*.parquet*"))
    assert "no array_record files" in refusal(data.load, folder)
