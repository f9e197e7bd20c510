"""Every way in which a module is made wrong.

cosmic-ray brings the usual ones: another operator, another comparison, another number, no loop.
Ours add what matters here and what it does not know: a statement that is missing (a secret that is
not wiped), other bytes (a label), and wrong rows: one dropped, led elsewhere, without an effect,
its effects in another order, its guard turned round or gone, an ignored event no longer ignored.

Rules: a mutant is a whole source text; two with the same meaning are one; what is never evaluated
(annotations, docstrings, `because=`) is not mutated, nor are the words of a `ValueError`, which
only a developer reads.
Left to others: running them (`runner`).
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Iterator
from difflib import ndiff
from itertools import count, pairwise
from pathlib import Path
from typing import Final, TypeAlias

from attrs import frozen
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.provider import OperatorProvider

_SKIPPED: Final = {
    "VariableInserter",  # these two need names to be given, and are for other purposes
    "VariableReplacer",
}
_OTHER_OPERATORS: Final = {
    "Add": {"Sub", "Mul"},
    "Sub": {"Add", "Mul"},
    "Mul": {"Add", "FloorDiv"},
    "Div": {"Mul", "FloorDiv"},
    "FloorDiv": {"Mul", "Mod"},
    "Mod": {"FloorDiv", "Mul"},
    "Pow": {"Mul", "Add"},
    "RShift": {"LShift", "BitAnd"},
    "LShift": {"RShift", "BitOr"},
    "BitOr": {"BitAnd", "BitXor"},
    "BitAnd": {"BitOr", "BitXor"},
    "BitXor": {"BitOr", "BitAnd"},
}
"""Two of cosmic-ray's eleven: most of the others fail for their types wherever they are used."""

_OF_IDENTITY: Final = {"Is", "IsNot"}
"""Not put in place of a comparison by value, nor the other way round: they agree for phases and
small numbers, and chance decides for others."""

_NO_MISTAKE: Final = ("@unique", "@frozen")
"""Decorators that only forbid: without them a right program runs the same."""


@frozen
class Mutant:
    """`key` names it as long as the lines that differ stay what they are."""

    module: str
    operator: str
    key: str
    source: str


@frozen
class Edit:
    """Replace what a node spans."""

    operator: str
    start: int
    end: int
    text: str


def mutants_of(path: Path, module: str) -> Iterator[Mutant]:
    """Every mutant of one file."""
    source = path.read_text()
    tree = ast.parse(source)
    seen, keys = {meaning_of(source)}, Counter[str]()
    for operator, text in (*_of_cosmic_ray(source), *_ours(source, tree)):
        try:
            meaning = meaning_of(text)
        except SyntaxError:
            continue
        if meaning in seen:
            continue
        seen.add(meaning)
        key = _key(module, operator, source, text, tree)
        keys[key] += 1
        again = f" #{keys[key]}" if keys[key] > 1 else ""
        yield Mutant(module, operator, key + again, text)


def _of_cosmic_ray(source: str) -> Iterator[tuple[str, str]]:
    provider = OperatorProvider()
    for name in provider:
        kind, _, operators = name.partition("_")
        was, _, now = operators.partition("_")
        if name in _SKIPPED:
            continue
        if (now in _OF_IDENTITY) != (was in _OF_IDENTITY):
            continue
        if kind == "ReplaceBinaryOperator" and now not in _OTHER_OPERATORS[was]:
            continue
        for occurrence in count():
            try:
                text = mutate_code(source, provider[name](), occurrence)
            except AttributeError:  # `except (A, B):` is too much for its ExceptionReplacer
                continue
            if text is None:
                break
            removed = name == "RemoveDecorator" and _removed(source, text)
            if removed not in _NO_MISTAKE:
                yield name, text


def _removed(source: str, text: str) -> str:
    """The first line of `source` that `text` lacks."""
    lines = ndiff(source.splitlines(), text.splitlines())
    return next(line[2:].strip() for line in lines if line[0] == "-" and line[2:].strip())


