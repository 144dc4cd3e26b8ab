"""Alarms of CloudWatch, whose states tests set."""

from moto.cloudwatch.models import cloudwatch_backends

from hooks import ACCOUNT

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
