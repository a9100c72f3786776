"""Executes a notebook against the server that FIRN_SERVER names; fails if a cell does.

usage: notebook.py NOTEBOOK [--store]       (--store keeps the outputs in the file)
"""

import json
import sys

import nbformat
from nbclient import NotebookClient


def settled(notebook) -> None:
    """Takes out what differs from run to run, so that a stored notebook changes only when it says something else."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    notebook.metadata.pop("language_info", None)
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}


def main() -> None:
    path = sys.argv[1]
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    settled(notebook)
    if "--store" in sys.argv:
        nbformat.write(notebook, path)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    print(json.dumps({"cells": len(cells), "silent": sum(not cell.outputs for cell in cells)}))


main()
