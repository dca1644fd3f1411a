"""The Evaluate tab's builders: what they show, and what they do not."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from markupsafe import escape
from stand_in_evaluation import COMMAND, made_up_evaluation

from recon.bundle.evaluation import read_shares, save_evaluation
from recon.bundle.published_results import PUBLISHED
from recon.metrics import METRICS
from recon.ui.controls import HELP, regressor_help, settings_controls
from recon.ui.html.charts import bottleneck, distribution
from recon.ui.html.gallery import KINDS, gallery_table
from recon.ui.html.number_format import SOURCES, interval, score
from recon.ui.html.score_table import order_notes, row_notes, score_table
from recon.ui.html.tables import paired_table, side_tables
from recon.ui.tabs import evaluate_tab as evaluate

N = 30


class Cells(HTMLParser):
    """Texts of a table's rows, cell by cell; elements are balanced, or `open` is not empty at the end."""

    VOID = ("img", "path", "circle", "rect", "br")

    def __init__(self, html: str):
        super().__init__()
        self.rows, self.open = [], []
        self.feed(str(html))

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            assert tag == "td" or dict(attrs)["scope"] in ("row", "col", "rowgroup")
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).integers(0, 256, (N, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def evaluation(images):
    return made_up_evaluation(images)


def rows_named(html: str, name: str) -> list[list[str]]:
    cells = Cells(html)
    assert cells.open == []
    return [row for row in cells.rows if row[0].startswith(name)]


def test_every_score_stands_in_its_row_and_column_with_its_interval(evaluation):
    html = score_table(evaluation)
    columns = Cells(html).rows[0]
    for k, stage in enumerate(("vdvae", "lcm")):
        for source in {row.source for row in evaluation.rows if row.stage == stage}:
            found = [cells for cells in rows_named(html, SOURCES[source]) if len(cells) > 1]
            shown = found[k if len(found) == 2 else 0]
            for row in (r for r in evaluation.rows if (r.stage, r.source) == (stage, source)):
                at = next(j for j, title in enumerate(columns) if title.startswith(METRICS[row.metric].title + " "))
                assert shown[at] == score(row.metric, row.value) + interval(row.metric, row.low, row.high)


def test_chance_and_n_are_within_sight_of_the_scores(evaluation):
    html = score_table(evaluation)
    assert Cells(html).rows[0][0] == f"n = {N}"
    for stage, chance in zip(("vdvae", "lcm"), rows_named(html, "Chance level")):
        assert chance[1] == score("pixcorr", evaluation.find(stage, "shuffled", "pixcorr").value) + "shuffled"
        assert chance[4] == "50.0"


def test_a_saturated_score_is_said_to_be_so_with_why(evaluation):
    assert "aturated" not in score_table(replace(evaluation, rows=evaluation.rows[:2]))
    rows = [replace(r, value=0.999) if (r.stage, r.metric) == ("vdvae", "pixels") else r for r in evaluation.rows]
    html = score_table(replace(evaluation, rows=rows))
    assert "saturated, d′ 4.4" in rows_named(html, "Ridge")[0][4]
    assert "in a small world of scenes, nearly every other image is easily told apart" in html
    assert "saturated" not in rows_named(html, "Ridge")[1][4]


def test_a_row_of_fewer_images_says_so(evaluation):
    rows = [replace(r, n=12) if r.source == "nearest_training" else r for r in evaluation.rows]
    html = score_table(replace(evaluation, rows=rows))
    assert "n = 12" in rows_named(html, "Nearest training image")[0][0]
    assert "n =" not in rows_named(html, "Ridge")[0][0]


def test_metrics_that_were_not_computed_name_the_command(evaluation):
    html = score_table(evaluation)
    assert COMMAND.replace("&&", "&amp;&amp;") in html
    (line,) = re.findall(r"Not computed: ([^<]*) \(first run", html)
    assert line.split(", ") == [METRICS[name].title for name in evaluation.not_computed]
    assert len(Cells(html).rows[0]) == 1 + len({row.metric for row in evaluation.rows})
    assert "Not computed" not in score_table(replace(evaluation, not_computed={}))


def test_what_knows_the_answer_is_marked(evaluation):
    html = score_table(evaluation)
    assert "knows the answer" in rows_named(html, "Oracle caption")[0][0]
    assert ["knows the answer" in row[0] for row in rows_named(html, "Ceiling") if len(row) > 1] == [False, True]
    assert not any("knows the answer" in row[0] for row in rows_named(html, "Ridge") + rows_named(html, "MLP"))


@pytest.mark.parametrize(
    "simulated, protocol, n, shown",
    [
        (True, "brain-diffuser", 982, set()),
        (True, "own", 982, set()),
        (False, "own", 982, set()),
        (False, "brain-diffuser", 982, {"Brain-Diffuser", "Brain-Diffuser, VDVAE"}),
        (False, "brain-diffuser", 300, set()),
        (False, "mindeye", 982, {"MindEye1"}),
        (False, "mindeye", 1000, {"MindEye2"}),
    ],
)
def test_published_rows_stand_beside_nsd_subjects_under_the_same_protocol_and_n_alone(
    images, simulated, protocol, n, shown
):
    made = made_up_evaluation(images, simulated, protocol, ("pixcorr", "ssim", "ssim_legacy", "clip"))
    html = score_table(replace(made, n_images=n))
    assert bool(rows_named(html, "Published")) == bool(shown)
    for paper in PUBLISHED:
        there = any(row[0].startswith(f"{paper.method}, {paper.year}") for row in Cells(html).rows)
        assert there == (paper.method in shown)
    if "MindEye2" in shown:
        row = rows_named(html, "MindEye2")[0]
        assert "n = 1000" in row[0] and "subjects 1, 2, 5, 7" in row[0]
        assert row[1:5] == ["0.322", "0.431", "–", "93.0"]


def test_every_published_row_tells_its_own_protocol_and_number_of_images(images):
    html = side_tables(made_up_evaluation(images, simulated=False))
    for name, how in {
        "MindEye1": ["mindeye", "982"],
        "MindEye2": ["mindeye", "1000"],
        "Brain-IT": ["mindeye", "–"],
    }.items():
        assert [row[1:3] for row in rows_named(html, name)] == [how]
    takagi = rows_named(html, "Takagi & Nishimoto")[0]
    assert takagi[1:] == ["their own", "982", "–", "–", "–", "83.0", "83.0", "76.0", "77.0", "–", "–"]
    assert not rows_named(side_tables(made_up_evaluation(images)), "MindEye1")


def test_numbers_have_a_true_minus_and_unknown_ones_a_dash():
    assert score("pixcorr", -0.1234) == "−0.123"
    assert score("pixcorr", -0.0001) == "0.000"
    assert score("clip", -0.015, signed=True) == "−1.5"
    assert score("clip", 0.015, signed=True) == "+1.5"
    assert score("pixcorr", float("nan")) == score("pixcorr", None) == "–"
    assert interval("ssim", -0.2, 0.1) == "[−0.200, 0.100]"


def test_no_table_writes_a_hyphen_for_a_minus(evaluation):
    html = score_table(evaluation) + side_tables(evaluation) + order_notes(evaluation)
    assert not re.search(r">[^<]*-\d[^<]*<", html)
    assert "−1.3 %" in html


def test_notes_use_the_names_of_the_page(evaluation):
    assert "Stage 2, PixCorr: Nearest training image (−0.812) is better than Ridge (−0.675)" in order_notes(evaluation)
    assert "on every metric" in order_notes(replace(evaluation, notes=[]))
    assert "drawn at random" in row_notes(evaluation)


def test_a_difference_counts_only_below_the_corrected_level(evaluation):
    rows = Cells(paired_table(evaluation)).rows[1:]
    assert len(rows) == len(evaluation.paired)
    for row, pair in zip(rows, evaluation.paired):
        expected = "no difference shown" if pair.p > 0.005 else "MLP better" if pair.difference > 0 else "Ridge better"
        assert row[3:] == [expected, str(N)]


def test_images_where_both_are_equal_are_counted_beside_p(evaluation):
    pair = replace(evaluation.paired[0], ties=27, p=3e-9)
    row = Cells(paired_table(replace(evaluation, paired=[pair]))).rows[1]
    assert row[2] == "< 0.001" and row[4] == f"{N}27 equal, left out of the test"


def test_how_to_read_says_what_intervals_leave_out(evaluation):
    assert "of one fit to one person, with fixed seeds" in evaluate.introduction(evaluation)


def test_a_lower_distance_is_a_better_one(evaluation):
    pair = replace(evaluation.paired[0], metric="swav", difference=-0.1, low=-0.2, high=-0.05, p=1e-6)
    assert "MLP better" in paired_table(replace(evaluation, paired=[pair]))


def test_areas_show_the_true_ceiling_of_simulated_subjects_alone(evaluation, images):
    v1 = rows_named(side_tables(evaluation), "V1")[0]
    assert v1 == ["V1", "612", "30.1 %", "0.55", "44.2 %", "41.0 %", "68 %", "540", "575"]
    assert "true ceiling" not in side_tables(made_up_evaluation(images, simulated=False))
    assert rows_named(side_tables(evaluation), "EBA")[0][6] == "–"


def test_retrieval_stands_above_its_chance_level(evaluation):
    html = side_tables(evaluation)
    mlp = next(row for row in rows_named(html, "MLP") if "47.0" in row[1])
    assert mlp == ["MLP", "47.0 %[41.0, 53.0]", "77.0 %[72.0, 82.0]", "2.0", str(N)]
    assert ["Chance level", "3.33 %", "16.67 %", "15.5", str(N)] in Cells(html).rows


def test_tables_that_an_evaluation_lacks_are_left_out(evaluation):
    html = side_tables(replace(evaluation, tables={}))
    assert "Retrieval" in html and "Decoded captions" not in html and "Latents" not in html


def test_the_distribution_says_where_a_picture_stands(evaluation):
    scores = evaluation.image_scores["lcm/mlp/pixcorr"]
    best = int(evaluation.images[np.argmax(scores)])
    html = distribution(evaluation, "lcm", "pixcorr", best)
    share = round(100 * (np.sum(scores < scores.max()) + 0.5) / N)
    assert f"MLP scores {score('pixcorr', scores.max())}, better than {share} % of the n = {N} images." in html
    assert html.count('class="mark') == 2
    assert Cells(html).open == []


def test_the_smallest_distance_is_better_than_most(evaluation):
    values = np.linspace(0.2, 0.9, N, dtype=np.float32)
    scores = {f"lcm/{s}/swav": values for s in ("shuffled", "ridge", "mlp")}
    html = distribution(replace(evaluation, image_scores=scores), "lcm", "swav", 0)
    assert f"better than {100 - 50 / N:.0f} %" in html


@pytest.mark.parametrize(
    "picture, words", [(999, "Picture 999 is not among"), (-1, "Picture −1 is not"), (None, "Choose")]
)
def test_a_picture_that_was_not_evaluated_is_told(evaluation, picture, words):
    html = distribution(evaluation, "lcm", "pixcorr", picture)
    assert words in html
    assert 'class="mark' not in html


def test_histograms_hold_every_image(evaluation):
    html = distribution(evaluation, "vdvae", "pixcorr", None)
    top = int(re.search(r'class="end">(\d+)<', html)[1])
    for source in ("shuffled", "ridge", "mlp"):
        path = re.search(rf'class="area {source}" d="M[\d.]+ ([\d.]+)([^"]*)"', html)
        heights = np.array([float(v) for v in re.findall(r"V([\d.]+)H", path[2])])
        assert np.sum((252 - heights) / (252 - 26) * top) == pytest.approx(N, abs=0.1)


def test_the_bottleneck_curve_rises_with_the_scores(evaluation):
    html = bottleneck(evaluation, "pixcorr")
    assert html.count("<circle") == len([p for p in evaluation.bottleneck if p.metric == "pixcorr"])
    for kind in ("top", "chance"):
        assert html.count(f'<path class="{kind}"') == 2
    points = sorted((p for p in evaluation.bottleneck if p.metric == "pixcorr"), key=lambda p: p.value)
    heights = {float(v) for v in re.findall(r'cy="([\d.]+)"', html)}
    first = re.search(rf'cy="([\d.]+)" r="3"><title>[^<]*: {score("pixcorr", points[-1].value)}', html)
    assert float(first[1]) == min(heights)
    assert Cells(html).open == []


def test_charts_of_a_metric_without_scores_say_so(evaluation):
    assert "Not computed" in distribution(evaluation, "lcm", "swav", 0)
    assert "Not computed" in bottleneck(evaluation, "swav")


@pytest.mark.parametrize("number, told", [(None, False), (-1, True), (10**9, True), (0.5, True)])
def test_a_number_that_no_evaluated_picture_has_is_told(evaluation, number, told):
    words = evaluate.unmarked(evaluation, number)
    assert bool(words) == told and ("was not evaluated: expected one of" in words) == told
    assert not evaluate.unmarked(evaluation, int(evaluation.images[0]))


@pytest.mark.parametrize("group", ["best", "median", "worst", "random"])
def test_a_gallery_states_its_rule_and_shows_every_kind_of_every_picture(evaluation, images, group):
    html, gallery = gallery_table(evaluation, group, images), next(g for g in evaluation.galleries if g.group == group)
    assert escape(gallery.rule) in html
    for name, _ in KINDS.values():
        assert all(f'alt="{name} of picture {k}"' in html for k in gallery.images)
    value = score("pixcorr", evaluation.image_scores["lcm/mlp/pixcorr"][gallery.images[0]])
    assert rows_named(html, "MLP, stage 2")[0][1].startswith(f"pixel r {value}")
    assert f"?subject=demo&amp;picture={gallery.images[0]}" in html


def test_the_introduction_says_what_size_each_network_looks_at(evaluation):
    assert "networks look at 224². Stage 2" in evaluate.introduction(evaluation)
    sides = {"pixels": 425, "name": "mindeye", "networks": {"inception": 342, "effnet": 255}}
    html = evaluate.introduction(replace(evaluation, protocol=sides))
    assert "networks look at 224² (Inception 342², EffNet-B1 distance 255²). Stage 2" in html


def test_the_networks_share_of_the_mlp_stands_on_the_page_for_each_target(evaluation):
    html = side_tables(evaluation)
    shares = {"latents of the layout": "49.6 %", "the prompt": "0.0 %", "the image embedding": "100.0 %"}
    assert [rows_named(html, name) for name in shares] == [[[name, share]] for name, share in shares.items()]


def studio_of(folder, simulated=True, name="demo"):
    files = [path.name for path in folder.iterdir()]
    manifest = {"simulated": simulated, "name": name, "files": files}
    return type("Studio", (), {"folder": folder, "manifest": manifest})()


def shown_by_tab(studio) -> str:
    with gr.Blocks() as demo, gr.Tabs(), gr.Tab("Evaluate") as tab:
        evaluate.evaluate_tab(studio, tab)
    return "".join(str(b.value) for b in demo.blocks.values() if isinstance(b, gr.HTML))


@pytest.mark.parametrize(
    "simulated, name, command",
    [(True, "demo", "--demo"), (False, "NSD subj01", "--subject 1"), (False, "subject-7", "--subject subject-7")],
)
def test_without_an_evaluation_one_sentence_names_the_command(tmp_path, simulated, name, command):
    html = shown_by_tab(studio_of(tmp_path, simulated, name))
    assert re.sub("<[^>]*>", "", html) == (
        f"This subject has not been evaluated: run python -m precompute evaluate {command}."
    )


def test_a_damaged_evaluation_is_told_in_one_sentence(tmp_path, evaluation):
    save_evaluation(tmp_path, evaluation)
    (tmp_path / "evaluation.json").write_text("{", encoding="utf-8")
    shown = evaluate.opened(studio_of(tmp_path), 0, None, "lcm", "random")
    assert sum("run `python -m precompute evaluate`" in str(value) for value in shown) == 1


def test_the_tab_is_filled_when_it_is_first_opened_and_then_only_takes_over_the_picture(tmp_path, evaluation, images):
    save_evaluation(tmp_path, evaluation)
    studio = studio_of(tmp_path)
    studio.subject = SimpleNamespace(test=SimpleNamespace(images=images))
    first = evaluate.opened(studio, 2, None, "lcm", "random")
    assert first[0] == 2 and first[1]["value"] == "pixcorr" and all(first[2:])
    later = evaluate.opened(studio, 3, "ssim", "lcm", "random")
    assert later[0] == 3 and later[2] == distribution(evaluation, "lcm", "ssim", 3)
    assert later[3:] == [gr.skip()] * 5


def test_every_group_of_rows_is_drawn_those_guided_by_an_image_embedding_too(rng):
    images = rng.integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    evaluation = made_up_evaluation(images)
    row = evaluation.find("lcm", "ridge", "pixcorr")
    guided = replace(evaluation, rows=[*evaluation.rows, replace(row, source="ridge_image")])
    assert "Ridge, image only" in score_table(guided)


def test_the_help_of_the_mlp_tells_the_networks_share_where_an_evaluation_does(tmp_path, rng):
    evaluation = made_up_evaluation(rng.integers(0, 256, (5, 64, 64, 3), dtype=np.uint8))
    assert read_shares(tmp_path) == {} and regressor_help({}) == HELP["regressor"]
    save_evaluation(
        tmp_path, replace(evaluation, tables=evaluation.tables | {"shares": {"latents": 0.7, "prompt": 1.0}})
    )
    assert "share: 70 % for latents of the layout, 100 % for the prompt." in regressor_help(read_shares(tmp_path))
    save_evaluation(tmp_path, replace(evaluation, tables={"shares": {"latents": "<b>all</b>"}}))
    assert read_shares(tmp_path) == {}
    with gr.Blocks():
        controls = settings_controls(shares={"latents": 0.7})
    assert controls["regressor"].info.endswith("the network’s share: 70 % for latents of the layout.")
