#!/usr/bin/env python3
"""Derives the table of Kubernetes kinds that `idp package validate` checks objects against.

To renew it for another release:

    go mod download -json k8s.io/kubernetes@v1.36.2        # prints "Dir" and "Version"
    python3 host/idp-package/shapes/renew.py DIR/api/openapi-spec/swagger.json v1.36.2

Only facts are kept: names of kinds and fields, their types, which are required, which kinds have a namespace.
The same input always gives the same bytes. `src/validate/shapes/bundled.rs` reads it.

A type is written as: s string, i integer, n number, b boolean, q integer or string, Q quantity, o any object,
x anything, #N the N-th of `types`, and before one of these [ for a list of it and { for a map of it.
"""

import gzip
import json
import pathlib
import sys

ATOMS = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "q",
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "Q",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Time": "s",
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime": "s",
    "io.k8s.apimachinery.pkg.runtime.RawExtension": "o",
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1": "o",
}
SIMPLE = {"string": "s", "integer": "i", "number": "n", "boolean": "b"}


def main(swagger, release):
    spec = json.loads(pathlib.Path(swagger).read_text())
    definitions = spec["definitions"]

    # What can be created, and whether in a namespace.
    scopes = {}
    for path, item in sorted(spec["paths"].items()):
        gvk = item.get("post", {}).get("x-kubernetes-group-version-kind")
        if gvk and "/{name}/" not in path:
            key = (gvk["group"], gvk["version"], gvk["kind"])
            scopes[key] = scopes.get(key, False) or "/namespaces/{namespace}/" in path

    types, index = [], {}

    def reference(name):
        if name in ATOMS:
            return ATOMS[name]
        definition = definitions[name]
        if "properties" not in definition:
            return {"string": "s", "object": "o"}.get(definition.get("type"), "x")
        if name not in index:
            index[name] = len(types)
            types.append(None)
            types[index[name]] = {
                "n": name.rsplit(".", 1)[-1],
                "f": {
                    # What the cluster writes is nothing to check, and takes half of the room.
                    field: "x" if field == "status" and is_kind(definition) else kind(value)
                    for field, value in sorted(definition["properties"].items())
                },
                "r": sorted(definition.get("required", [])),
            }
        return f"#{index[name]}"

    def is_kind(definition):
        return "x-kubernetes-group-version-kind" in definition

    def kind(value):
        if "$ref" in value:
            return reference(value["$ref"].rsplit("/", 1)[-1])
        if value.get("type") == "array":
            return "[" + kind(value["items"])
        if value.get("type") == "object":
            more = value.get("additionalProperties")
            return "{" + kind(more) if isinstance(more, dict) else "o"
        return SIMPLE.get(value.get("type"), "x")

    kinds = []
    for name, definition in sorted(definitions.items()):
        for gvk in definition.get("x-kubernetes-group-version-kind", []):
            key = (gvk["group"], gvk["version"], gvk["kind"])
            if key in scopes and "properties" in definition:
                kinds.append([*key, scopes[key], reference(name)])
    table = {"release": release, "kinds": sorted(kinds), "types": types}
    text = json.dumps(table, separators=(",", ":"), sort_keys=True).encode()
    out = pathlib.Path(__file__).with_name("kubernetes.json.gz")
    out.write_bytes(gzip.compress(text, 9, mtime=0))
    print(f"{len(kinds)} kinds, {len(types)} types, {len(text)} bytes, {out.stat().st_size} compressed")


if __name__ == "__main__":
    main(*sys.argv[1:])
