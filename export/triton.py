"""Write a model repository for NVIDIA's Triton Inference Server from a plan or an ONNX file.

python -m export triton facades.plan --out models
python -m export triton facades.int8.cpu.onnx --out models --name facades-cpu --max-batch 8
python -m export triton facades.int8.cpu.onnx --out models --python     for a server without the ONNX Runtime backend
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
from pathlib import Path

from pix2pix_edge.runtime.cli import add_out
from pix2pix_edge.runtime.engine import check_file
from pix2pix_edge.runtime.engines.base import INPUT_NAME, OUTPUT_NAME, TensorSpec, check_contract, read_engine
from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.files import sha256_of, written_beside
from pix2pix_edge.runtime.nvidia.plan import package_of, rebuild_command
from pix2pix_edge.runtime.sidecar import BuiltBy, Sidecar, read_sidecar, sidecar_path

MODEL = Path(__file__).with_name("triton_model.py")
NOTHING = TensorSpec("nothing", (), "")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help=".plan or .onnx, with its sidecar beside it")
    add_out(parser, "folder of the model repository", "REPOSITORY")
    parser.add_argument("--name", help="name that clients ask for (default: the file's name up to the first dot)")
    parser.add_argument(
        "--max-batch",
        type=int,
        metavar="N",
        help="most images that Triton may join into one batch, from 2 on; for a plan it is what --batch built it for",
    )
    parser.add_argument(
        "--python",
        action="store_true",
        help="serve an .onnx by Triton's Python backend and this package, in OpenVINO or ONNX Runtime as it chooses",
    )
    parser.add_argument("--instances", type=int, default=1, metavar="N", help="copies that run at once (default: 1)")


def run(args: argparse.Namespace) -> None:
    model = write_repository(
        args.file, args.out, name=args.name, max_batch=args.max_batch, instances=args.instances, python=args.python
    )
    print(f"wrote {model} and {model.parent.parent / 'config.pbtxt'}")
    if args.file.suffix == ".plan":
        version = (_sidecar(args.file).tensorrt or BuiltBy()).version or "of the machine that built it"
        print(f"serve it on the GPU that built it, with a Triton release that has TensorRT {version}:")
    elif args.python:
        print("serve it, where the server's own Python has this package (pip install 'pix2pix-edge[openvino]'):")
    else:
        print("serve it:")
    print(f"  tritonserver --model-repository={args.out.resolve()}")


def write_repository(
    file: Path,
    repository: Path,
    *,
    name: str | None = None,
    max_batch: int | None = None,
    instances: int = 1,
    python: bool = False,
) -> Path:
    """Write REPOSITORY/NAME/config.pbtxt and REPOSITORY/NAME/1/model.{plan,onnx}; return the model's path.

    python: by Triton's Python backend: model.onnx with its sidecar, and model.py, which opens it with this package.

    Batches are joined by Triton only where the model's batch dimension is free: a plan built with --batch, or an ONNX
    file, whose batch is freed in the copy when `max_batch` is given. Otherwise max_batch_size is 0, and the shapes
    name every dimension. Raises InputError.
    """
    check_file(file)
    if file.suffix == ".onnx":
        read_engine(file)  # a server would read what it says lies in other files
    sidecar = _sidecar(file)
    if file.suffix == ".plan" and package_of(file) == "tensorrt_rtx":
        raise InputError(f"{file} is a plan of TensorRT-RTX, which Triton does not serve; give its .onnx")
    name = name or file.name.partition(".")[0]
    if not re.fullmatch(r"[A-Za-z0-9_][\w.-]*", name, re.ASCII):
        raise InputError(f"{name!r} cannot be a model's name; use letters, digits, '-', '_' and '.' in --name")
    if instances < 1:
        raise InputError(f"--instances {instances} serves nothing; give 1 or more")
    if python and (file.suffix != ".onnx" or max_batch is not None):
        raise InputError(
            "--python serves an .onnx file one request after the other on the CPU; leave --max-batch out"
            if file.suffix == ".onnx"
            else f"--python is for .onnx files, and Triton runs {file} by itself; leave it out"
        )
    batch = _batch(file, sidecar, max_batch)
    model = repository / name / "1" / f"model{file.suffix}"
    with written_beside(model) as temporary:
        if file.suffix == ".onnx" and batch:
            from pix2pix_edge.export.tensorrt.batch import free_batch

            temporary.write_bytes(free_batch(file.read_bytes()))
            _try_batches(temporary, file, batch)
        else:
            shutil.copyfile(file, temporary)
    beside = model.parent / "model.py"
    beside.unlink(missing_ok=True)
    if python:
        for source, target in ((sidecar_path(file), sidecar_path(model)), (MODEL, beside)):
            with written_beside(target) as temporary:
                shutil.copyfile(source, temporary)
    with written_beside(repository / name / "config.pbtxt") as temporary:
        temporary.write_text(config_text(name, file, sidecar, batch, instances, python=python))
    return model


def config_text(name: str, file: Path, sidecar: Sidecar, batch: int, instances: int, *, python: bool = False) -> str:
    """Return config.pbtxt: inference.ModelConfig of Triton's model_config.proto as protobuf text."""
    tensors = {
        kind: _tensor(spec, batch) for kind, spec in (("input", sidecar.input), ("output", sidecar.output)) if spec
    }
    about = [f"{file.name}, {sidecar.precision.asked or 'precision unknown'}"]
    if built := sidecar.tensorrt:
        about.append(f"built by TensorRT {built.version} on {built.gpu}, and good for nothing else")
    if batch:
        batching = "dynamic_batching { }  # joins waiting requests; see max_queue_delay_microseconds to wait for more\n"
    else:
        batching = "# The batch is fixed in the model, so Triton cannot join requests.\n"
    platform = 'platform: "tensorrt_plan"' if file.suffix == ".plan" else 'platform: "onnxruntime_onnx"'
    runs, kind = ('backend: "python"', "KIND_CPU") if python else (platform, _kind(file))
    return (
        "".join(f"# {line}\n" for line in about)
        + f'name: "{name}"\n{runs}\nmax_batch_size: {batch}\n'
        + "".join(f"{kind} [\n  {{\n{text}  }}\n]\n" for kind, text in tensors.items())
        + f"instance_group [\n  {{\n    count: {instances}\n    kind: {kind}\n  }}\n]\n"
        + batching
    )


