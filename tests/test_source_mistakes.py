"""Files that people have: odd ones are read as meant, and wrong ones refused in a line."""

import io
import struct
import tarfile
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image
from sklearn.metrics import r2_score

from jnas import data
from jnas.base import InputError
from jnas.evaluators import Examples
from jnas.evaluators.tasks import regression
from jnas.problems import dataset_of

TABLE = "a,b,y\n" + "".join(f"{i},{i * i},{2 * i}\n" for i in range(10))
TS = "@problemName x\n@classLabel true a b\n@data\n" + "1,2,3:a\n2,3,4:b\n" * 5


def write(file: Path, content: str | bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def picture(file: Path, value: Any = 0, size: int = 4) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size, size), value, np.uint8)).save(file)


def sound(file: Path, seconds: float = 0.2, rate: int = 8000, seed: int = 0) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(-9999, 9999, int(seconds * rate))
    with wave.open(str(file), "wb") as f:
        f.setnchannels(1)
        f.setsampwidth(2)
        f.setframerate(rate)
        f.writeframes(noise.astype("<i2").tobytes())


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    head = struct.pack(">HBB", 0, kind, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.tobytes()


def cifar(file: Path, label: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    row = bytes([label, *[7] * 3072])
    with tarfile.open(file, "w:gz") as archive:
        for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            info.size = len(row)
            archive.addfile(info, io.BytesIO(row))


# ----------------------------------------------------------------------------------- refused


def _transcripts(folder: Path, lines: list[str], seconds: float = 0.2) -> dict[str, Any]:
    for i in range(6):
        sound(folder / f"{i}.wav", seconds)
    write(folder / "transcripts.tsv", "\n".join(lines))
    return {"path": str(folder), "rate": 8000}


def _idx_files(folder: Path, test: np.ndarray, labels: bytes) -> dict[str, Any]:
    images = np.zeros((9, 4, 4), np.uint8)
    write(folder / "train-images-idx3-ubyte", idx(images))
    write(folder / "train-labels-idx1-ubyte", labels)
    write(folder / "t10k-images-idx3-ubyte", idx(test))
    write(folder / "t10k-labels-idx1-ubyte", idx(np.zeros(len(test), np.uint8)))
    return {"path": str(folder)}


def _path(make: Callable[[Path], Any], name: str) -> Callable[[Path], dict[str, Any]]:
    def made(folder: Path) -> dict[str, Any]:
        make(folder / name)
        return {"path": str(folder / name)}

    return made


def _text(content: str | bytes, name: str = "a") -> Callable[[Path], dict[str, Any]]:
    return _path(lambda file: write(file, content), name)


PAIR = "eins\tone\n"
SAID = [f"{i}.wav\tone two" for i in range(6)]
LABELS = idx(np.zeros(9, np.uint8))
REFUSED: list[tuple[str, Callable[[Path], dict[str, Any]], str]] = [
    ("csv", _text(TABLE + "nan,1,2\n"), "line 12: a='nan': a finite number is needed"),
    ("csv", _text(TABLE + "1,1e40,2\n"), "line 12: b='1e40': a finite number"),
    ("csv", _text(TABLE + "1,2,inf\n"), "line 12: y='inf': a finite number"),
    ("csv", _text(TABLE + "\n1,2\n"), "line 13: 2 columns; there are 3"),
    ("csv", _text(TABLE.partition("\n")[2]), "first row has to name the columns"),
    ("csv", _text(""), "a row of names, 2 columns and 5 rows at least are needed"),
    ("csv", _text("a\n" + "1\n" * 9), "a row of names, 2 columns and 5 rows"),
    ("csv", _text("a,b\n" + "1,2\n" * 3), "a row of names, 2 columns and 5 rows"),
    ("csv", _text(b"\xff" + TABLE.encode()), "is not UTF-8"),
    ("ts", _text(TS.replace("@class", "@targetlabel true\n@class"), "A_TRAIN.ts"), "to predict"),
    ("ts", _text(TS.replace("1,2", "inf,2", 1), "A_TRAIN.ts"), "line 4: a value is infinite"),
    ("ts", _text(TS + "1,2,3:\n", "A_TRAIN.ts"), "line 14: there is no class"),
    ("pairs", _text(PAIR * 12 + "\nthree\tin\ta row\n"), "line 14 has 2 tabs"),
    ("pairs", _text(PAIR * 3), "has 3 lines: at least 10"),
    ("pairs", _text(b"\xff\t\xff\n" * 12), "is not UTF-8"),
    ("text", lambda folder: {"most": -1}, "data.most=-1: a number of bytes"),
    ("image_folder", lambda folder: {"path": str(folder), "size": 0}, "data.size=0: a whole"),
    ("wav_folder", lambda folder: {"path": str(folder), "rate": 0}, "data.rate=0: a whole number"),
    (
        "wav_folder",
        lambda folder: {"path": str(folder), "seconds": 0.0},
        "data.seconds=0.0: it has",
    ),
    ("wav_transcripts", lambda f: _transcripts(f, [*SAID[:4], "", "5.wav"]), "line 6: a wav file"),
    (
        "wav_transcripts",
        lambda folder: _transcripts(folder, [*SAID[:5], "5.wav\t" + "ab" * 99]),
        "198 characters need 198 frames for CTC, and it has 8",
    ),
    (
        "wav_transcripts",
        lambda folder: _transcripts(folder, [f"{i}.wav\toooooo" for i in range(6)], 0.11),
        "6 characters need 11 frames for CTC, and it has",
    ),
    ("wav_transcripts", lambda folder: _transcripts(folder, SAID, 0.0), "0 bytes of samples"),
    (
        "idx",
        lambda folder: _idx_files(folder, np.zeros((3, 5, 5), np.uint8), LABELS),
        "test: images of (5, 5), and those to train on are of (4, 4)",
    ),
    (
        "idx",
        lambda f: _idx_files(f, np.zeros((3, 4, 4), np.uint8), idx(np.zeros(9, ">f4"), 13)),
        "labels float32: whole numbers from 0",
    ),
    ("cifar10_archive", _path(lambda f: cifar(f, 10), "cifar-10.tar.gz"), "labels from 10 to 10"),
    ("cifar10_archive", _text(b"no archive", "cifar-10.tar.gz"), "is not an archive of cifar-10"),
]


@pytest.mark.parametrize(("name", "make", "told"), REFUSED, ids=[told for *_, told in REFUSED])
def test_a_wrong_file_or_option_is_refused_in_a_line(
    name: str, make: Callable[[Path], dict[str, Any]], told: str, tmp_path: Path
) -> None:
    options = make(tmp_path / "files")
    with pytest.raises(InputError) as caught:
        data.load(name, data_dir=tmp_path / "d", options=options)
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_pixels_of_more_than_16_bits_are_refused(tmp_path: Path) -> None:
    for i in range(10):
        picture(tmp_path / "files" / "ab"[i % 2] / f"{i}.png", i)
    grey = np.full((4, 4), 70_000, np.int32)
    Image.fromarray(grey).save(tmp_path / "files" / "a" / "x.tif")
    with pytest.raises(InputError, match="has pixels of int32: 8 or 16 bits are needed"):
        data.load(
            "image_folder", data_dir=tmp_path / "d", options={"path": str(tmp_path / "files")}
        )


def test_only_series_have_a_mask(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data.mask=True: data set 'digits' has no padding"):
        data.load("digits", data_dir=tmp_path, mask=True)


# -------------------------------------------------------------------------------- as is meant


def test_16_bits_of_grey_become_8(tmp_path: Path) -> None:
    folder = tmp_path / "files" / "a"
    folder.mkdir(parents=True)
    for i in range(5):
        Image.fromarray(np.full((4, 4), 257 * 50 * i, np.uint16)).save(folder / f"{i}.png")
    options = {"path": str(folder.parent), "grey": True}
    found = data.load("image_folder", data_dir=tmp_path / "d", options=options)
    test = data.load_test("image_folder", data_dir=tmp_path / "d", options=options)
    every = np.concatenate([found.train.x, found.validation.x, test.x])
    assert sorted(set(every.ravel().tolist())) == [0, 50, 100, 150, 200]


def _folder(path: Path) -> data.Dataset:
    options = {"path": str(path), "grey": True, "size": 4}
    return data.load("image_folder", data_dir=path.parent / "d", options=options)


def test_links_to_folders_are_followed_and_hidden_files_are_not_there(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    for i in range(12):
        picture(folder / "ab"[i % 2] / f"{i}.png", i)
        picture(tmp_path / "elsewhere" / f"{i}.png", 100 + i)
    (folder / "c").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    picture(folder / ".ipynb_checkpoints" / "1.png")
    write(folder / "a" / "._1.png", b"\x00\x05\x16\x07")
    found = _folder(folder)
    assert found.num_classes == 3
    first = found.train.x[:, 0, 0, 0]
    np.testing.assert_array_equal(found.train.y, np.where(first >= 100, 2, first % 2))


def test_a_link_in_the_folder_of_another_class_is_another_class(tmp_path: Path) -> None:
    folder, kept = tmp_path / "files" / "train", tmp_path / "kept.png"
    picture(kept, 200)
    for i in range(12):
        picture(folder / "ab"[i % 2] / f"{i}.png", i)

    def classes() -> set[int]:
        found = _folder(folder.parent)
        rows = np.concatenate([found.train.y, found.validation.y])
        first = np.concatenate([found.train.x, found.validation.x])[:, 0, 0, 0]
        return set(rows[first == 200].tolist())

    link = folder / "a" / "0.png"
    link.unlink()
    link.symlink_to(kept)
    assert classes() == {0}
    link.rename(folder / "b" / "0.png")
    assert classes() == {1}


def test_a_folder_that_is_in_itself_is_read_once(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    for i in range(12):
        picture(folder / "ab"[i % 2] / f"{i}.png", i)
    assert len(data.contents.files_in(folder, (".png",))) == 12
    (folder / "a" / "again").symlink_to(folder, target_is_directory=True)
    (folder / "b" / "itself").symlink_to(folder / "b", target_is_directory=True)
    assert len(data.contents.files_in(folder, (".png",))) == 12


def test_two_splits_may_be_links_to_one_folder(tmp_path: Path) -> None:
    for i in range(12):
        picture(tmp_path / "all" / "ab"[i % 2] / f"{i}.png", i)
    (tmp_path / "files").mkdir()
    for split in ("train", "test"):
        (tmp_path / "files" / split).symlink_to(tmp_path / "all", target_is_directory=True)
    assert len(data.contents.files_in(tmp_path / "files", (".png",))) == 24


def test_a_byte_order_mark_is_no_part_of_a_table_or_a_text(tmp_path: Path) -> None:
    mark = "\ufeff"
    file = write(tmp_path / "a.csv", mark + TABLE)
    options = {"path": str(file), "target": "a"}
    assert data.load("csv", data_dir=tmp_path / "d", options=options).shape == (2,)
    file = write(tmp_path / "pairs.tsv", mark + "a\u2028b\tone\r\n\r\n" + PAIR * 12)
    found = data.load("pairs", data_dir=tmp_path / "d", options={"path": str(file)})
    assert found.shape == (len("a\u2028b".encode()) + 1,)  # that character ends no line


def test_classes_of_a_table_are_asked_for_in_a_config(tmp_path: Path) -> None:
    rows = "".join(f"{i},{i % 5},{'猫' if i % 2 else 'dog'}\n" for i in range(40))
    file = write(tmp_path / "a.csv", "a,b,kind\n" + rows)
    settings = {"name": "csv", "path": str(file), "data_dir": str(tmp_path / "d")}
    found = dataset_of(ConfigDict({"data": {**settings, "classes": True}}))
    assert (found.task, found.num_classes, found.shape) == ("classification", 2, (2,))
    with pytest.raises(InputError, match="kind='dog': a finite number is needed"):
        dataset_of(ConfigDict({"data": settings}))


def test_data_without_a_test_split_are_refused_before_a_search(tmp_path: Path) -> None:
    file = write(tmp_path / "A_TRAIN.ts", TS)
    settings = {"name": "ts", "path": str(file), "data_dir": str(tmp_path / "d")}
    config = ConfigDict({"data": settings})
    with pytest.raises(InputError, match="data set 'ts' has no split 'test': it has train"):
        dataset_of(config)
    assert dataset_of(config, test=False).splits == ("train",)


def test_a_constant_column_is_zero_to_a_network() -> None:
    x = np.asarray([[1, 5], [3, 5]], np.float32)
    some = Examples(x, np.zeros(2), x.mean(0), x.std(0))
    np.testing.assert_allclose(some.inputs(jnp.arange(2)), [[-1, 0], [1, 0]])


def test_r2_is_that_of_scikit_learn_for_constants_too() -> None:
    rng = np.random.default_rng(0)
    y = np.stack([rng.normal(size=50), np.full(50, 3.0), np.full(50, -7.0)], 1).astype(np.float32)
    outputs = y + np.asarray([0.3, 0.5, 0], np.float32) * rng.normal(size=y.shape).astype("f4")
    task = regression(np.zeros(3), np.ones(3))
    sums = task.sums(lambda x: x, jnp.asarray(outputs), jnp.asarray(y), jnp.ones(50))
    found = float(task.finish(sums, 50)["r2"])
    assert found == pytest.approx(r2_score(y, outputs), abs=1e-5)
    each = r2_score(y, outputs, multioutput="raw_values")
    assert each[1:].tolist() == [0, 1]
