"""The options of classes, read from their sources: nothing is imported, so that help is quick.

A class's options are the parameters of its `__init__`, each with its sentence under `Args:`; a
parameter that is a dataclass has a field each, with the sentence that stands under the field.
"""

import ast
import importlib.util
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import docstring_parser

_HERE = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Option:
    """One value that can be set."""

    name: str
    """Dotted, below the class, e.g. `loss.kl_coef`."""
    kind: str
    """Its type as people write it: `float`, `grpo | rloo`, `str | None`."""
    default: str | None
    """As written in the source; None where a value must be given."""
    text: str
    """The sentence about it."""


@dataclass(frozen=True)
class OptionGroup:
    """One parameter of a class with all that lies below it."""

    name: str
    """Of the parameter, e.g. `loss`."""
    text: str
    """What its class is told about it."""
    options: tuple[Option, ...]
    """One, of the same name, where the parameter is a plain value."""
    is_nested: bool
    """Whether the options are a dataclass's fields."""


@dataclass(frozen=True)
class _Class:
    """A class and the module whose names its source uses."""

    module: str
    node: ast.ClassDef


def option_groups(class_path: str) -> list[OptionGroup]:
    """The parameters of a class, e.g. of `callbacks.ExportStudent`; none for an unknown one."""
    found = _find(*class_path.rpartition(".")[::2])
    return [_group(*entry) for entry in _parameters(found)] if found else []


def option_names(class_path: str) -> list[str]:
    """All names that can be set below a class."""
    return [option.name for group in option_groups(class_path) for option in group.options]


def summary(class_path: str) -> str:
    """The first sentence about a class."""
    found = _find(*class_path.rpartition(".")[::2])
    return (ast.get_docstring(found.node) or "").split("\n\n")[0] if found else ""


def public_names(module: str) -> list[str]:
    """What a module defines or imports."""
    parsed = _module(module)
    return [*parsed.definitions, *parsed.imports] if parsed else []


def subclasses(module: str, base: str) -> list[str]:
    """Paths of the concrete classes that a module names and that descend from a class of a name."""
    paths = []
    for name in public_names(module):
        found = _find(module, name)
        if found and base in {c.node.name for c in _lineage(found)} and name != base:
            paths.append(f"{module}.{name}")
    return sorted(paths)


@dataclass(frozen=True)
class _Module:
    definitions: Mapping[str, ast.stmt]
    imports: Mapping[str, tuple[str, str]]


