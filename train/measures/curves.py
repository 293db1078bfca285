"""The curves of a run: its losses, and what its pictures were worth on the validation pairs, over the epochs."""

from __future__ import annotations

from pathlib import Path

from pix2pix_edge.runtime.files import written_beside

TITLES = {
    "generator_loss": "generator loss",
    "discriminator_loss": "discriminator loss",
    "adversarial": "adversarial loss",
    "l1": "L1, training",
    "validation_l1": "L1 [levels], validation",
    "validation_psnr": "PSNR [dB], validation",
    "validation_ssim": "SSIM, validation",
    "validation_perceptual": "perceptual distance, validation",
    "validation_fringes": "fringes, share of real, validation",
    "validation_patches": "patches, validation",
    "validation_labels": "labels that read back, validation",
}


def draw_curves(history: list[dict[str, float]], path: Path) -> None:
    """Write a PNG with one panel for each column of the history; columns of zeros are left out."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [name for name in TITLES if any(row.get(name) for row in history)]
    rows = (len(names) + 3) // 4
    figure, axes = pyplot.subplots(rows, 4, figsize=(14, 2.8 * rows), layout="constrained", squeeze=False)
    for panel in axes.flat[len(names) :]:
        panel.remove()
    for name, panel in zip(names, axes.flat, strict=False):
        panel.plot([row["epoch"] for row in history], [row[name] for row in history], marker=".", color="#1f6f8b")
        panel.set(title=TITLES[name], xlabel="epoch")
        panel.grid(alpha=0.3)
    with written_beside(path) as temporary:
        figure.savefig(temporary, dpi=90)
    pyplot.close(figure)
