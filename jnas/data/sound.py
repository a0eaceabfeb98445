"""Sound: wav files, and log-mel frames computed on the device."""

import functools
import operator
import wave
from math import gcd
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import InputError
from jnas.data.contents import (
    Contents,
    Source,
    decoded,
    files_in,
    fingerprint,
    folder_of,
    lines_of,
    numbers,
    stamp,
)
from jnas.data.images import split_folders
from jnas.data.series import classified, padded
from jnas.errors import positive


def read_wav(file: Path) -> tuple[np.ndarray, int]:
    """Samples f32[T] in [-1, 1], channels averaged, and the rate, of a PCM wav file.

    Raises:
      InputError: it is not one of 8, 16, 24 or 32 bits.
    """
    try:
        with wave.open(str(file), "rb") as f:
            width, channels, rate = f.getsampwidth(), f.getnchannels(), f.getframerate()
            raw = np.frombuffer(f.readframes(f.getnframes()), np.uint8)
    except (wave.Error, EOFError, OSError) as e:
        what = str(e) or "it ends too early"
        raise InputError(f"{str(file)!r} is not a PCM wav file: {what}") from None
    if not 1 <= width <= 4 or rate < 1 or not len(raw):
        told = f"{8 * width} bits, {rate} samples a second, {len(raw)} bytes of samples"
        raise InputError(f"{str(file)!r}: {told}: sound of 8, 16, 24 or 32 bits is needed")
    raw = raw[: len(raw) // (width * channels) * width * channels].reshape(-1, width)
    if width == 1:
        whole = raw[:, 0].astype(np.float64) / 128 - 1
    else:  # little-endian: put the bytes on top of an int32
        bytes_ = np.zeros((len(raw), 4), np.uint8)
        bytes_[:, 4 - width :] = raw
        whole = bytes_.view("<i4")[:, 0] / 2.0**31
    return whole.reshape(-1, channels).mean(1).astype(np.float32), rate


def wav_folder(
    path: str = "", seconds: float = 1.0, rate: int = 16000, mels: int = 40, window: int = 400,
    hop: int = 160,
) -> Source:  # fmt: skip
    """Sound in a folder for each class, as log-mel frames: `train/yes/1.wav`, or `yes/1.wav`.

    The layout is that of image folders. Frames are computed on the device, once.

    Args:
      path: the folder.
      seconds: what is longer is cut off; what is shorter has fewer frames.
      rate: samples a second that all files are brought to.
      mels: bands.
      window: samples of a frame.
      hop: samples from one frame to the next.
    """
    _check(seconds, rate)
    folder = folder_of(path, "data set 'wav_folder'")
    files = files_in(folder, (".wav",))
    groups, classes = split_folders(folder, files, "wav_folder")

    def make() -> Contents:
        sound = lambda f: resampled(*read_wav(f), rate)[: round(seconds * rate)]
        splits = {}
        for name, rows in groups.items():
            frames = log_mel_files([sound(f) for f, _ in rows], rate, mels, window, hop)
            splits[name] = (frames, np.asarray([k for _, k in rows]))
        return classified(f"Log-mel frames of {path}.", splits, classes)

    settings = (seconds, rate, mels, window, hop)
    return Source("1.0.0", fingerprint(stamp(files), settings), make)


def wav_transcripts(
    path: str = "",
    seconds: float = 10.0,
    rate: int = 16000,
    mels: int = 40,
    window: int = 400,
    hop: int = 160,
) -> Source:
    """Sound and what is said, as log-mel frames and characters: for CTC.

    The folder holds `transcripts.tsv`, whose lines are the name of a wav file, a tab and a text.
    Every fifth, of an order drawn once, is for the test. Label k + 1 is character k of those that
    occur, in the order of their code points; 0 is the blank.

    Args:
      path: the folder.
      seconds: longer sounds are refused: a part has not the whole text.
      rate: as in `wav_folder`, and so all others.
      mels: see there.
      window: see there.
      hop: see there.
    """
    _check(seconds, rate)
    folder = folder_of(path, "data set 'wav_transcripts'")
    table = folder / "transcripts.tsv"
    if not table.is_file():
        raise InputError(f"data set 'wav_transcripts': there is no {str(table)!r}")
    lines = lines_of(decoded(table.read_bytes(), table))
    pairs = [line.split("\t") for _, line in lines]
    for (i, _), pair in zip(lines, pairs, strict=True):
        if len(pair) != 2 or not pair[1] or not (folder / pair[0]).is_file():
            raise InputError(f"{str(table)!r}, line {i}: a wav file, a tab and a text are needed")
    if len(pairs) < 5:
        raise InputError(f"{str(table)!r} has {len(pairs)} lines: at least 5 are needed")
    files = [folder / name for name, _ in pairs]

    def make() -> Contents:
        words = [words for _, words in pairs]
        characters = sorted(set("".join(words)))
        number = {c: k + 1 for k, c in enumerate(characters)}
        sounds = [resampled(*read_wav(f), rate) for f in files]
        for f, each in zip(files, sounds, strict=True):
            if len(each) > seconds * rate:
                raise InputError(f"{str(f)!r} is longer than data.seconds={seconds}")
        frames = log_mel_files(sounds, rate, mels, window, hop)
        for f, each, word in zip(files, frames, words, strict=True):
            needed = len(word) + sum(map(operator.eq, word, word[1:]))  # a blank between equal ones
            if needed > len(each):
                raise InputError(
                    f"{str(f)!r}: {len(word)} characters need {needed} frames for CTC, and it has "
                    f"{len(each)}"
                )
        long, most = max(len(f) for f in frames), max(len(w) for w in words)
        series, labels = padded(frames, long, mels), np.zeros((len(words), most), np.int32)
        for row, word in zip(labels, words, strict=True):
            row[: len(word)] = [number[c] for c in word]
        order = np.random.RandomState(0).permutation(len(words))
        cut = len(words) - len(words) // 5
        return Contents(
            about=f"Log-mel frames and transcripts of {path}.",
            features={"series": numbers(long, mels), "labels": numbers(most, dtype=np.int32)},
            keys=("series", "labels"),
            splits={
                name: {"series": series[rows], "labels": labels[rows]}
                for name, rows in (("train", order[:cut]), ("test", order[cut:]))
            },
            facts={"task": "ctc", "vocabulary": len(characters) + 1, "characters": characters},
        )

    settings = (seconds, rate, mels, window, hop)
    return Source("1.0.0", fingerprint(stamp([table, *files]), settings), make)


def _check(seconds: float, rate: int) -> None:
    positive(**{"data.rate": rate})
    if not seconds > 0:
        raise InputError(f"data.seconds={seconds}: it has to be above 0")


def resampled(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Samples at another rate, through a low-pass filter."""
    if rate == wanted:
        return samples
    from scipy.signal import resample_poly

    common = gcd(rate, wanted)
    return resample_poly(samples, wanted // common, rate // common).astype(np.float32)


# --------------------------------------------------------------------------------- log-mel


def mel(hertz: Any) -> Any:
    """Mels of frequencies: `2595 log10(1 + f / 700)` (O'Shaughnessy 1987)."""
    return 2595 * np.log10(1 + np.asarray(hertz) / 700)


def filterbank(rate: int, bins: int, mels: int) -> np.ndarray:
    """Triangles over the bins of a spectrum, evenly spaced in mels from 0 to half the rate.

    Args:
      rate: samples a second.
      bins: of the spectrum, from 0 to half the rate.
      mels: triangles.

    Returns:
      f32[bins, mels]; the top of each is 1.
    """
    at = np.linspace(0, rate / 2, bins)
    edges = 700 * (10 ** (np.linspace(0, mel(rate / 2), mels + 2) / 2595) - 1)
    left, top, right = edges[:-2], edges[1:-1], edges[2:]
    up = (at[:, None] - left) / (top - left)
    down = (right - at[:, None]) / (right - top)
    return np.maximum(0, np.minimum(up, down)).astype(np.float32)


def spectrogram(x: jax.Array, window: int, hop: int) -> jax.Array:
    """The power of the short-time Fourier transform, with a periodic Hann window.

    Args:
      x: samples f32[..., T], T at least `window`.
      window: samples of a frame.
      hop: samples from one frame to the next.

    Returns:
      f32[..., (T - window) // hop + 1, window // 2 + 1].
    """
    frames = (x.shape[-1] - window) // hop + 1
    rows = np.arange(frames)[:, None] * hop + np.arange(window)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    return jnp.square(jnp.abs(jnp.fft.rfft(x[..., rows] * hann.astype(np.float32))))


def log_mel(
    x: jax.Array, rate: int, mels: int = 40, window: int = 400, hop: int = 160
) -> jax.Array:
    """Log-mel frames of samples f32[..., T]: f32[..., frames, mels], the log of power + 1e-6."""
    bank = filterbank(rate, window // 2 + 1, mels)
    return jnp.log(spectrogram(x, window, hop) @ bank + 1e-6)


def log_mel_files(
    sounds: list[np.ndarray], rate: int, mels: int, window: int, hop: int, batch: int = 64
) -> list[np.ndarray]:
    """The frames `[frames_i, mels]` of sounds of many lengths; one under a window has one."""
    if window < 2 or hop < 1 or mels < 1:
        raise InputError(f"data.window={window}, data.hop={hop}, data.mels={mels}: too small")
    run = jax.jit(functools.partial(log_mel, rate=rate, mels=mels, window=window, hop=hop))
    long = max(window, *(len(s) for s in sounds))
    found = []
    for i in range(0, len(sounds), batch):
        part = sounds[i : i + batch]
        whole = np.zeros((batch, long), np.float32)
        for row, each in zip(whole, part, strict=False):
            row[: len(each)] = each
        frames = np.asarray(run(whole))
        found += [
            frames[j, : max(1, (len(each) - window) // hop + 1)] for j, each in enumerate(part)
        ]
    return found
