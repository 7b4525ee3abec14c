"""The compiled form of the same source: `make fast` runs this; so does the wheel's build hook.

    python tools/native.py            in place: extension modules beside the Python files that they stand in for
    python tools/native.py --clean    takes them away again: pure Python
    python tools/native.py --sound    the same, if the source has changed since: what runs is what one reads
    python tools/native.py --into DIR

`[tool.pingap.compiled]` in pyproject.toml lists the modules. mypyc makes one group of them: calls within a
group are C calls, calls into it from outside are ordinary ones, so that few modules gain little.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import shutil
import sys
import sysconfig
import tempfile
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from time import monotonic
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # a build of the wheel has not installed what it builds

from pingap.form import RECORD, digest_of, form, stale  # noqa: E402

GROUP: Final = "pingap.native"
"""The one library that has all the code is `pingap/native__mypyc.….so`; the modules themselves are a few lines that fetch it."""

OPTIMISE: Final = "2"
"""Not 3: little of a request is in this code itself, most in Python's runtime and the kernel (docs/performance.md)."""

NEEDED: Final = "A C compiler and Python's headers are needed: on Debian, gcc and python3-dev"

MYPY: Final = ("--config-file=", "--strict", "--explicit-package-bases", "--namespace-packages", "--ignore-missing-imports")

SLICE: Final = "CPyBytes_GetSlice("
MENDED: Final = "pingap_bytes_slice("
MEND: Final = """
/* mypyc up to 2.4.1 raises SystemError for a slice of bytes that ends before it begins, where Python has an empty one. */
static inline PyObject *pingap_bytes_slice(PyObject *obj, CPyTagged start, CPyTagged end) {
    if (likely(PyBytes_CheckExact(obj) && CPyTagged_CheckShort(start) && CPyTagged_CheckShort(end))) {
        Py_ssize_t from = CPyTagged_ShortAsSsize_t(start), to = CPyTagged_ShortAsSsize_t(end), size = PyBytes_GET_SIZE(obj);
        if (from < 0) { from += size; if (from < 0) from = 0; }
        if (to < 0) to += size;
        if (to > size) to = size;
        if (to <= from) return PyBytes_FromStringAndSize(NULL, 0);
        if (to - from == size) { Py_INCREF(obj); return obj; }
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(obj) + from, to - from);
    }
    return CPyObject_GetSlice(obj, start, end);
}
"""

SETTER: Final = re.compile(r"\w+ \*self, PyObject \*value, void \*closure\)\s*\{\n(?=\s*char retval\b)")
UNSET: Final = """    /* And the setter of a property gets NULL for `del`. */
    if (value == NULL) { PyErr_SetString(PyExc_AttributeError, "this cannot be deleted"); return -1; }
"""


class CannotCompile(Exception):
    """Says what is missing."""


def modules(root: Path = ROOT) -> list[str]:
    """Names of the modules that are compiled."""
    table = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["pingap"]["compiled"]
    return [f"{package}.{name}" for package, names in table.items() for name in names]


def compile_into(target: Path, root: Path = ROOT) -> list[Path]:
    """Builds into `target`, which gets a folder `pingap`. Returns the files made. Raises CannotCompile."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    if shutil.which(compiler) is None:  # before the minute that mypyc takes
        raise CannotCompile(f"there is no C compiler {compiler!r}. {NEEDED}")
    try:
        import setuptools  # noqa: F401 - before mypyc, which asks whether it is there
        from mypyc.build import mypycify
        from setuptools import Distribution
        from setuptools.errors import BaseError, CompileError
    except ImportError as error:
        raise CannotCompile(f"{error.name} is not installed: pip install 'mypy[mypyc]'") from error
    paths = [f"{name.replace('.', '/')}.py" for name in modules(root)]
    sources = {path.removeprefix("pingap/"): digest_of(root / path) for path in paths}  # now: it takes minutes, and somebody may edit
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="pingap-compile-") as scratch:
        os.chdir(root)
        os.environ["MYPYPATH"] = str(root)
        try:
            extensions = mypycify([*MYPY, *paths], opt_level=OPTIMISE, debug_level="0", group_name=GROUP, target_dir=f"{scratch}/c")
            _mend(Path(scratch))
            command = Distribution({"name": "pingap", "ext_modules": extensions}).get_command_obj("build_ext")
            command.build_lib, command.build_temp, command.parallel = str(target), f"{scratch}/o", os.cpu_count()
            command.ensure_finalized()
            command.run()
        except SystemExit as error:  # mypyc has said why
            raise CannotCompile("mypyc does not take the source as it is, or not with these libraries") from error
        except (CompileError, BaseError) as error:
            raise CannotCompile(f"{error}. {NEEDED}") from error
        finally:
            os.chdir(before)
    record = target / "pingap" / RECORD
    record.write_text(json.dumps({"mypyc": version("mypy"), "sources": sources}, indent=1))
    return [record, *sorted(target.rglob("*.so"))]


def _mend(folder: Path) -> None:
    """Puts right what mypyc's C does otherwise than Python."""
    for path in folder.rglob("__native_*.c"):
        text = path.read_text()
        last = text.rindex("#include")
        behind = text.index("\n", last) + 1
        path.write_text(text[:behind] + MEND + SETTER.sub(rf"\g<0>{UNSET}", text[behind:].replace(SLICE, MENDED)))


def in_place(root: Path = ROOT) -> Iterator[Path]:
    """The extension modules that are there, for whichever Python, and what is written of them."""
    for package in ("pingap", "bus", "config", "observability", "stages"):
        yield from (root / package).rglob("*.so")
    yield from (root / "pingap").glob(RECORD)


def clean(root: Path = ROOT) -> int:
    found = list(in_place(root))
    for path in found:
        path.unlink()
    return len(found)


def install(made: list[Path], source: Path, root: Path = ROOT) -> None:
    """Puts what was built beside the source, in place of what was there."""
    clean(root)
    for path in made:
        shutil.move(path, root / path.relative_to(source))


def _be_sound() -> None:
    changed = stale(ROOT / "pingap")
    if changed or (not form().is_compiled and any(in_place())):
        clean()
        why = f"{changed[0]} has changed" if changed else "it is for another Python"
        print(f"the compiled form is taken away, since {why}: `make fast` makes it anew")


def main() -> None:
    parser = argparse.ArgumentParser(prog="tools/native.py", description="Builds pingap's compiled form.")
    parser.add_argument("--clean", action="store_true", help="take the compiled form away: pure Python")
    parser.add_argument("--sound", action="store_true", help="take it away if the source has changed since")
    parser.add_argument("--into", type=Path, metavar="DIR", help="build there instead of beside the source")
    options = parser.parse_args()
    if options.sound:
        _be_sound()
        return
    if options.clean:
        print("pure Python" if clean() else "pure Python, as it was")
        return
    began = monotonic()
    try:
        if options.into is not None:
            made = compile_into(options.into)
        else:
            with tempfile.TemporaryDirectory(prefix="pingap-compiled-", dir=ROOT) as target:
                made = compile_into(Path(target))
                install(made, Path(target))
    except CannotCompile as error:
        if options.into is None:
            _be_sound()
        sys.exit(f"not compiled, and {'the older compiled form' if any(in_place()) else 'pure Python'} it stays: {error}")
    python = f"{platform.python_implementation()} {platform.python_version()}"
    print(f"{len(modules())} modules compiled for {python} in {monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
