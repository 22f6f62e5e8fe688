"""Holds every line of a file against a JSON schema: `json_schema.py SCHEMA FILE`.

Prints how many lines there are; ends with 1 at the first one that does not fit.
"""

import json
import sys

import fastjsonschema

schema, lines = sys.argv[1:]
with open(schema, encoding="utf-8") as file:
    check = fastjsonschema.compile(json.load(file))
count = 0
with open(lines, encoding="utf-8") as file:
    for line in file:
        count += 1
        try:
            check(json.loads(line))
        except Exception as error:
            sys.exit(f"line {count}: {error}\n{line}")
print(count)
