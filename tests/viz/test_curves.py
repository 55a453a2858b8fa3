"""The picture of a training run, from its metrics.csv."""

import numpy as np
import pytest
from conftest import python

from minglm.errors import MinglmError
from minglm.viz import fig_curves, save_curves
from minglm.viz.figures import curves
from minglm.viz.figures.curves import extremes, fig_runs, smooth

COLUMNS = (
    "step,loss,lr,grad_norm,text_tokens,learned_tokens,masked,fallbacks,seconds,"
    "held_out,held_out_token,held_out_sentence,held_out_document"
).split(",")


def write_metrics(folder, steps, every=10, spikes=False):
    """A run as the trainer writes it: a row a step, held-out losses every `every` steps (0: never)."""
    rng = np.random.default_rng(0)
    lines = [",".join(COLUMNS)]
    for step in range(1, steps + 1):
        loss = 3.5 + 5 * np.exp(-4 * step / steps) + rng.normal(0, 0.2)
        norm = (30 if spikes and step % 50 == 7 else 1) * rng.uniform(0.8, 1.2)
        held = [f"{loss + d:.4f}" for d in (0.1, -0.3, 0.2, 0.4)] if every and step % every == 0 else [""] * 4
        seconds = f"{rng.uniform(1, 2):.4f}"
        row = [
            step,
            f"{loss:.5f}",
            f"{1e-3 * step / steps:.3g}",
            f"{norm:.4f}",
            4096,
            1300,
            0.31,
            0,
            seconds,
            *held,
        ]
        lines.append(",".join(map(str, row)))
    folder.mkdir(exist_ok=True)
    path = folder / "metrics.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def columns(path):
    table = np.genfromtxt(path, delimiter=",", names=True)
    return {name: np.atleast_1d(table[name]) for name in table.dtype.names}


def lines(fig):
    return {line.get_gid(): line for ax in fig.axes for line in ax.lines}


def test_lines_hold_the_data_of_the_file(tmp_path):
    path = write_metrics(tmp_path / "run", 60)
    data, drawn = columns(path), lines(fig_curves(path))
    for gid, values in {
        "loss raw": data["loss"],
        "lr": data["lr"],
        "grad_norm raw": data["grad_norm"],
        "tokens_per_second raw": data["text_tokens"] / data["seconds"],
    }.items():
        assert drawn[gid].get_xdata().tolist() == data["step"].tolist()
        np.testing.assert_allclose(drawn[gid].get_ydata(), values)
    for name in COLUMNS[-4:]:
        assert drawn[name].get_xdata().tolist() == [10, 20, 30, 40, 50, 60]
        np.testing.assert_allclose(drawn[name].get_ydata(), data[name][9::10])
    np.testing.assert_allclose(drawn["loss"].get_ydata(), smooth(data["loss"]))


def test_panels_share_the_steps_and_name_what_they_show(tmp_path):
    fig = fig_curves(write_metrics(tmp_path / "run", 30))
    names = [ax.get_title(loc="left") for ax in fig.axes]
    assert names == ["loss, nats per token", "learning rate", "gradient norm", "text tokens per second"]
    assert len({ax.get_xlim() for ax in fig.axes}) == 1
    assert (
        fig.get_suptitle() == "run"
        and fig_curves(tmp_path / "run" / "metrics.csv", title="").get_suptitle() == ""
    )