@cache
def _module(name: str) -> _Module | None:
    path = _source(name)
    if path is None:
        return None
    definitions: dict[str, ast.stmt] = {}
    imports: dict[str, tuple[str, str]] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            definitions[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            definitions[node.targets[0].id] = node
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                imports[alias.asname or alias.name] = (node.module, alias.name)
    return _Module(definitions, imports)


def _source(module: str) -> Path | None:
    """The file of a module; ours lie beside this one, whatever else has their name."""
    top, *rest = module.split(".")
    if (_HERE / top).is_dir():
        root = _HERE / top
    else:
        spec = importlib.util.find_spec(top) if top else None
        if spec is None or spec.origin is None:
            return None
        root = Path(spec.origin).parent if spec.submodule_search_locations else Path(spec.origin)
    path = root.joinpath(*rest)
    candidates = (path / "__init__.py", path.with_suffix(".py"))
    return next((file for file in candidates if file.is_file()), None)


def _find(module: str, name: str) -> _Class | None:
    """A class where it is defined, through any number of imports."""
    node, home = _definition(module, name)
    return _Class(home, node) if isinstance(node, ast.ClassDef) else None


def _definition(module: str, name: str) -> tuple[ast.stmt | None, str]:
    parsed = _module(module)
    if parsed is None:
        return None, module
    if name not in parsed.definitions and name in parsed.imports:
        return _definition(*parsed.imports[name])
    return parsed.definitions.get(name), module


def _lineage(cls: _Class) -> Iterator[_Class]:
    """A class and those that it descends from, nearest first."""
    yield cls
    for base in cls.node.bases:
        parent = _find(cls.module, ast.unparse(base))
        if parent:
            yield from _lineage(parent)


_Parameter = tuple[_Class, str, ast.expr | None, ast.expr | None, str]
"""The class that says so, name, annotation, default and sentence."""


def _parameters(cls: _Class) -> list[_Parameter]:
    """What a class is made with."""
    if _is_dataclass(cls):
        # A field that is said again stays in its place.
        found = {p[1]: p for ancestor in reversed(list(_lineage(cls))) for p in _fields(ancestor)}
        return list(found.values())
    made = next((c for c in _lineage(cls) if _init(c)), None)
    if made is None:
        return []
    init = _init(made)
    assert init is not None
    texts = _texts(cls)
    arguments = init.args.posonlyargs + init.args.args + init.args.kwonlyargs
    defaults = [None] * (len(init.args.args) - len(init.args.defaults)) + init.args.defaults
    return [
        (made, a.arg, a.annotation, default, texts.get(a.arg, ""))
        for a, default in zip(arguments, [*defaults, *init.args.kw_defaults], strict=True)
        if a.arg != "self"
    ]


def _init(cls: _Class) -> ast.FunctionDef | None:
    methods = (node for node in cls.node.body if isinstance(node, ast.FunctionDef))
    return next((node for node in methods if node.name == "__init__"), None)


def _texts(cls: _Class) -> dict[str, str]:
    """Sentences about parameters, from the nearest class that has one."""
    texts: dict[str, str] = {}
    for ancestor in _lineage(cls):
        init = _init(ancestor)
        for node in (init, ancestor.node):
            told = docstring_parser.parse((ast.get_docstring(node) if node else "") or "")
            for parameter in told.params:
                texts.setdefault(parameter.arg_name, _joined(parameter.description or ""))
    return texts


def _is_dataclass(cls: _Class) -> bool:
    return any("dataclass" in ast.unparse(decorator) for decorator in cls.node.decorator_list)


def _fields(cls: _Class) -> Iterator[_Parameter]:
    """A dataclass's fields; the sentence is the string that stands under one."""
    for node, below in zip(cls.node.body, [*cls.node.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            told = below.value if isinstance(below, ast.Expr) else None
            text = told.value if isinstance(told, ast.Constant) else ""
            yield cls, node.target.id, node.annotation, node.value, _joined(str(text))


def _group(
    cls: _Class, name: str, annotation: ast.expr | None, default: ast.expr | None, text: str
) -> OptionGroup:
    nested = next((c for c in _classes(cls.module, annotation) if _is_dataclass(c)), None)
    if nested is None:
        kind = _kind(cls.module, annotation)
        return OptionGroup(
            name, text, (Option(name, kind, _default(cls.module, default), text),), False
        )
    below = [_group(*entry) for entry in _parameters(nested)]
    changed = _given(cls.module, default, [group.name for group in below])
    options = tuple(
        replace(
            option,
            name=f"{name}.{option.name}",
            default=changed.get(option.name, option.default),
        )
        for group in below
        for option in group.options
    )
    return OptionGroup(name, text, options, True)


def _classes(module: str, annotation: ast.expr | None) -> Iterator[_Class]:
    """The classes that an annotation names, itself or beside None."""
    if isinstance(annotation, ast.BinOp):
        yield from _classes(module, annotation.left)
        yield from _classes(module, annotation.right)
    elif isinstance(annotation, ast.Name) and (found := _find(module, annotation.id)):
        yield found


def _kind(module: str, annotation: ast.expr | None) -> str:
    """A type in words; a literal's by its values, under whatever name they stand."""
    match annotation:
        case None:
            return ""
        case ast.BinOp():
            sides = (annotation.left, annotation.right)
            return " | ".join(_kind(module, side) for side in sides)
        case ast.Subscript(value=ast.Name(id="Literal")):
            values = annotation.slice
            entries = values.elts if isinstance(values, ast.Tuple) else [values]
            return " | ".join(ast.unparse(entry).strip("'") for entry in entries)
        case ast.Subscript(value=ast.Name(id="Optional")):
            return f"{_kind(module, annotation.slice)} | None"
        case ast.Subscript(value=ast.Name(id="Union"), slice=ast.Tuple(elts=entries)):
            return " | ".join(_kind(module, entry) for entry in entries)
        case ast.Name():
            node, home = _definition(module, annotation.id)
            return _kind(home, node.value) if isinstance(node, ast.Assign) else annotation.id
    return ast.unparse(annotation)


def _given(module: str, default: ast.expr | None, names: Sequence[str]) -> dict[str, str | None]:
    """What a dataclass that is a default is made with, by field."""
    if not isinstance(default, ast.Call):
        return {}
    if ast.unparse(default.func) == "field":
        factory = default.keywords[0].value
        return _given(module, factory.body if isinstance(factory, ast.Lambda) else None, names)
    words = {word.arg: word.value for word in default.keywords if word.arg}
    values = dict(zip(names, default.args, strict=False)) | words
    return {name: _default(module, value) for name, value in values.items()}


def _default(module: str, value: ast.expr | None) -> str | None:
    if value is None:
        return None
    if isinstance(value, ast.Name):
        node, home = _definition(module, value.id)
        return _default(home, node.value) if isinstance(node, ast.Assign) else value.id
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return value.value or "''"
    return ast.unparse(value)


def _joined(text: str) -> str:
    return " ".join(inspect.cleandoc(text).split())
