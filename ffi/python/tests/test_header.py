"""The declarations in Python are those of the header."""

import ctypes
import re
import shutil
import subprocess

import pytest
import waitqueue._native as native
from conftest import ROOT

HEADER = ROOT / "ffi" / "include" / "waitqueue.h"
TEXT = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)


def functions():
    text = re.sub(r"^#define.*?(?<!\\)$", "", TEXT, flags=re.DOTALL | re.MULTILINE)
    found = re.findall(r"^(?!static|inline)[\w ]+?[ *]+(wq_\w+)\(([^()]*)\);", text, flags=re.MULTILINE)
    return {name: 0 if arguments.strip() == "void" else arguments.count(",") + 1 for name, arguments in found}


def structs():
    return {name: value for name, value in vars(native).items() if name.startswith("wq_")}


def test_functions_are_declared_with_their_arguments():
    declared = {name: len(types) - 1 for name, types in native.FUNCTIONS.items()}
    assert len(declared) > 50
    assert declared == functions()


def test_constants_are_the_same():
    numbers = {"UINT64_MAX": 2**64 - 1, "UINT32_MAX": 2**32 - 1}
    found = re.findall(r"^#define WQ_(\w+) (\w+)\s*$", TEXT, flags=re.MULTILINE)
    header = {name: numbers.get(value) or int(value.rstrip("u")) for name, value in found}
    assert len(header) > 20
    assert header == {name: getattr(native, name, None) for name in header}


def test_structs_are_laid_out_the_same(tmp_path):
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    lines, expected = [], []
    for name, struct in structs().items():
        lines.append(f'printf("{name} %zu\\n", sizeof({name}));')
        expected.append(f"{name} {ctypes.sizeof(struct)}")
        for field, _ in struct._fields_:
            at = getattr(struct, field)
            lines.append(
                f'printf("{name}.{field} %zu %zu\\n", offsetof({name}, {field}), sizeof((({name} *)0)->{field}));'
            )
            expected.append(f"{name}.{field} {at.offset} {at.size}")
    source, program = tmp_path / "sizes.c", tmp_path / "sizes"
    source.write_text("#include <stdio.h>\n#include <waitqueue.h>\nint main(void)\n{\n" + "\n".join(lines) + "\n}\n")
    subprocess.run(["cc", "-std=c11", "-D_GNU_SOURCE", "-I", HEADER.parent, source, "-o", program], check=True)
    assert subprocess.run([program], capture_output=True, text=True, check=True).stdout.split("\n")[:-1] == expected
    # Nothing of the header's structs is missing here.
    opaque = {"wq_region", "wq_queue", "wq_set", "wq_lock", "wq_interrupter", "wq_snapshot"}
    assert set(re.findall(r"^typedef struct (wq_\w+)", TEXT, flags=re.MULTILINE)) - opaque == set(structs())


def test_the_versions_are_the_same():
    def version(path):
        return re.search(r'^version = "(.*)"', path.read_text(), flags=re.MULTILINE).group(1)

    assert version(ROOT / "Cargo.toml") == version(ROOT / "ffi" / "python" / "pyproject.toml")
    assert native.lib.wq_version().decode() == version(ROOT / "Cargo.toml")