@pytest.mark.parametrize("width", [460, 900])
def test_a_run_that_knows_its_peak_has_a_panel_for_the_mfu(tmp_path, width):
    path, plain = (write_metrics(tmp_path / name, 30) for name in ("gpu", "cpu"))
    header, *rows = path.read_text().splitlines()
    shares = [f"{0.3 + n / 1000:.4f}" if n >= 10 else "" for n in range(len(rows))]  # resumed on a GPU
    new = [f"{header},mfu", *(f"{row},{share}" for row, share in zip(rows, shares, strict=True))]
    path.write_text("\n".join(new) + "\n")
    fig = fig_curves(path, width=width)
    drawn = lines(fig)["mfu_percent raw"].get_ydata()
    np.testing.assert_allclose(drawn, [np.nan] * 10 + [30 + n / 10 for n in range(10, 30)])
    assert fig.axes[-1].get_title(loc="left").startswith("MFU") and "Median MFU: 32 %" in fig.alt_text
    texts = texts_of(fig)
    for i, (words, box) in enumerate(texts):
        assert all(not box.overlaps(other) for _, other in texts[:i]), words
    assert "%" in fig.axes[-1].yaxis.get_major_ticks()[1].label1.get_text()
    both = fig_runs([path, plain])  # one of them has none
    assert np.isfinite(lines(both)["mfu_percent-0"].get_ydata()[10:]).all() and len(both.axes) == 5
    assert len(fig_curves(plain).axes) == 4 and "MFU" not in fig_curves(plain).alt_text


def test_the_alt_text_says_where_the_run_ended(tmp_path):
    path = write_metrics(tmp_path / "run", 40)
    data, words = columns(path), fig_curves(path).alt_text
    assert "steps 1 to 40" in words and f"document {data['held_out_document'][-1]:.2f}" in words
    assert f"{np.median(data['text_tokens'] / data['seconds']):,.0f} text tokens per second" in words
    assert "No held-out loss" in fig_curves(write_metrics(tmp_path / "run", 40, every=0)).alt_text


@pytest.mark.parametrize("steps, every", [(1, 0), (1, 1), (2, 0), (3000, 100)])
@pytest.mark.filterwarnings("error")
def test_any_length_of_run_can_be_drawn(tmp_path, steps, every):
    path = write_metrics(tmp_path / "run", steps, every)
    assert save_curves(path.parent).stat().st_size > 5000
    drawn = lines(fig_curves(path))
    assert ("held_out" in drawn) == bool(every)
    assert steps > 1 or drawn["loss"].get_marker() == "o"


def texts_of(fig):
    """(words, box in pixels) of every text that is drawn; labels of ticks outside the axes are not."""
    fig.draw_without_rendering()
    texts = [fig._suptitle]
    for ax in fig.axes:
        texts += [ax._left_title, ax.xaxis.label]
        if ax.get_legend():
            texts += ax.get_legend().get_texts()
        (bottom, top), (left, right) = ax.get_ylim(), ax.get_xlim()
        texts += [t.label1 for t in ax.yaxis.get_major_ticks() if bottom <= t.get_loc() <= top]
        texts += [t.label1 for t in ax.xaxis.get_major_ticks() if left <= t.get_loc() <= right]
    return [(t.get_text(), t.get_window_extent()) for t in texts if t.get_text() and t.get_visible()]


@pytest.mark.parametrize("width, spikes", [(460, True), (900, False), (900, True), (1400, False)])
def test_no_text_covers_another_or_leaves_the_picture(tmp_path, width, spikes):
    fig = fig_curves(write_metrics(tmp_path / "a-run-with-a-name", 200, spikes=spikes), width=width)
    texts = texts_of(fig)
    assert tuple((fig.get_size_inches() * fig.dpi).round()) == (width, 700)
    assert {"a-run-with-a-name", "step", "100", "gradient norm"} <= {words for words, _ in texts} and len(
        texts
    ) > 20
    for i, (words, box) in enumerate(texts):
        assert box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= 700, words
        for other_words, other in texts[:i]:
            apart = box.x0 >= other.x1 or other.x0 >= box.x1 or box.y0 >= other.y1 or other.y0 >= box.y1
            assert apart, (words, other_words)
    # the legend stands above the data
    assert fig.axes[0].get_legend().get_window_extent().y0 > fig.axes[0].get_window_extent().y1


def test_a_spike_of_the_gradient_gets_a_logarithmic_axis(tmp_path):
    assert fig_curves(write_metrics(tmp_path / "run", 200, spikes=True)).axes[2].get_yscale() == "log"
    assert fig_curves(write_metrics(tmp_path / "run", 200)).axes[2].get_yscale() == "linear"