def _tensor(spec: TensorSpec, batch: int) -> str:
    dims = ", ".join(map(str, spec.shape[1:] if batch else spec.shape))
    return f'    name: "{spec.name}"\n    data_type: TYPE_{spec.dtype.upper()}\n    dims: [ {dims} ]\n'


def _kind(file: Path) -> str:
    """Where instances run: a plan on the GPU; INT8 for CPUs on the CPU; other ONNX files wherever Triton runs."""
    if file.suffix == ".plan":
        return "KIND_GPU"
    return "KIND_CPU" if file.name.endswith(".int8.cpu.onnx") else "KIND_AUTO"


def _sidecar(file: Path) -> Sidecar:
    """Return the sidecar, which alone tells the shapes. Raises InputError when it is missing or of another file."""
    sidecar = read_sidecar(file)
    if sidecar is None:
        raise InputError(
            f"{sidecar_path(file)} is missing, and it tells the shapes; copy it with {file}, or make both anew with:"
            f" python -m export convert {shlex.quote(str(file)) if file.suffix == '.onnx' else 'MODEL'} --out DIR"
        )
    check_contract(sidecar_path(file), [sidecar.input or NOTHING], [sidecar.output or NOTHING])
    if sidecar.sha256 != sha256_of(file):
        raise InputError(f"{file} was altered after its sidecar was written; export it again")
    return sidecar


def _batch(file: Path, sidecar: Sidecar, wanted: int | None) -> int:
    """Return max_batch_size: 0 where the batch is fixed."""
    if wanted is not None and wanted < 2:
        raise InputError(f"--max-batch {wanted} joins nothing; give 2 or more, or leave it out")
    if file.suffix == ".onnx":
        return wanted or 0
    most = (sidecar.tensorrt or BuiltBy()).max_batch or 0
    if wanted is not None and wanted > most:
        built = f"for up to {most} images" if most else f"for exactly {sidecar.input.shape[0] if sidecar.input else 1}"
        raise InputError(
            f"{file} is built {built} at once, not for {wanted}; run: {rebuild_command(file, sidecar)} --batch {wanted}"
        )
    return wanted or most


def _try_batches(freed: Path, original: Path, batch: int) -> None:
    """Run the copy with a free batch. Raises InputError when a layer of the graph has the batch baked in."""
    import numpy as np

    from pix2pix_edge.export.check import one
    from pix2pix_edge.export.images import drawn_images
    from pix2pix_edge.runtime.engine import open_engine
    from pix2pix_edge.runtime.errors import require

    ort = require("onnxruntime", "", "trying batches")
    with open_engine(original, backend="onnxruntime") as engine:
        images = np.stack(drawn_images(engine.input.shape[1:])[-2:])
        alone = np.stack([one(engine, image) for image in images])
    ort.set_default_logger_severity(4)  # what matters is raised
    try:
        session = ort.InferenceSession(str(freed), providers=["CPUExecutionProvider"])
        (together,) = session.run([OUTPUT_NAME], {INPUT_NAME: images})
        same = np.abs(together.astype(int) - alone).max() <= 1  # another batch may be summed in another order
    except Exception as error:  # onnxruntime's exceptions have no common class
        raise InputError(
            f"{original} cannot take batches, a layer has its batch built in; leave --max-batch out"
        ) from error
    if not same:
        raise InputError(f"{original} gives other pictures in a batch than alone; leave --max-batch {batch} out")