def _ours(source: str, tree: ast.Module) -> Iterator[tuple[str, str]]:
    encoded = source.encode()
    starts = [0]
    for line in encoded.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def span(node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return (
            starts[node.lineno - 1] + node.col_offset,
            starts[node.end_lineno - 1] + node.end_col_offset,
        )

    finder = _Finder(encoded, span)
    finder.visit(tree)
    for edit in finder.edits:
        made = encoded[: edit.start] + edit.text.encode() + encoded[edit.end :]
        yield edit.operator, made.decode()


Span: TypeAlias = Callable[[ast.expr | ast.stmt], tuple[int, int]]


class _Finder(ast.NodeVisitor):
    """Finds what our own operators change."""

    def __init__(self, source: bytes, span: Span) -> None:
        self._source = source
        self._span = span
        self._row_name = ""
        self._phases: dict[str, list[str]] = {}
        self.edits: list[Edit] = []

    def _text(self, node: ast.expr | ast.stmt) -> str:
        start, end = self._span(node)
        return self._source[start:end].decode()

    def _replace(self, operator: str, node: ast.expr | ast.stmt, text: str) -> None:
        start, end = self._span(node)
        self.edits.append(Edit(operator, start, end, text))

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        if any("Enum" in self._text(base) for base in node.bases):
            self._phases[node.name] = [
                target.id
                for item in node.body
                if isinstance(item, ast.Assign)
                for target in item.targets
                if isinstance(target, ast.Name)
            ]
            return  # its values are words for people, or numbers that cosmic-ray changes
        for item in node.body:
            if isinstance(item, ast.Assign) and "Origin." in self._text(item.value):
                for other in ("Origin.LOCAL", "Origin.PEER", "Origin.TIMER"):
                    self._replace("Origin", item.value, other)
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if node.name == "__repr__":
            return
        for inner in ast.walk(node):
            if isinstance(inner, _STATEMENTS) and not _is_docstring(inner):
                self._replace("DeleteStatement", inner, "pass")
            elif isinstance(inner, ast.Return) and inner.value is not None:
                self._replace("ReturnNone", inner, "return None")
            elif isinstance(inner, ast.keyword) and inner.arg is not None:
                self._drop_keyword(inner)
        self.generic_visit(node)

    def _drop_keyword(self, keyword: ast.keyword) -> None:
        start, end = self._span(keyword.value)
        named = self._source.rfind(f"{keyword.arg}=".encode(), 0, start)
        after = end
        while self._source[after : after + 1] in b" \n" and after < len(self._source):
            after += 1
        if self._source[after : after + 1] == b",":
            after += 1
        else:
            after = end
        self.edits.append(Edit("DropArgument", named, after, ""))

    def visit_Raise(self, node: ast.Raise) -> None:
        if isinstance(node.exc, ast.Call) and self._text(node.exc.func) == "ValueError":
            return
        self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg != "because":
            self.generic_visit(node)

    def visit_arguments(self, node: ast.arguments) -> None:
        for default in (*node.defaults, *filter(None, node.kw_defaults)):
            self.visit(default)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is None:
            return
        if "__slots__" in self._text(node.target):
            return
        self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        names = [self._text(target) for target in node.targets]
        for name in names:
            if isinstance(node.value, ast.Name) and node.value.id in self._phases:
                self._phases[name] = self._phases[node.value.id]  # `P = Phase`, for short rows
        if not any("__slots__" in name for name in names):
            self.visit(node.value)

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):
            self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bytes):
            self._replace("Bytes", node, repr(node.value + b"X"))
            if node.value:
                self._replace("Bytes", node, 'b""')
        elif isinstance(node.value, str) and node.value:
            self._replace("Text", node, '"XX"')

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        self._replace("Text", node, '"XX"')

    # --- tables ---------------------------------------------------------------------------------

    def visit_Call(self, node: ast.Call) -> None:
        name = self._text(node.func)
        if name == "Row":
            self._row(node)
        elif name == "Table":
            self._table(node)
        else:
            self.generic_visit(node)

    def _row(self, node: ast.Call) -> None:
        source, event, dest = node.args
        self._row_name = f" {self._text(source)} x {self._text(event)}"
        self._drop_element("DropRow" + self._row_name, node)
        phases = self._text(dest).rpartition(".")[0]
        for other in self._phases[phases]:
            if f"{phases}.{other}" != self._text(dest):
                self._replace("RowLeadsElsewhere" + self._row_name, dest, f"{phases}.{other}")
        for keyword in node.keywords:
            if keyword.arg == "do":
                self._effects(keyword.value)
            elif keyword.arg in ("when", "unless"):
                self._guards(keyword)

    def _effects(self, node: ast.expr) -> None:
        assert isinstance(node, ast.Tuple)
        names = [self._text(element) for element in node.elts]
        for at in range(len(names)):
            self._replace("DropEffect" + self._row_name, node, _tuple(names[:at] + names[at + 1 :]))
        for at, _ in enumerate(pairwise(names)):
            turned = [*names[:at], names[at + 1], names[at], *names[at + 2 :]]
            self._replace("SwapEffects" + self._row_name, node, _tuple(turned))

    def _guards(self, keyword: ast.keyword) -> None:
        start, _ = self._span(keyword.value)
        _, end = self._span(keyword.value)
        other = "unless" if keyword.arg == "when" else "when"
        named = self._source.rfind(f"{keyword.arg}=".encode(), 0, start)
        turned = f"{other}={self._text(keyword.value)}"
        self.edits.append(Edit("TurnGuard" + self._row_name, named, end, turned))
        self.edits.append(Edit("DropGuard" + self._row_name, named, end, f"{keyword.arg}=()"))

    def _table(self, node: ast.Call) -> None:
        for keyword in node.keywords:
            if keyword.arg == "ignores" and isinstance(keyword.value, ast.Dict):
                for key, value in zip(keyword.value.keys, keyword.value.values, strict=True):
                    assert key is not None
                    start, _ = self._span(key)
                    _, end = self._span(value)
                    self.edits.append(Edit("DropIgnore", start, end + 1, ""))
            elif keyword.arg == "ignores" and isinstance(keyword.value, ast.DictComp):
                for generator in keyword.value.generators:
                    if isinstance(generator.iter, ast.Tuple):
                        names = [self._text(element) for element in generator.iter.elts]
                        for at in range(len(names)):
                            rest = _tuple(names[:at] + names[at + 1 :])
                            self._replace("DropIgnore", generator.iter, rest)
            elif keyword.arg == "rows":
                self.visit(keyword.value)
            elif keyword.arg == "final" and "{" in self._text(keyword.value):
                assert isinstance(keyword.value, ast.Call)
                [members] = keyword.value.args
                assert isinstance(members, ast.Set)
                for member in members.elts:
                    kept = [self._text(each) for each in members.elts if each is not member]
                    self._replace("DropFinal", members, _tuple(kept))

    def _drop_element(self, operator: str, node: ast.expr) -> None:
        start, end = self._span(node)
        self.edits.append(Edit(operator, start, end + 1, ""))  # with its comma


