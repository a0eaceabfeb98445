"""The loop: one scan, resumable chunks, the folder of a run."""

import csv
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnas
from jnas import recipes
from jnas.base import Evaluator, InputError, Space, from_index
from jnas.evaluators import make_mesh
from jnas.evaluators.plans import population
from jnas.runs import RunFolder, check, clock

BITS = Space("bits", np.full(6, 2))


def ones(fail_below: int = 0) -> Evaluator:
    """Counts ones; architectures with fewer than `fail_below` of them fail."""

    def evaluate(key, trials, state):
        score = jnp.sum(trials.arch, -1).astype(jnp.float32)
        score = jnp.where(score < fail_below, jnp.nan, score)
        noise = jax.random.uniform(key, score.shape)
        return trials._replace(score=score, metrics={"noise": noise}), state + 1

    return Evaluator(lambda key: jnp.int32(0), evaluate)


def evolution():
    return recipes.regularized_evolution(BITS, population=8, sample=3)


def go(folder=None, **changes):
    setting = {"evaluations": 40, "batch": 2, "seed": 3, "chunk": 2, "verbose": False}
    return jnas.run(evolution(), ones(3), BITS, workdir=folder, **(setting | changes))


def test_run_finds_the_best_of_its_own_history():
    result = go()
    scores = np.where(result.history["weight"] > 0, result.history["score"], -np.inf)
    assert result.best_score == scores.max() == 6
    assert result.best_architecture == "[111111]" and result.best.tolist() == [1] * 6
    assert result.evaluations == 40 and len(scores) == 40


@pytest.mark.slow
def test_run_equals_search_with_the_same_key():
    _, history = jnas.search(jax.random.key(3), evolution(), ones(3), BITS, steps=20, batch=2)
    rows = go().history
    assert np.array_equal(np.asarray(history.score).ravel(), rows["score"])
    described = [BITS.describe(a) for a in np.asarray(history.arch).reshape(-1, 6)]
    assert described == rows["architecture"].tolist()


def test_history_does_not_depend_on_the_chunk():
    a, b = go(chunk=1).history, go(chunk=20).history
    assert all(np.array_equal(a[k], b[k]) for k in a)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 3])
def test_the_history_can_show_the_last_of_so_many_rounds(seeds):
    whole, some = (go(seeds=seeds, chunk=10, every=every).history for every in (1, 5))
    last = (whole["evaluation"] - 1) // 2 % 5 == 4
    assert last.sum() == 8 * seeds
    assert all(np.array_equal(whole[k][last], some[k]) for k in whole)


def test_a_look_shows_something_else_of_a_round_and_changes_nothing():
    def look(carry, trials):
        swapped = 1 - trials.arch
        return trials._replace(arch=swapped, metrics={"rounds": carry[1] + 0 * trials.score})

    plain, seen = go(chunk=20), go(chunk=20, look=look)
    swap = str.maketrans("01", "10")
    assert [a.translate(swap) for a in plain.history["architecture"]] == list(
        seen.history["architecture"]
    )
    assert np.array_equal(seen.history["rounds"], np.arange(1, 21).repeat(2))
    states = [jax.tree.map(np.asarray, r.state) for r in (plain, seen)]
    assert jax.tree.all(jax.tree.map(np.array_equal, *states))


def test_a_seed_among_many_equals_the_seed_alone():
    many, alone = go(seeds=4, seed=1).history, go().history
    mine = many["seed"] == 3
    assert all(np.array_equal(many[k][mine], alone[k]) for k in alone)


def test_seeds_that_take_turns_are_those_side_by_side():
    turns = functools.partial(population, plan="map", mesh=make_mesh(0))
    beside, after = go(seeds=3, chunk=20), go(seeds=3, chunk=20, over=turns)
    assert all(np.array_equal(beside.history[k], after.history[k]) for k in beside.history)
    states = [jax.tree.map(np.asarray, r.state) for r in (beside, after)]
    assert jax.tree.all(jax.tree.map(np.array_equal, *states))


def test_failed_trials_get_weight_and_score_zero():
    rows = go(seed=0).history
    few = np.char.count(rows["architecture"], "1") < 3
    assert few.any() and (rows["weight"][few] == 0).all() and (rows["score"][few] == 0).all()
    assert (rows["weight"][~few] == 1).all()


