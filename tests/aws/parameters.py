"""What botocore's models have against the parameters of a call."""

import re

import botocore.session
from botocore.validate import ParamValidator

SESSION = botocore.session.get_session()
# The names of the models by those in a signature; S3 is not looked into.
TYPED = {"ssm": "ssm"}
QUERY = {"autoscaling": "autoscaling", "elasticloadbalancing": "elbv2", "monitoring": "cloudwatch"}


def fault(call):
    """The mistake in a call; none if there is none, or no model is asked."""
    if call.service in TYPED:
        model = SESSION.get_service_model(TYPED[call.service])
        if call.action not in model.operation_names:
            return f"there is no action {call.action}"
        shape = model.operation_model(call.action).input_shape
        report = ParamValidator().validate(call.params, shape)
        return report.generate_report() or next(limits(shape, call.params, call.action), None)
    if call.service in QUERY:
        return of_query(call, SESSION.get_service_model(QUERY[call.service]))
    return None


def limits(shape, value, name):
    """The limits that botocore leaves to the service: lengths, patterns and words."""
    size = value if shape.type_name in ("integer", "long") else len(value) if hasattr(value, "__len__") else None
    most = shape.metadata.get("max")
    if most is not None and size is not None and size > most:
        yield f"{name} is {size}, and at most {most} is allowed"
    words = shape.metadata.get("enum")
    if words and value not in words:
        yield f"{name} is none of {words}"
    pattern = shape.metadata.get("pattern")
    if pattern and isinstance(value, str) and not re.search(pattern, value):
        yield f"{name} does not match {pattern}"
    if shape.type_name == "structure":
        for key, below in value.items():
            yield from limits(shape.members[key], below, f"{name}.{key}")
    elif shape.type_name == "list":
        for below in value:
            yield from limits(shape.member, below, name)
    elif shape.type_name == "map":
        for key, below in value.items():
            yield from limits(shape.value, below, f"{name}.{key}")


def of_query(call, model):
    """Of the names of the parameters alone: a query has no types."""
    if call.version != model.api_version:
        return f"the version is {model.api_version}, not {call.version}"
    if call.action not in model.operation_names:
        return f"there is no action {call.action}"
    shape = model.operation_model(call.action).input_shape
    given = {name.split(".")[0] for name in call.params}
    unknown, missing = given - set(shape.members), set(shape.required_members) - given
    return f"unknown {sorted(unknown)}, missing {sorted(missing)}" if unknown or missing else None
