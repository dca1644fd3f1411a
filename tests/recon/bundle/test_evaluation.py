"""The evaluation: what it keeps, how sure it is, that nothing leaks; on a tiny bundle of random parts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import bootstrap
from stand_in_evaluation import corners, made_up_evaluation, made_up_inputs

from precompute.evaluation.candidates import Candidates
from precompute.evaluation.evaluate import (
    Options,
    begin,
    compute,
    random_partners,
    shares_of_network,
    wrong_partners,
)
from precompute.evaluation.model_card import BEGIN, END, section, with_section
from precompute.evaluation.summary import ATTRIBUTES, evaluate, paired_tests
from precompute.evaluation.uncertainty import interval, paired_p
from recon.bundle.evaluation import load_evaluation, save_evaluation
from recon.bundle.published_results import PUBLISHED, published_beside
from recon.decoders.diffusion import Meaning, refine, refine_all
from recon.files import BadFile, load_json, save_json
from recon.settings import LCMSettings


@pytest.fixture
def inputs(tiny_bundle, rng):
    absent = {"swav": "pip install -r requirements-eval.txt"}
    return replace(made_up_inputs(tiny_bundle, rng), describe={"clip_demo": corners}, not_computed=absent)


SHORT = Options(seeds=2, lcm=LCMSettings(1))


def test_rows_hold_every_source_with_its_interval_and_survive_the_disk(inputs, tmp_path):
    found = evaluate(inputs, tmp_path, SHORT)
    assert {(r.stage, r.source) for r in found.rows} == {
        *(("vdvae", s) for s in ("ridge", "mlp", "ceiling", "mean", "shuffled", "other_image")),
        *(("lcm", s) for s in ("ridge", "mlp", "ceiling", "mean", "empty_prompt", "oracle", "nearest_training")),
        *(("lcm", s) for s in ("shuffled", "other_image")),
    }
    assert all(r.low <= r.value <= r.high and r.n == 5 for r in found.rows)
    assert {p.components for p in found.bottleneck} == {1, 2, 3}
    again = load_evaluation(tmp_path)
    assert again.rows == found.rows and again.retrieval == found.retrieval and again.not_computed == found.not_computed
    for name, values in found.image_scores.items():
        np.testing.assert_array_equal(again.image_scores[name], values)


def test_a_rerun_computes_only_what_is_missing(inputs, tmp_path, monkeypatch):
    first = evaluate(inputs, tmp_path, SHORT)
    calls = []
    refined = Candidates.refined
    monkeypatch.setattr(Candidates, "refined", lambda self, *a: calls.append(a[2]) or refined(self, *a))
    second = evaluate(inputs, tmp_path, SHORT)
    galleries = 4 * 3
    assert len(calls) == galleries and second.rows == first.rows
    calls.clear()
    evaluate(inputs, tmp_path, Options(seeds=3, lcm=LCMSettings(1)))
    assert calls.count(2) == 6 and len(calls) == galleries + 6  # the six sources of stage 2, with the new seed alone


def test_a_limit_takes_so_many_and_a_bad_one_is_told(inputs, tmp_path):
    assert evaluate(inputs, tmp_path, Options(limit=3, seeds=1, lcm=LCMSettings(1))).n_images == 3
    with pytest.raises(BadFile, match="--limit: expected 2 to 5 test images, got 9"):
        evaluate(inputs, tmp_path, Options(limit=9))
    with pytest.raises(BadFile, match="protocol brain-diffuser: expected all of 982 test images, got 5 of 5"):
        evaluate(inputs, tmp_path, Options(protocol="brain-diffuser"))


def test_pieces_of_two_machines_settings_are_never_mixed(inputs, tmp_path):
    diffusion = inputs.bundle.diffusion
    plain = begin(inputs, tmp_path, SHORT)
    expected = {"device": diffusion.pipe.unet.device.type, "dtype": "float32", "side": diffusion.size}
    assert plain.machine == expected | {"autoencoder": "AutoencoderTiny"}
    folders = {plain.store.folder, begin(inputs, tmp_path, SHORT).store.folder}
    assert len(folders) == 1
    diffusion.pipe.unet.register_to_config(sample_size=8)
    folders.add(begin(inputs, tmp_path, SHORT).store.folder)
    diffusion.pipe.unet.to(torch.bfloat16)
    folders.add(begin(inputs, tmp_path, SHORT).store.folder)
    diffusion.pipe.vae = torch.nn.Identity()
    folders.add(begin(inputs, tmp_path, SHORT).store.folder)
    assert len(folders) == 4


def test_an_evaluation_tells_its_machine_and_older_ones_that_do_not_are_read(inputs, tmp_path):
    found = evaluate(inputs, tmp_path, SHORT)
    assert load_evaluation(tmp_path).machine == found.machine and found.machine["side"] == inputs.bundle.diffusion.size
    content = load_json(tmp_path / "evaluation.json")
    del content["machine"]
    save_json(tmp_path / "evaluation.json", content)
    assert load_evaluation(tmp_path).machine == {}


def test_true_captions_change_only_what_knows_the_answer(inputs):
    test, X = inputs.bundle.subject.test, inputs.bundle.subject.test.averaged()
    one, other = (
        Candidates(inputs.bundle, np.arange(5), X, captions, inputs.latents)
        for captions in ([e["captions"] for e in test.labels], [["something else", "at night"]] * 5)
    )
    for source in ("ridge", "mlp", "mean", "none", "oracle"):
        assert np.array_equal(one.meaning(source).prompts, other.meaning(source).prompts) == (source != "oracle"), (
            source
        )


def test_a_wrong_partner_is_never_oneself():
    for partners in (*wrong_partners(7), random_partners(7)):
        assert (partners != np.arange(7)).all() and len(partners) == 7


def test_intervals_are_scipys_percentile_bootstrap(rng):
    scores = rng.normal(2, 1, 80)
    expected = bootstrap((scores,), np.mean, method="percentile", n_resamples=4000, random_state=0).confidence_interval
    np.testing.assert_allclose(interval(scores), expected, atol=0.03)


def test_images_where_ridge_and_mlp_score_equally_are_counted():
    ridge, mlp = np.array([0.5, 1.0, 1.0, 0.25], np.float32), np.array([0.5, 1.0, 0.75, 0.5], np.float32)
    (pair,) = paired_tests({"lcm/ridge/pixels": ridge, "lcm/mlp/pixels": mlp})
    assert (pair.n, pair.ties) == (4, 2)


def test_the_card_gives_small_p_values_as_bounds_and_counts_ties(inputs, tmp_path):
    found = evaluate(inputs, tmp_path, SHORT)
    pairs = [replace(found.paired[0], p=p, ties=ties, n=5) for p, ties in ((3e-9, 2), (0.0123, 0))]
    text = section(replace(found, paired=pairs))
    assert "p < 0.001, 2 of 5 equal and left out of the test)" in text and "p = 0.012)" in text
    assert "of one fit to one subject, with fixed seeds" in text


def test_the_card_says_which_scores_are_saturated(inputs, tmp_path):
    found = evaluate(inputs, tmp_path, SHORT)
    assert "Saturated" not in section(replace(found, rows=[replace(r, value=0.5) for r in found.rows]))
    rows = [replace(r, value=0.999 if (r.source, r.metric) == ("mlp", "pixels") else 0.5) for r in found.rows]
    assert "Saturated, since in a small world of scenes" in section(replace(found, rows=rows))
    assert "stage 2, MLP, Identification, pixels: 99.9 %, d′ 4.4" in section(replace(found, rows=rows))


def test_equal_scores_do_not_differ():
    assert paired_p(np.ones(9), np.ones(9)) == 1 and paired_p(np.arange(30) + 1.0, np.zeros(30)) < 1e-4


def test_pictures_without_previews_are_those_of_the_last_step(inputs):
    bundle = inputs.bundle
    prompts = np.random.default_rng(0).normal(size=(3, *bundle.diffusion.prompt_shape)).astype(np.float32)
    *_, last = refine(bundle.diffusion, inputs.images[:3], Meaning(prompts), LCMSettings(2), [5, 6, 7])
    got = refine_all(bundle.diffusion, inputs.images[:3], Meaning(prompts), LCMSettings(2), batch=2, seeds=[5, 6, 7])
    assert np.abs(got.astype(int) - last.images).max() <= 1


def test_published_rows_never_stand_beside_a_simulated_subject(inputs, tmp_path):
    found = evaluate(inputs, tmp_path, SHORT)
    assert found.simulated and published_beside(found) == []
    real = replace(found, simulated=False, protocol={"name": "brain-diffuser"}, n_images=982)
    assert published_beside(real) == [p for p in PUBLISHED if p.method.startswith("Brain-Diffuser")]
    assert published_beside(replace(real, n_images=300)) == []


def test_the_networks_share_of_the_mlp_stands_in_the_card(inputs, tmp_path):
    reports = {t: {"mlp": {"share_of_network": s}} for t, s in (("latents", 0.496), ("prompt", 0.0))}
    found = evaluate(replace(inputs, shares=shares_of_network(reports)), tmp_path, SHORT)
    assert "The network's share: 50 % for latents, 0 % for the prompt." in section(load_evaluation(tmp_path))
    assert found.tables["shares"] == {"latents": 0.496, "prompt": 0.0}


def test_the_card_gives_every_row_and_stands_between_its_marks(inputs, tmp_path):
    text = section(evaluate(inputs, tmp_path, SHORT))
    for words in ("stage 1, ridge", "stage 2, oracle: knows the answer", "*chance*", "n = 5", "simulated"):
        assert words in text
    assert with_section(f"a\n{BEGIN}\nold\n{END}\nz", "new") == f"a\n{BEGIN}\nnew\n{END}\nz"
    with pytest.raises(BadFile, match="once each"):
        with_section("nothing", "new")


def odd(images, k):
    """(n,) 1 where the sum over a corner of the image is odd."""
    return (images[:, : k + 2, :3].astype(int).sum((1, 2, 3)) % 2).astype(np.float32)


def labelled(inputs, rng):
    """Inputs whose images have attributes, and a finder of them."""
    words = [{a: str(rng.integers(3)) for a in ATTRIBUTES} for _ in range(9)]
    test = [label | {"captions": ["x"]} for label in words[:5]]
    trials = replace(inputs.bundle.subject.test, labels=test)
    bundle = replace(inputs.bundle, subject=replace(inputs.bundle.subject, test=trials))

    def find(images, labels):
        """As arbitrary as a classifier, and another for every attribute."""
        return {a: odd(images, k) for k, a in enumerate(ATTRIBUTES)}

    return replace(inputs, bundle=bundle, training_labels=words[5:], find=find)


def test_shares_of_attributes_are_counted_over_images(inputs, rng, tmp_path):
    inputs = labelled(inputs, rng)
    work = begin(inputs, tmp_path, SHORT)
    pieces = compute(work)
    found = evaluate(inputs, tmp_path, SHORT).tables
    X, labels = work.test.X, work.judge.labels
    for name in ("ridge", "mlp"):
        embeddings = inputs.bundle.regressors["image"][name]
        rows, _ = inputs.bundle.captions.nearest(embeddings.rescale(embeddings.predict(X)))
        for a in ATTRIBUTES:
            right = [inputs.training_labels[k][a] == label[a] for k, label in zip(rows, labels)]
            assert found["captions"][name][a] == pytest.approx(np.mean(right))
    for k, a in enumerate(ATTRIBUTES):
        truth = work.judge.truth["pixels"]
        assert found["drawn"]["truth"][a] == pytest.approx(odd(truth, k).mean())
        for name in ("ridge", "mlp", "ceiling"):
            runs = [pieces[f"lcm.{name}.{run}"][f"{name}/sees {a}"].mean() for run in range(2)]
            assert found["drawn"][name][a] == pytest.approx(np.mean(runs))
    shuffled = found["captions"]["shuffled"]
    rows, _ = inputs.bundle.captions.nearest(
        inputs.bundle.regressors["image"]["ridge"].rescale(inputs.bundle.regressors["image"]["ridge"].predict(X))
    )
    for a in ATTRIBUTES:
        wrong = [
            inputs.training_labels[rows[j]][a] == labels[k][a]
            for other in wrong_partners(5)
            for k, j in enumerate(other)
        ]
        assert shuffled[a] == pytest.approx(np.mean(wrong))


def test_networks_may_look_at_sizes_of_their_own(rng, tmp_path):
    images = rng.integers(0, 256, (9, 16, 16, 3), dtype=np.uint8)
    for networks in ({"lite0": 280}, 224):
        evaluation = made_up_evaluation(images)
        evaluation.protocol["networks"] = networks
        save_evaluation(tmp_path, evaluation)
        assert load_evaluation(tmp_path).protocol["networks"] == networks
    evaluation.protocol["networks"] = {"<img src=x>": 224}
    save_evaluation(tmp_path, evaluation)
    with pytest.raises(BadFile, match="protocol"):
        load_evaluation(tmp_path)
