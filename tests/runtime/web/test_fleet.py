"""docs/fleet: what Prometheus and Grafana are given speaks of what /metrics has, and promtool takes it."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pix2pix_edge.runtime.frame import Histogram
from pix2pix_edge.runtime.web.broadcast import Broadcast
from pix2pix_edge.runtime.web.status import StatusBoard, as_prometheus
from tests.conftest import REPOSITORY

FLEET = REPOSITORY / "docs" / "fleet"
DASHBOARD = json.loads((FLEET / "dashboard.json").read_text())


def served() -> str:
    """Return /metrics of two streams on a board whose sensors are known."""
    status = StatusBoard(Broadcast(), lambda: 0).read()
    values = {"fps": 9.0, "frame_age_s": 0.1, "ages": Histogram({0.05: 3}, 4, 0.5), "watts": 7.0, "temperature_c": 50.0}
    return as_prometheus([dataclasses.replace(status, source=name, **values) for name in ("porch", "yard")])


EXPRESSIONS = [
    target["expr"].replace("$__rate_interval", "5m").replace("$instance", ".*").replace("$source", ".*")
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
]


def test_everything_that_is_asked_for_is_served() -> None:
    asked = " ".join([*EXPRESSIONS, (FLEET / "alerts.yml").read_text(), json.dumps(DASHBOARD["templating"])])
    names = set(re.findall(r"\bpix2pix_\w+", asked))
    assert {"pix2pix_frames_total", "pix2pix_latency_seconds_bucket", "pix2pix_latency_seconds_sum"} <= names
    text = served()
    for name in names:
        assert re.search(rf"^{name}[{{ ]", text, re.MULTILINE), name
    for label in ("source", "cause", "le"):
        assert re.search(rf"by \([^)]*\b{label}\b", asked) and f'{label}="' in text


def test_the_dashboard_is_laid_out_without_overlaps() -> None:
    places: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        grid = panel["gridPos"]
        own = {(x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])}
        assert max(x for x, _ in own) < 24 and places.isdisjoint(own), panel["title"]
        places |= own
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed: apt install prometheus")
def test_promtool_takes_rules_configuration_metrics_and_every_expression(tmp_path: Path) -> None:
    def promtool(*words: str, feed: str | None = None) -> str:
        done = subprocess.run(
            ["promtool", *words], cwd=FLEET, input=feed, capture_output=True, text=True, timeout=120, check=False
        )
        return f"{done.returncode}: {done.stdout}{done.stderr}"

    assert promtool("check", "rules", "alerts.yml").startswith("0:")
    assert promtool("check", "config", "prometheus.yml").startswith("0:")
    assert promtool("test", "rules", "alerts_test.yml").startswith("0:")
    assert promtool("check", "metrics", feed=served()) == "0: "
    records = "".join(f"      - record: a:b{n}\n        expr: |-\n          {e}\n" for n, e in enumerate(EXPRESSIONS))
    rules = tmp_path / "dashboard.yml"
    rules.write_text(f"groups:\n  - name: dashboard\n    rules:\n{records}")
    checked = promtool("check", "rules", str(rules))
    assert checked.startswith("0:") and f"{len(EXPRESSIONS)} rules found" in checked, checked
