"""trtexec's JSON and log, in the forms that TensorRT 10 and 11 write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pix2pix_edge.benchmarks.machine.cautions import row_cautions
from pix2pix_edge.benchmarks.report.page import write_report
from pix2pix_edge.benchmarks.report.reader import load_report
from pix2pix_edge.benchmarks.report.schema import Rates
from pix2pix_edge.benchmarks.report.tables import main_table
from pix2pix_edge.benchmarks.trtexec import ROUNDS, WARM_UP_MS, read_trtexec
from pix2pix_edge.runtime.errors import InputError
from tests.benchmarks.samples import made_report, made_row
from tests.commands import benchmarks

RANDOM = np.random.default_rng(0)
LOG = """&&&& RUNNING TensorRT.trtexec [TensorRT v100300] [b30] # trtexec --loadEngine=out/facades.fp16.plan
[04/07/2026-23:59:46] [I] TensorRT version: 10.3.0
[04/07/2026-23:59:50] [I] Warmup completed 135 queries over 200 ms
[04/07/2026-23:59:50] [I] Timing trace has 2077 queries over 3.0039 s
[04/07/2026-23:59:50] [I] === Trace details ===
[04/07/2026-23:59:50] [I] Trace averages of 10 runs:
{averages}
[04/07/2026-23:59:50] [I] === Performance summary ===
[04/07/2026-23:59:50] [I] Throughput: 691.434 qps
[04/07/2026-23:59:50] [I] Latency: min = 1.41 ms, max = 2.94 ms, mean = 1.48 ms, median = 1.44 ms, percentile(90%) = 1.6 ms, percentile(95%) = 1.65 ms, percentile(99%) = 1.9 ms
[04/07/2026-23:59:50] [I] Enqueue Time: min = 0.21 ms, max = 0.6 ms, mean = 0.26 ms, median = 0.25 ms, percentile(90%) = 0.3 ms, percentile(95%) = 0.33 ms, percentile(99%) = 0.4 ms
[04/07/2026-23:59:50] [I] H2D Latency: min = {h2d} ms, max = {h2d} ms, mean = {h2d} ms, median = {h2d} ms, percentile(90%) = {h2d} ms, percentile(95%) = {h2d} ms, percentile(99%) = {h2d} ms
[04/07/2026-23:59:50] [I] GPU Compute Time: min = 1.38 ms, max = 2.9 ms, mean = 1.44 ms, median = 1.4 ms, percentile(90%) = 1.55 ms, percentile(95%) = 1.6 ms, percentile(99%) = 1.85 ms
[04/07/2026-23:59:50] [I] D2H Latency: min = {h2d} ms, max = {h2d} ms, mean = {h2d} ms, median = {h2d} ms, percentile(90%) = {h2d} ms, percentile(95%) = {h2d} ms, percentile(99%) = {h2d} ms
[04/07/2026-23:59:50] [I] Total Host Walltime: 3.0039 s
&&&& PASSED TensorRT.trtexec [TensorRT v100300] [b30] # trtexec --loadEngine=out/facades.fp16.plan
"""  # noqa: E501


def _log(*, transfers: bool) -> str:
    average = (
        "[04/07/2026-23:59:50] [I] Average on 10 runs - GPU latency: {} ms - Host latency: {} ms (enqueue 0.25 ms)"
    )
    averages = "\n".join(average.format(1.4 + 0.01 * (i % 3), 1.44 + 0.01 * (i % 3)) for i in range(40))
    return LOG.format(averages=averages, h2d="0.02" if transfers else "0")


def _times(*, transfers: bool, count: int = 1200, **more: float) -> list[dict[str, float]]:
    copy = 0.03 if transfers else 0.0
    calls = []
    for i in range(count):
        start, compute = i * 2.0, 1.5 + 0.1 * (i % 5)
        calls.append({
            "startEnqMs": start, "endEnqMs": start + 0.2, "startH2dMs": start, "endH2dMs": start + copy,
            "startComputeMs": start + copy, "endComputeMs": start + copy + compute,
            "startD2hMs": start + copy + compute, "endD2hMs": start + 2 * copy + compute,
            "h2dMs": copy, "computeMs": compute, "d2hMs": copy, "latencyMs": compute + 2 * copy, **more,
        })  # fmt: skip
    return calls


def _write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_every_call_of_the_json_counts_but_those_that_warm_up(tmp_path: Path) -> None:
    """TensorRT 8.2 and older export them too; from then on nothing is left out, as with --warmUp=0."""
    calls = _times(transfers=True)
    row = read_trtexec(_write(tmp_path / "times.json", calls))
    assert row.scopes["compute"].n == len(calls)
    calls = _times(transfers=True, endToEndMs=9.9)
    row = read_trtexec(_write(tmp_path / "times.json", calls), "facades.fp16.plan")
    counted = [c["computeMs"] for c in calls if c["startComputeMs"] >= WARM_UP_MS]
    compute = row.scopes["compute"]
    assert compute.n == len(counted) < len(calls)
    assert compute.p90_ms == pytest.approx(np.percentile(counted, 90), rel=1e-5)
    assert len(compute.medians_ms) == ROUNDS and compute.interval_ms
    assert row.scopes["engine"].p50_ms == pytest.approx(1.76)
    assert row.scopes["submit"].p50_ms == pytest.approx(0.2)
    assert row.name == "facades.fp16.plan (trtexec)" and row.describe["transfers"] == "included"


def test_without_transfers_there_is_no_scope_engine(tmp_path: Path) -> None:
    row = read_trtexec(_write(tmp_path / "times.json", _times(transfers=False)))
    assert set(row.scopes) == {"compute", "submit"}
    assert row.describe["transfers"].startswith("left out")
    assert f"{row.name}: computation alone, transfers were left out." in main_table(made_report(RANDOM, row)).notes
    row = read_trtexec(_write(tmp_path / "log.txt", _log(transfers=False)))
    assert set(row.scopes) == {"compute", "submit"}


def test_a_log_gives_its_summary_and_an_interval_from_its_averages(tmp_path: Path) -> None:
    row = read_trtexec(_write(tmp_path / "log.txt", _log(transfers=True)))
    assert row.name == "facades.fp16.plan (trtexec)" and row.file == "facades.fp16.plan"
    assert row.describe["version"] == "10.3.0"
    assert row.frames_per_second == Rates(overlap=691.4)
    compute, engine = row.scopes["compute"], row.scopes["engine"]
    assert (compute.n, compute.p50_ms, compute.p99_ms, compute.max_ms) == (2077, 1.4, 1.85, 2.9)
    assert (engine.p50_ms, engine.p90_ms) == (1.44, 1.6)
    assert compute.interval_ms and compute.interval_ms[0] < 1.4 < compute.interval_ms[1] < 1.45
    assert compute.variation is None and row_cautions(row) == []  # that of averages would be too small


def test_a_query_of_several_images(tmp_path: Path) -> None:
    binding = "[I] Input binding for image with dimensions 4x256x256x3 is created.\n"
    row = read_trtexec(_write(tmp_path / "log.txt", binding + _log(transfers=True)))
    assert row.batch == 4 and row.frames_per_second == Rates(overlap=2766)
    random = np.random.default_rng(0)
    write_report(made_report(random, made_row(random, row.file, 1.6)), tmp_path)
    arguments = ["trtexec", str(tmp_path / "log.txt"), "--report", str(tmp_path)]
    assert benchmarks(*arguments) == 2
    assert len(load_report(tmp_path).engines) == 1
    report = made_report(random, made_row(random, row.file, 1.6, batch=4))
    write_report(report, tmp_path)
    assert benchmarks(*arguments) == 0
    times = _write(tmp_path / "times.json", _times(transfers=True))  # it does not tell of how many images
    arguments = ["trtexec", str(times), "--name", row.file, "--report", str(tmp_path)]
    assert benchmarks(*arguments) == 2


def test_the_batch_is_found_in_every_form(tmp_path: Path) -> None:
    for line in (
        "[I] Created input binding for image with dimensions 4x256x256x3\n",  # 8.5
        "&&&& RUNNING TensorRT.trtexec # trtexec --loadEngine=facades.fp16.plan --shapes=image:0:4x256x256x3\n",
    ):
        text = _log(transfers=True)
        row = read_trtexec(_write(tmp_path / "log.txt", line + text[text.index("\n") + 1 :]))
        assert row.batch == 4, line


def test_an_implicit_batch_counts_its_images_as_queries(tmp_path: Path) -> None:
    text = _log(transfers=True).replace("--loadEngine", "--batch=4 --loadEngine")
    binding = "[I] Created input binding for image with dimensions 256x256x3\n"
    (tmp_path / "a.log").write_text(text.replace("[04/07/2026-23:59:50] [I] Warmup", binding + "[I] Warmup"))
    row = read_trtexec(tmp_path / "a.log")
    assert (row.batch, row.scopes["compute"].n) == (4, 2077 // 4)
    assert row.frames_per_second == Rates(overlap=691.4)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_files_of_powershell_are_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.log").write_text(_log(transfers=True), encoding)
    (tmp_path / "a.json").write_text(json.dumps(_times(transfers=True)), encoding)
    assert read_trtexec(tmp_path / "a.log").scopes["compute"].n == 2077
    assert read_trtexec(tmp_path / "a.json").scopes["compute"].n


def test_a_run_that_failed_is_no_row(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(_log(transfers=True).replace("&&&& PASSED", "&&&& FAILED"))
    with pytest.raises(InputError, match="of a trtexec run that failed"):
        read_trtexec(tmp_path / "a.log")


def test_a_log_of_two_runs_is_read_by_name_or_refused(tmp_path: Path) -> None:
    other = _log(transfers=False).replace("facades.fp16.plan", "other.plan").replace("1.4 ms", "2.5 ms")
    log = _write(tmp_path / "log.txt", _log(transfers=True) + other)
    with pytest.raises(InputError, match=r"holds 2 runs of trtexec, of facades\.fp16\.plan, other\.plan; name one"):
        read_trtexec(log)
    assert read_trtexec(log, "out/other.plan").scopes["compute"].p50_ms == 2.5
    row = read_trtexec(log, "facades.fp16.plan")
    assert row.scopes["compute"].p50_ms == 1.4 and row.describe["transfers"] == "included"
    with pytest.raises(InputError, match="name one plan that was run once"):
        read_trtexec(_write(tmp_path / "log.txt", _log(transfers=True) * 2), "facades.fp16.plan")


def test_runs_among_each_other_are_refused(tmp_path: Path) -> None:
    """Two that were run at once, into one file: whose a line is, nothing tells."""
    one, other = (_log(transfers=True).replace("facades", name).splitlines() for name in ("facades", "other"))
    mixed = [line for pair in zip(one, other, strict=True) for line in pair]
    for lines in (mixed, [line for line in mixed if "&&&&" not in line], [*one[:8], other[0], *one[8:]]):
        with pytest.raises(InputError, match="lines of several runs"):
            read_trtexec(_write(tmp_path / "log.txt", "\n".join(lines)))


def test_what_verbose_logs_explain_is_no_summary(tmp_path: Path) -> None:
    said = "[04/07/2026-23:59:50] [V] GPU Compute Time: the GPU latency to execute the kernels for a query.\n"
    assert read_trtexec(_write(tmp_path / "log.txt", said + _log(transfers=True))).scopes["compute"].p50_ms == 1.4


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (".", ",", "decimal commas"),
        ("max = 2.9 ms", "max = 1e+99 ms", "no times"),
        ("min = 1.38", "min = 9", "no times"),
    ],
)
def test_numbers_that_cannot_be_are_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_trtexec(_write(tmp_path / "log.txt", _log(transfers=True).replace(old, new)))


def test_submit_is_left_out_where_six_digits_do_not_hold_it(tmp_path: Path) -> None:
    """After a second the last digit of a time is worth 0.01 ms, a fifth of this enqueue."""
    calls = [call | {"endEnqMs": float(f"{call['startEnqMs'] + 0.05:.6g}")} for call in _times(transfers=False)]
    assert set(read_trtexec(_write(tmp_path / "times.json", calls)).scopes) == {"compute"}
    assert "submit" in read_trtexec(_write(tmp_path / "times.json", calls[:40])).scopes


def test_colours_journals_and_line_ends_leave_a_log_as_it_is(tmp_path: Path) -> None:
    plain = read_trtexec(_write(tmp_path / "log.txt", _log(transfers=True)))
    lines = _log(transfers=True).splitlines()
    for text in (
        "".join(f"\x1b[32m{line}\x1b[0m\n" for line in lines),
        "".join(f"Nov 25 10:00:00 orin trtexec[123]: {line}\n" for line in lines),
        "\r\n".join(lines),
    ):
        assert read_trtexec(_write(tmp_path / "log.txt", text)) == plain


def test_numbers_with_exponents_and_few_calls(tmp_path: Path) -> None:
    text = _log(transfers=True).replace("0.02 ms", "5e-05 ms").replace("has 2077 queries", "has 7 queries")
    row = read_trtexec(_write(tmp_path / "log.txt", text))
    assert row.describe["transfers"] == "included"
    assert row.scopes["compute"].p90_ms is None and row.scopes["compute"].left_out["p90"] == 100


def test_a_line_of_megabytes_is_no_line_of_a_log(tmp_path: Path) -> None:
    part = "Average on 10 runs - GPU latency: 1 ms - Host latency: 1 ms Input binding for [x] "
    log = _write(tmp_path / "log.txt", part * 25_000 + "\n" + _log(transfers=True))
    assert read_trtexec(log).scopes["compute"].p50_ms == 1.4  # in seconds, not in minutes


@pytest.mark.parametrize("number", ["NaN", "-1.0", "Infinity", "1e300", "true", '"x"', "null"])
def test_a_time_that_is_none_is_refused(tmp_path: Path, number: str) -> None:
    text = json.dumps(_times(transfers=True, count=9)).replace('"computeMs": 1.5', f'"computeMs": {number}', 1)
    with pytest.raises(InputError, match="export it again"):
        read_trtexec(_write(tmp_path / "times.json", text))


def test_a_very_short_run_is_kept(tmp_path: Path) -> None:
    row = read_trtexec(_write(tmp_path / "times.json", _times(transfers=True, count=3)))
    assert row.scopes["compute"].n == 3 and row.scopes["compute"].interval_ms is None


@pytest.mark.parametrize("content", ["", "hello", "[]", '[{"computeMs": 1}]', '[{"computeMs"', "Throughput: 3 qps"])
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(InputError, match="trtexec"):
        read_trtexec(_write(tmp_path / "x", content))
    with pytest.raises(InputError, match="cannot read"):
        read_trtexec(tmp_path / "missing")


def test_the_row_joins_a_report_beside_the_plan_that_it_is_of(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    folder = tmp_path / "report"
    folder.mkdir()
    write_report(made_report(random, made_row(random, "facades.fp16.plan", 1.6)), folder)
    times = _write(tmp_path / "times.json", _times(transfers=True))
    arguments = ["trtexec", str(times), "--name", "facades.fp16.plan", "--report", str(folder)]
    for _ in range(2):  # the second time it replaces the row
        assert benchmarks(*arguments) == 0
    report = load_report(folder)
    ours, theirs = report.engines
    unstable = [line for line in report.warnings if "(trtexec): unstable GPU time" in line]
    assert len(unstable) == 1  # once, although the row joined twice
    assert theirs.fidelity == ours.fidelity and theirs.measured_by == "trtexec"
    for name in ("report.md", "report.html"):
        assert "facades.fp16.plan (trtexec)" in (folder / name).read_text()


def test_without_a_report_the_row_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = _write(tmp_path / "log.txt", _log(transfers=True))
    assert benchmarks("trtexec", log) == 0
    assert "| facades.fp16.plan (trtexec) | compute | 2077 |" in capsys.readouterr().out
