# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The error messages of the package, each with a test that raises it.

    python docs/_ext/messages.py [arguments of pytest]

runs the tests, notes which of them comes to which message, and writes the table
``docs/messages.csv``.
"""

import ast
import csv
import importlib.util
import os
import sys
import tempfile
from importlib.abc import MetaPathFinder
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

__all__ = ["COLUMNS", "TABLE", "collect", "holds_words", "read_table"]

COLUMNS = ("message", "error", "module", "test")
TABLE = Path(__file__).parents[1] / "messages.csv"
_ENOUGH = 10  # letters of a message that tell it from others
_INTERNAL = {"NotImplementedError"}  # no user comes there
_NOTES = "CCDCR_MESSAGES"  # folder where processes note what is raised


def collect(package):
    """
    Return the messages of a package.

    Parameters
    ----------
    package : `~pathlib.Path`
        Its folder.

    Returns
    -------
    messages : dict
        ``(message, error)`` by module and line of what raises it.
    """
    found = {}
    for path in sorted(package.rglob("*.py")):
        module = ".".join(path.relative_to(package.parent).with_suffix("").parts)
        module = module.removesuffix(".__init__")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for function in ast.walk(tree):
            if isinstance(function, (ast.FunctionDef, ast.Lambda)):
                for line, what in _raised(function):
                    found[module, line] = what
    return found


def _raised(function):
    """Yield line, message and error of what a function raises."""
    for node in ast.walk(function):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            call, error = node.exc, ast.unparse(node.exc.func)
            message = _message(call, function)
            if error not in _INTERNAL and words(message):
                yield node.lineno, (message, error)
        elif isinstance(node, ast.Call) and _is_fail(node):
            found, expected = (_text(arg, function) for arg in node.args[1:])
            yield node.lineno, (f"{found}, expected {expected}", "CRMasksFileError")


def _message(call, function):
    """Return the longest argument, which is the message of most errors."""
    return max((_text(arg, function) for arg in call.args), key=len, default="")


def _is_fail(call):
    """Return whether a call refuses an extension of a file of masks."""
    return (
        isinstance(call.func, ast.Attribute)
        and call.func.attr == "fail"
        and len(call.args) == 3
    )


def _text(node, function):
    """Return a message with names in braces where values are put in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_part, node.values))
    if isinstance(node, ast.Name) and (value := _assigned(node, function)):
        return _text(value, function)
    return "{" + ast.unparse(node) + "}"


def _part(node):
    if isinstance(node, ast.Constant):
        return node.value
    return "{" + ast.unparse(node.value) + "}"


def _assigned(name, function):
    """Return the value that a name was given last before it is used."""
    values = [
        node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        and node.lineno < name.lineno
        and any(isinstance(t, ast.Name) and t.id == name.id for t in node.targets)
    ]
    return max(values, key=lambda value: value.lineno, default=None)


def words(message):
    """Return the texts of a message between the values that are put in."""
    parts, depth = [""], 0
    for character in message:
        depth += (character == "{") - (character == "}")
        if depth or character == "}":
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def read_table():
    """Return the rows of the table."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row | {"message": row["message"].replace(r"\*", "*")} for row in rows]


class _Finder(MetaPathFinder):
    """Imports modules of the package so that each raise is noted before."""

    def find_spec(self, fullname, path, target=None):  # noqa: ARG002
        """Find a module of the package."""
        if fullname.partition(".")[0] != "ccdcr":
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            sys.meta_path.insert(0, self)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(fullname, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def get_code(self, fullname):
        """Compile the module with notes."""
        path = self.get_filename(fullname)
        tree = _Noting().visit(ast.parse(self.get_data(path)))
        return compile(ast.fix_missing_locations(tree), path, "exec")


class _Noting(ast.NodeTransformer):
    def visit_Raise(self, node):
        """Note before raising."""
        return [_note_call(node), node]

    def visit_Expr(self, node):
        """Note before refusing an extension."""
        if isinstance(node.value, ast.Call) and _is_fail(node.value):
            return [_note_call(node), node]
        return node


def _note_call(node):
    code = f"__import__('sys').modules['messages'].note(__name__, {node.lineno})"
    (call,) = ast.parse(code).body
    return ast.copy_location(call, node)


def note(module, line):
    """Note that a test has come to this line."""
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
    if test:
        path = Path(os.environ[_NOTES]) / str(os.getpid())
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{module}\t{line}\t{test}\n")


def _noted(folder):
    """Return the tests by module and line."""
    tests = {}
    for path in folder.iterdir():
        for text in path.read_text(encoding="utf-8").splitlines():
            module, line, test = text.split("\t", 2)
            tests.setdefault((module, int(line)), set()).add(test.partition("[")[0])
    return tests


def holds_words(test, message, root):
    """Return whether a test, or constants of its file, hold words of a message."""
    path, *names = test.split("::")
    if not path:
        return False
    tree = ast.parse((root / path).read_text(encoding="utf-8"))
    nodes = [tree]
    for name in names:
        found = [n for n in nodes[-1].body if getattr(n, "name", "") == name]
        if not found:
            return False
        nodes += found[-1:]
    wider = [
        node
        for parent in nodes[:-1]
        for node in parent.body
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef))
    ]
    decorators = [d for node in nodes[1:-1] for d in node.decorator_list]
    return any(
        _fits(constant.value, message)
        for node in (nodes[-1], *wider, *decorators)
        for constant in ast.walk(node)
        if isinstance(constant, ast.Constant) and isinstance(constant.value, str)
    )


def _fits(text, message):
    """Return whether a text quotes enough of a message to tell it from others."""
    parts = words(message)
    least = min(_ENOUGH, max(map(len, parts), default=0))
    text = text.replace("\\", "")
    return any(
        part[i : i + least] in text
        for part in parts
        for i in range(len(part) - least + 1)
    )


def _write(messages, tests, root):
    """Write the table; return messages without a test."""
    rows, missing = {}, []
    before = {row["message"]: {row["test"]} for row in read_table()}
    for site, (message, error) in messages.items():
        # Not all of the tests need be run.
        candidates = sorted(tests.get(site, set()) | before.get(message, set()))
        quoting = [t for t in candidates if t and holds_words(t, message, root)]
        if not quoting:
            missing.append((*site, message, candidates[:2]))
        row = rows.setdefault((message, error), [set(), []])
        row[0].add(site[0])
        row[1] += quoting
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for (message, error), (modules, quoting) in sorted(rows.items()):
            listed = ", ".join(sorted(modules))
            text = message.replace("*", r"\*")  # the table is reST
            table.writerow([text, error, listed, min(quoting, default="")])
    return missing


def main():
    """Run the tests and write the table."""
    root = Path(__file__).parents[2]
    messages = collect(root / "ccdcr")
    with tempfile.TemporaryDirectory() as folder:
        os.environ[_NOTES] = folder
        pytest.main(["-p", "messages", "-q", *(sys.argv[1:] or ["tests"])])
        missing = _write(messages, _noted(Path(folder)), root)
    for module, line, message, candidates in missing:
        sys.stderr.write(f"{module}:{line}: {message!r} {candidates}\n")
    return 1 if missing else 0


if _NOTES in os.environ:
    sys.modules["messages"] = sys.modules[__name__]
    sys.meta_path.insert(0, _Finder())

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    sys.exit(main())
