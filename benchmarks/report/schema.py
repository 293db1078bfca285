"""The report's data: what docs/report-schema.md describes, key for key. report.reader reads and writes it.

Times are milliseconds and sizes bytes. What was not measured is None here and absent in the JSON, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pix2pix_edge.benchmarks.machine.description import Machine, Shares, State
from pix2pix_edge.runtime.frame import STAGES

FORMAT = "pix2pix-edge-report/1"
QUANTILES = 100
"""The distribution of a scope is kept as its 0th, 1st … 100th percentile; the calls themselves would fill megabytes."""


def refuse_unless(holds: bool, what: str) -> None:
    """Raise ValueError, which the reader turns into a sentence that names the place in the file."""
    if not holds:
        raise ValueError(what)


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What a scope's calls took.

    left_out: percentiles that n does not support -> the calls they need. interval_ms: around p50_ms, where another run
    of the same length lands with CONFIDENCE as far as this run's own rounds tell; None with too few rounds. medians_ms,
    lows_ms: of each round, in order of time. variation, quantiles_ms: not from a trtexec log.
    """

    n: int
    min_ms: float
    mean_ms: float
    max_ms: float
    p50_ms: float
    p90_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    variation: float | None = None
    left_out: dict[str, int] = field(default_factory=dict)
    interval_ms: tuple[float, float] | None = None
    medians_ms: list[float]
    lows_ms: list[float]
    quantiles_ms: list[float] | None = None

    def __post_init__(self) -> None:
        times = [self.min_ms, self.mean_ms, self.max_ms, self.p50_ms, *self.medians_ms, *self.lows_ms]
        times += [t for p in (90, 95, 99) if (t := self.percentile(p)) is not None]
        times += [*(self.interval_ms or ()), *(self.quantiles_ms or ())]
        refuse_unless(self.n >= 0 and min(times) >= 0, "a time or a count is below 0")
        refuse_unless(len(self.medians_ms) == len(self.lows_ms) > 0, "medians_ms and lows_ms need a value a round")
        refuse_unless(self.quantiles_ms is None or len(self.quantiles_ms) == QUANTILES + 1, "101 quantiles are needed")

    def percentile(self, percent: int) -> float | None:
        """Return p50_ms, p90_ms, p95_ms or p99_ms."""
        found: float | None = getattr(self, f"p{percent}_ms")
        return found


@dataclass(frozen=True, kw_only=True)
class ReferenceWork(Scope):
    """The reference work of a run (measure.reference_work): what it is, and the CPU time that it took."""

    what: str
    cpu: Scope


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Time as a multiple of the engine `to`, paired within rounds."""

    to: str = ""
    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        refuse_unless(min(self.value, self.low, self.high) > 0, "a ratio must be above 0")


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """How alike an engine's pictures are to those of its FP32 graph in ONNX Runtime: the file `reference`.

    psnr_db, ssim: means over the images, where 100 dB stands for equal. max_difference: levels of 255. itself: these
    are the reference's own pictures. from_sidecar: as the engine's export measured it, on other images, because the
    FP32 graph was not given here.
    """

    reference: str = ""
    itself: bool = False
    from_sidecar: bool = False
    images: int
    psnr_db: float
    ssim: float
    max_difference: int
    psnr_worst_db: float | None = None
    worst_image: str = ""
    psnr_each_db: list[float] | None = None

    def __post_init__(self) -> None:
        refuse_unless(0 <= self.max_difference <= 255 and self.images >= 0, "max_difference is levels of 255")


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Images a second: one after the other, with every slot busy, and delivered by the stream of 30 a second."""

    serial: float | None = None
    overlap: float | None = None
    stream: float | None = None


@dataclass(frozen=True, kw_only=True)
class Work:
    """Multiply-adds and weights of a call, and the share of the peak (whose: `peak`) that the scope compute reaches."""

    multiply_adds: int
    weight_bytes: int
    at_peak_ms: float | None = None
    share_of_peak: float | None = None
    peak: str = ""