def test_the_picture_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = write_metrics(tmp_path / "run", 20)
    picture = save_curves(tmp_path / "run")
    assert picture == tmp_path / "run" / "curves.png"
    before, file = picture.read_bytes(), picture.stat().st_ino
    assert (
        before.startswith(b"\x89PNG") and save_curves(str(tmp_path / "run")).read_bytes() == before
    )  # byte for byte
    assert picture.stat().st_ino != file  # a new file took the name; the old one was never half written

    def disk_is_full(self, file, **kwargs):
        file.write(before[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(curves.Figure, "savefig", disk_is_full)
    with pytest.raises(OSError, match="No space"):
        save_curves(tmp_path / "run")
    assert picture.read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir()) == ["curves.png", "metrics.csv"]


def test_a_run_stopped_before_its_first_step_has_nothing_to_draw(tmp_path):
    path = write_metrics(tmp_path / "run", 0)
    assert save_curves(tmp_path / "run") is None and not (tmp_path / "run" / "curves.png").exists()
    with pytest.raises(MinglmError, match="no step"):
        fig_curves(path)


def test_a_line_that_is_still_being_written_is_left_out(tmp_path):
    path = write_metrics(tmp_path / "run", 20)
    path.write_text(path.read_text() + "21,3.5,0.0")
    assert lines(fig_curves(path))["loss"].get_xdata().tolist() == list(range(1, 21))


def test_losses_that_are_not_numbers_leave_a_gap(tmp_path):
    path = write_metrics(tmp_path / "run", 20)
    text = path.read_text().split("\n")
    text[5] = "5,nan,0.1,inf" + text[5][text[5].index(",4096") :]
    path.write_text("\n".join(text))
    fig = fig_curves(path)
    fig.draw_without_rendering()
    assert np.isfinite(lines(fig)["loss raw"].get_ydata()).tolist() == [step != 5 for step in range(1, 21)]


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "a,b\n1,2\n",
        "\x00\xff",
        ",".join(COLUMNS) + "\n1,x" + "," * 11 + "\n",
        ",".join(COLUMNS) + "\n1,2\n" + "," * 12 + "\n",
    ],
)
def test_a_file_that_is_not_a_runs_metrics_is_named(tmp_path, text):
    path = tmp_path / "metrics.csv"
    if text is not None:
        path.write_text(text, encoding="latin-1")
    with pytest.raises(MinglmError) as error:
        fig_curves(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_themes(tmp_path):
    path = write_metrics(tmp_path / "run", 5)
    light, dark = (fig_curves(path, theme=theme).get_facecolor() for theme in ("light", "dark"))
    assert sum(light[:3]) > 2.5 > 0.5 > sum(dark[:3])
    with pytest.raises(MinglmError, match="'sepia'.*light, dark"):
        fig_curves(path, theme="sepia")


def test_the_running_mean_neither_lags_nor_moves_a_straight_line():
    line = np.arange(1000.0)
    np.testing.assert_allclose(smooth(line)[200:800], line[200:800], rtol=1e-4)
    assert smooth(np.array([4.0, 2.0, 2.0])).tolist() == [4, 2, 2]
    noise = np.random.default_rng(1).normal(5, 1, 2000)
    assert smooth(noise).std() < 0.4 * noise.std() and abs(smooth(noise).mean() - 5) < 0.1
    assert np.isfinite(smooth(np.where(line % 3 == 0, np.nan, 1.0))).all()


def test_a_long_run_keeps_its_extremes():
    step, values = np.arange(1000), np.sin(np.arange(1000.0))
    values[123], values[777] = 40, -30
    x, y = extremes(step, values, most=100)
    assert len(x) <= 100 and (np.diff(x) > 0).all() and {123, 777} <= set(x.tolist()) and y.max() == 40
    assert extremes(step, values)[1] is values


def test_only_a_figure_imports_matplotlib():
    check = """
import sys, minglm.viz
assert "matplotlib" not in sys.modules
minglm.viz.fig_curves
assert "matplotlib" in sys.modules and "matplotlib.pyplot" not in sys.modules
"""
    assert not python("-c", check).stderr
