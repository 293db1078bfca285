"""Translators made elsewhere: opened by what their file is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pix2pix_edge.export.translator.contract import Options, check_options
from pix2pix_edge.export.translator.translator import TRAIN, Translator
from pix2pix_edge.runtime.errors import InputError

if TYPE_CHECKING:
    from pix2pix_edge.export.translator.keras_model import KerasTranslator


def open_translator(path: str | Path, options: Options) -> Translator:
    """Open a trained network. Raises InputError where it is none, or its file cannot be read here."""
    path = Path(path)
    check_options(options)
    if path.is_dir():
        if (path / "checkpoint").is_file():
            raise InputError(
                f"{path} is a checkpoint: weights without the network; build that, restore this, and save it whole:"
                " generator.save('generator.keras')"
            )
        if not (path / "saved_model.pb").is_file():
            raise InputError(f"{path} is a folder without saved_model.pb; give a model's file, or make one: {TRAIN}")
        from pix2pix_edge.export.translator.saved_model import SavedModelTranslator

        return SavedModelTranslator(path, options)
    if not path.is_file():
        raise InputError(f"{path} does not exist; give the generator.keras of a training run, or make one: {TRAIN}")
    if not path.stat().st_size:
        raise InputError(
            f"{path} is empty: it was never saved to its end. Keras leaves such a file where it cannot save a model of"
            " a class of one's own: save the network within it (gan.generator.save('generator.keras')), or"
            " model.export(FOLDER), and convert that"
        )
    if path.suffix.lower() == ".onnx":
        from pix2pix_edge.export.translator.onnx_model import OnnxTranslator

        return OnnxTranslator(path, options)
    from pix2pix_edge.export.translator.archive import ENDINGS
    from pix2pix_edge.export.translator.keras_model import KerasTranslator

    if path.suffix not in ENDINGS:
        raise InputError(
            f"{path} is no model that can be read: its name must end in {', '.join(ENDINGS)} or .onnx, or it must be a"
            " SavedModel folder; PyTorch writes .onnx with torch.onnx.export (docs/models.md)"
        )
    return KerasTranslator(path, options)


def open_keras(path: str | Path) -> KerasTranslator:
    """Open a Keras model. Raises InputError for any other."""
    from pix2pix_edge.export.translator.keras_model import KerasTranslator

    translator = open_translator(path, Options())
    if not isinstance(translator, KerasTranslator):
        raise InputError(f"{path} is no Keras model; give a .keras file")
    return translator