@dataclass(frozen=True, kw_only=True)
class MemoryUse:
    """Of the engine's process: the host's at its peak and before the engine was opened, and the device's."""

    host_peak_bytes: int
    host_before_bytes: int
    device_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Power:
    """Mean power, and energy in millijoules for an image, over the engine's own turns."""

    watts: float
    energy_mj: float
    above_idle_mj: float | None = None


@dataclass(frozen=True, kw_only=True)
class StreamTimes:
    """Median of each stage of a streamed frame, and the ages of the last frames."""

    stages_ms: dict[str, float]
    ages_ms: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        times = [*self.stages_ms.values(), *self.ages_ms]
        refuse_unless(set(self.stages_ms) == set(STAGES) and min(times) >= 0, f"stages_ms needs {', '.join(STAGES)}")


@dataclass(frozen=True, kw_only=True)
class Row:
    """An engine, by its name, unique in a report. measured_by: "run" or "trtexec". error: why it was not measured.

    engine, precision, describe: what the runtime says of it. batch: images in a call. load_ms, first_ms: of each
    launch. p90_bound_ms: what the 90th percentile of `engine` does not exceed, at 99 % confidence.
    """

    name: str
    file: str
    measured_by: str = "run"
    error: str = ""
    engine: str = ""
    precision: str = ""
    describe: dict[str, str] = field(default_factory=dict)
    batch: int = 1
    bytes: int | None = None
    sha256: str = ""
    load_ms: list[float] = field(default_factory=list)
    first_ms: list[float] = field(default_factory=list)
    scopes: dict[str, Scope] = field(default_factory=dict)
    p90_bound_ms: float | None = None
    frames_per_second: Rates = Rates()
    ratio: Ratio | None = None
    fidelity: Fidelity | None = None
    work: Work | None = None
    memory: MemoryUse | None = None
    power: Power | None = None
    stream: StreamTimes | None = None

    def __post_init__(self) -> None:
        refuse_unless(self.batch >= 1, "batch must be 1 or more")

    @property
    def on_gpu(self) -> bool:
        """Whether it is a TensorRT plan; trtexec runs nothing else, whatever its file is called."""
        return self.file.endswith(".plan") or self.measured_by == "trtexec"


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much was measured: the profile's name, launches, rounds in all, seconds of a turn and of warming up."""

    name: str
    launches: int
    rounds: int
    turn_s: float
    warm_up_s: float


@dataclass(frozen=True, kw_only=True)
class States:
    """The machine's state before and after the run, and who used its CPUs meanwhile."""

    before: State = field(default_factory=State)
    during: Shares = field(default_factory=Shares)
    after: State = field(default_factory=State)


@dataclass(frozen=True, kw_only=True)
class PowerMeter:
    """What measured power, what its watts are of, and the watts before the run."""

    meter: str
    of: str
    idle_watts: float | None = None


@dataclass(frozen=True, kw_only=True)
class ShownOutput:
    """An engine's picture in the gallery and its difference to the reference's, as paths in the report's folder."""

    picture: str
    difference: str
    psnr_db: float


@dataclass(frozen=True, kw_only=True)
class Shown:
    """An image of the gallery; paths are relative to the report. references: file -> picture. outputs: by engine."""

    image: str
    input: str
    references: dict[str, str]
    outputs: dict[str, ShownOutput]


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that a run measured. complete: False when it was interrupted. peak: precision -> multiply-adds a second, and
    "bandwidth" -> bytes a second, as measured. images, images_sha256: names of the images, and a hash of their pixels.
    """

    format: str = FORMAT
    complete: bool = True
    command: str
    profile: Effort
    machine: Machine
    state: States = States()
    warnings: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    images_sha256: str = ""
    engines: list[Row]
    gallery: list[Shown] = field(default_factory=list)
    peak: dict[str, float] = field(default_factory=dict)
    reference_work: ReferenceWork | None = None
    power: PowerMeter | None = None

    def __post_init__(self) -> None:
        names = {row.name for row in self.engines}
        refuse_unless(len(names) == len(self.engines) > 0, "engines need names of their own")
