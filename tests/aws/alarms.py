"""DescribeAlarms in CBOR, which the SDK speaks and moto does not; and their states, set by tests."""

import io

import botocore.session
from botocore.parsers import RpcV2CBORParser
from botocore.serialize import RpcV2CBORSerializer
from moto.cloudwatch.models import cloudwatch_backends

from hooks import ACCOUNT

PATH = "/service/GraniteServiceVersion20100801/operation/"
MODEL = botocore.session.get_session().get_service_model("cloudwatch")
ALARM = {
    "namespace": "AWS/ApplicationELB", "metric_name": "HTTPCode_Target_5XX_Count", "period": 60,
    "comparison_operator": "GreaterThanThreshold", "evaluation_periods": 1, "threshold": 5.0,
    "statistic": "Sum", "description": "", "dimensions": [], "alarm_actions": [],
}


def set_state(region, name, state):
    """Sets the state of an alarm, which is made if there is none."""
    watch = cloudwatch_backends[ACCOUNT][region]
    if name not in watch.alarms:
        watch.put_metric_alarm(name=name, **ALARM)
    watch.set_alarm_state(name, f"set to {state}", "{}", state)


def describe(region, params):
    """The answer to DescribeAlarms, in CBOR."""
    wanted = params.get("AlarmNames")
    alarms = [
        {"AlarmName": one.name, "StateValue": one.state_value, "StateReason": one.state_reason}
        for one in cloudwatch_backends[ACCOUNT][region].alarms.values()
        if wanted is None or one.name in wanted
    ]
    shape = MODEL.operation_model("DescribeAlarms").output_shape
    return written({"MetricAlarms": alarms}, shape)


def read(body):
    return RpcV2CBORParser().parse_data_item(io.BufferedReader(io.BytesIO(body)))


def refusal(fault):
    return written({"__type": fault["code"], "message": fault["message"]}, None)


def written(value, shape):
    if shape is None:  # an error: a map of texts
        text = lambda word: bytes([0x78, len(word.encode())]) + word.encode()  # noqa: E731
        pairs = [(name, word[:80]) for name, word in value.items()]
        return bytes([0xA0 + len(pairs)]) + b"".join(text(name) + text(word) for name, word in pairs)
    out = bytearray()
    RpcV2CBORSerializer()._serialize_data_item(out, value, shape)
    return bytes(out)
