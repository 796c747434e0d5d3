"""The reference of the API, from its OpenAPI document."""

from typing import Any

from tools.docs.markdown import generated, table

_INTRODUCTION = """\
Paths are relative to the API's root (`API_ROOT_PATH`, `/archiver/api/v1`). The whole contract, for tools, is the
[OpenAPI document](openapi.json). Every successful POST answers 201. An error is JSON with `code`, `message`, `details`
and `timestamp`; what to do stands in `message`."""


def _reference(schema: dict[str, Any]) -> str:
    return str(schema.get("$ref", "")).rpartition("/")[2]


def _type(schema: dict[str, Any]) -> str:
    if name := _reference(schema):
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    kind, form = schema.get("type", "any"), schema.get("format")
    return f"{kind} ({form})" if form else str(kind)


def _bodies(content: dict[str, Any]) -> str:
    return ", ".join(_type(each.get("schema", {})) for each in content.values()) or "nothing"


def _operation(method: str, path: str, operation: dict[str, Any]) -> list[str]:
    schemes = [name for entry in operation.get("security", []) for name in entry]
    lines = [operation.get("description", "")]
    if schemes:
        lines.append(f"Credentials: {' or '.join(schemes)}.")
    rows = [
        (f"`{each['name']}` ({each['in']})", _type(each.get("schema", {})), each.get("description", ""))
        for each in operation.get("parameters", [])
    ]
    if "requestBody" in operation:
        rows.append(("body", _bodies(operation["requestBody"]["content"]), ""))
    rows += [
        (status, _bodies(answer.get("content", {})), answer.get("description", ""))
        for status, answer in sorted(operation["responses"].items())
    ]
    return [f"## {method.upper()} {path}", *filter(None, lines), table(("", "what", "meaning"), rows)]


def _schema(name: str, schema: dict[str, Any]) -> list[str]:
    required = schema.get("required", [])
    rows = [
        (f"`{field}`", _type(about), "yes" if field in required else "", about.get("description", ""))
        for field, about in schema.get("properties", {}).items()
    ]
    described = [schema["description"]] if "description" in schema else []
    if not rows:
        return [f"### {name}", *described, f"One of: {_type(schema)}."]
    return [f"### {name}", *described, table(("field", "type", "required", "meaning"), rows)]


def page(document: dict[str, Any]) -> str:
    """The page, from an OpenAPI document."""
    parts = [_INTRODUCTION]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts += _operation(method, path, operation)
    parts.append("## Bodies")
    for name, schema in document.get("components", {}).get("schemas", {}).items():
        parts += _schema(name, schema)
    return generated("API", *parts)
