"""Each file as a GraphQL schema: it must parse, be valid, and answer the introspection query that clients send."""

import sys

from graphql import build_schema, get_introspection_query, graphql_sync, validate_schema

for file in sys.argv[1:]:
    with open(file, encoding="utf-8") as text:
        schema = build_schema(text.read())
    errors = validate_schema(schema) or graphql_sync(schema, get_introspection_query()).errors
    if errors:
        sys.exit(f"{file}: {errors}")
    if "_tools" not in schema.query_type.fields:
        sys.exit(f"{file}: no `_tools`")
