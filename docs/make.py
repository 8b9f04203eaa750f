#!/usr/bin/env python3
"""Runs the commands of a tutorial as they are printed, and puts what they print below them.

    docs/make.py PAGE.md [--program PROGRAM] [--python PYTHON] [--data FOLDER] [--work FOLDER] [--check]

Each block of `sh` is run by bash, all in one folder; the block of `text` right below it becomes its output (both streams, in order).
A comment before a block of `sh` changes that:

    <!-- later -->        not run: what the program does not have yet, or what fetches something
    <!-- python -->       before a block of `python`: run by PYTHON
    <!-- last 8 lines --> before a block of `text`: only the last (first) lines of the output

`--data` is the folder with real data (else SCCROSSREC_TEST_DATA): the files of `snare_cortex` and the annotation `genes.gtf.gz` are put
into the folder that is worked in. A page that needs them and has none is left as it is, with a line. `--check` writes nothing: it
fails where a command fails, or where what is printed differs in more than its numbers.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
BLOCK = re.compile(r"(?P<mark>(?:<!-- [^\n]* -->\n)?)```(?P<kind>sh|python|text)\n(?P<body>.*?)^```$", re.S | re.M)
REAL = {"rna.h5ad": "snare_cortex/rna.h5ad", "atac.h5ad": "snare_cortex/atac.h5ad", "genes.gtf.gz": "gtf/gencode.vM23.genes.gtf.gz"}


def shape(text):
    """What is left to compare where numbers, lines drawn and widths of columns may differ."""
    text = re.sub(r"[-+]?\d[\d.,]*(e[-+]?\d+)?", "#", text)
    text = re.sub(r"-{3,}", "---", re.sub(r"  best$", "", text, flags=re.M))
    return [" ".join(line.split()) for line in text.splitlines()]


def clean(text):
    """As a terminal would show it: no blanks at the ends of lines."""
    return "\n".join(line.rstrip() for line in text.replace("\r", "\n").splitlines()).strip("\n") + "\n"


def page(path, work, env, python, check):
    text = path.read_text()
    out, at, printed, told = [], 0, None, []
    for block in BLOCK.finditer(text):
        out.append(text[at:block.start()])
        at = block.end()
        mark, kind, body = block["mark"], block["kind"], block["body"]
        line = text[:block.start()].count("\n") + 1
        if kind == "text":
            if printed is not None:
                wanted = re.match(r"<!-- (first|last) (\d+) lines -->", mark)
                lines = printed.splitlines()
                if wanted:
                    n = int(wanted[2])
                    lines = [*lines[:n], "…"] if wanted[1] == "first" else ["…", *lines[-n:]]
                new = "\n".join(lines) + "\n"
                if check and shape(new) != shape(body):
                    told.append(f"{path.name}:{line}: prints something else now:\n{new}")
                body = new
            out.append(f"{mark}```text\n{body}```")
            printed = None
            continue
        out.append(block[0])
        printed = None
        if "later" in mark or (kind == "python" and "python" not in mark):
            continue
        command = [python, "-W", "ignore", "-c", body] if kind == "python" else ["bash", "-euc", body]
        run = subprocess.run(command, cwd=work, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if run.returncode:
            sys.exit(f"{path.name}:{line}: exit code {run.returncode}\n{body}\n{run.stdout}")
        printed = clean(run.stdout)
    out.append(text[at:])
    if not check:
        path.write_text("".join(out))
    return told


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=pathlib.Path)
    parser.add_argument("--program", default="target/release/sccrossrec", type=pathlib.Path)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--data", default=os.environ.get("SCCROSSREC_TEST_DATA"), type=pathlib.Path)
    parser.add_argument("--work", type=pathlib.Path, help="a new folder to work in, which is kept [default: a temporary one]")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    args.page = args.page.resolve()
    needs = "rna.h5ad" in args.page.read_text() and "as-tenx" not in args.page.read_text()
    if needs and not args.data:
        print(f"{args.page.name}: no real data (SCCROSSREC_TEST_DATA): left as it is")
        return
    with tempfile.TemporaryDirectory() as scratch:
        work = args.work or pathlib.Path(scratch) / "work"
        work.mkdir(parents=True)
        if needs:
            for name, source in REAL.items():
                shutil.copy(args.data / source, work / name)
        # The programs by the names that the page has for them.
        tools = pathlib.Path(scratch) / "bin"
        tools.mkdir()
        (tools / "sccrossrec").symlink_to(args.program.resolve())
        (tools / "python3").write_text(f'#!/bin/sh\nexec "{args.python}" -W ignore "$@"\n')
        (tools / "python3").chmod(0o755)
        (work / "docs").symlink_to(HERE)
        env = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "COLUMNS": "100"}
        told = page(args.page, work, env, args.python, args.check)
        (work / "docs").unlink()
    if told:
        sys.exit("\n".join(told))


if __name__ == "__main__":
    main()