_STATEMENTS: Final = (ast.Expr, ast.Assign, ast.AugAssign, ast.Raise, ast.Delete)


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _tuple(names: list[str]) -> str:
    return "(" + "".join(f"{name}, " for name in names).strip() + ")"


def meaning_of(source: str) -> str:
    """The same for two texts that run alike."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_docstring(body[0]):
            body[0] = ast.Pass()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            node.returns = None
            node.decorator_list = [  # what only remembers
                each for each in node.decorator_list if "lru_cache" not in ast.unparse(each)
            ]
        elif isinstance(node, ast.Call):  # what only asserts
            node.keywords = [each for each in node.keywords if each.arg != "strict"]
        elif isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.AnnAssign):
            if ast.unparse(node.annotation) == "TypeAlias":
                node.value = None
            node.annotation = ast.Constant(None)
    return ast.dump(tree)


def _key(module: str, operator: str, source: str, text: str, tree: ast.Module) -> str:
    was: list[str] = []
    now: list[str] = []
    line, first = 0, 0
    for difference in ndiff(source.splitlines(), text.splitlines()):
        kind, content = difference[0], difference[2:].strip()
        line += kind in " -"
        if kind in "+-":
            first = first or max(line, 1)
            (was if kind == "-" else now).append(content)
    place = f"{module.removeprefix('clawchat.core.')}.{_place(tree, first)}"
    if "TABLE" in place or " x " in operator:
        return f"{place} {operator}: {' '.join(now)}"
    return f"{place}: {' '.join(was)} => {' '.join(now)}"


def _place(tree: ast.AST, line: int) -> str:
    """The name of what encloses a line."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.stmt) or node.end_lineno is None:
            continue
        begins = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        if not begins <= line <= node.end_lineno:
            continue
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            inner = _place(node, line) if isinstance(node, ast.ClassDef) else ""
            return f"{node.name}.{inner}" if inner else node.name
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            return ast.unparse(target)
    return ""