def test_a_search_in_which_all_fails_is_one_clear_error():
    with pytest.raises(InputError, match="every trial of the search failed"):
        jnas.run(evolution(), ones(9), BITS, evaluations=4, verbose=False)


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("stop_after", [1, 5, 9])
def test_stopped_and_started_again_gives_the_same_bytes(tmp_path, monkeypatch, stop_after, seeds):
    go(tmp_path / "whole", seeds=seeds)
    saves = []
    real = RunFolder.save

    def stop(self, *args):
        if len(saves) == stop_after:  # rows are on disk, the checkpoint is not
            with open(self.path / "history.csv", "ab") as f:
                f.write(b"3,99,[0000")
            raise KeyboardInterrupt
        saves.append(1)
        real(self, *args)

    monkeypatch.setattr(RunFolder, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "cut", seeds=seeds)
    monkeypatch.setattr(RunFolder, "save", real)
    result = go(tmp_path / "cut", seeds=seeds)
    whole, cut = ((tmp_path / d / "history.csv").read_bytes() for d in ("whole", "cut"))
    assert whole == cut
    again = go(tmp_path / "whole", seeds=seeds)
    assert all(np.array_equal(result.history[k], again.history[k]) for k in again.history)


def test_history_on_disk_reads_back_exactly(tmp_path):
    result = go(tmp_path)
    with open(tmp_path / "history.csv") as f:
        rows = list(csv.DictReader(f))
    noise = np.asarray([np.float32(r["noise"]) for r in rows])
    assert np.array_equal(noise, result.history["noise"])
    assert [int(r["evaluation"]) for r in rows] == list(range(1, 41))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"every": 3}, "every=3 does not divide the 20 rounds"),
        ({"every": 4, "chunk": 2}, "chunk=2 does not divide the 20 rounds .* of every=4"),
    ],
)
def test_spans_of_rounds_have_to_fit(wrong, told):
    with pytest.raises(InputError, match=told):
        go(**wrong)


def test_a_folder_of_another_run_is_refused(tmp_path):
    go(tmp_path)
    with pytest.raises(InputError, match=r"holds a run with evaluations=40, this one has .*=80"):
        go(tmp_path, evaluations=80)


def test_two_runs_cannot_share_a_folder(tmp_path):
    with (
        RunFolder(tmp_path, {"a": 1}),
        pytest.raises(InputError, match="another run is using it"),
        RunFolder(tmp_path, {"a": 1}),
    ):
        pass


def test_a_damaged_config_is_one_clear_error(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="workdir"):
        check(tmp_path, {})


def test_a_run_says_what_it_depends_on(tmp_path):
    go(tmp_path)
    found = json.loads((tmp_path / "versions.json").read_text())
    assert found["jax"] == jax.__version__ and found["jnas"] == jnas.__version__


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"evaluations": 0}, "evaluations=0"),
        ({"batch": 3}, "use 39 or 42"),
        ({"chunk": 3}, "chunk=3 does not divide the 20 rounds"),
        ({"seeds": 0}, "seeds=0"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(wrong, words):
    with pytest.raises(InputError, match=words):
        go(**wrong)


def test_random_keys_survive_a_checkpoint(tmp_path):
    state = {"key": jax.random.key(5), "x": jnp.arange(3)}
    with RunFolder(tmp_path, {}) as folder:
        folder.restore(state)
        folder.save(state, 1, 0.5, [])
    with RunFolder(tmp_path, {}) as folder:
        found, done, seconds = folder.restore({"key": jax.random.key(0), "x": jnp.zeros(3, int)})
    assert (done, seconds) == (1, 0.5) and found["x"].tolist() == [0, 1, 2]
    assert jax.random.key_data(found["key"]).tolist() == jax.random.key_data(state["key"]).tolist()


def test_tabular_scores_by_the_index_of_the_space():
    columns = {"acc": np.arange(64.0), "cost": 2 * np.arange(64.0), "runs": np.zeros((64, 3))}
    evaluator = jnas.evaluators.tabular(BITS, columns, "acc")
    trials = jnas.base.propose(from_index(BITS, jnp.asarray([0, 5, 63])))
    trials, _ = evaluator.evaluate(jax.random.key(0), trials, ())
    assert trials.score.tolist() == [0, 5, 63]
    assert {k: v.tolist() for k, v in trials.metrics.items()} == {"cost": [0, 10, 126]}


def test_tabular_refuses_tables_that_do_not_fit():
    with pytest.raises(InputError, match="'loss': the table has acc"):
        jnas.evaluators.tabular(BITS, {"acc": np.zeros(64)}, "loss")
    with pytest.raises(InputError, match=r"shape \(63,\); space 'bits' needs \(64,\)"):
        jnas.evaluators.tabular(BITS, {"acc": np.zeros(63)}, "acc")


def test_times_are_readable():
    assert [clock(s) for s in (0.4, 59, 61, 3599, 3661)] == [
        "0 s",
        "59 s",
        "1:01",
        "59:59",
        "1:01:01",
    ]
