"""Runs Rego scripts through an engine that is not ours: reads cases from the standard input, one JSON object a line
(`script`, `input`), and writes for each what `allow` and `deny` come to, or an error.
"""

import json
import sys

import regopy


def value(engine, name):
    """What a rule comes to; nothing when it is undefined."""
    answer = str(engine.query(f"x := data.pomerium.policy.{name}"))
    if answer == "undefined":
        return None
    answer = json.loads(answer)
    return answer["bindings"]["x"]


def judge(case):
    engine = regopy.Interpreter()
    engine.add_module("script", case["script"])
    engine.set_input(case["input"])
    return {name: value(engine, name) for name in ("allow", "deny")}


for line in sys.stdin:
    try:
        result = judge(json.loads(line))
    except Exception as error:  # whatever the engine says counts as its answer
        result = {"error": str(error)}
    print(json.dumps(result), flush=True)
