"""Run Command of Systems Manager, which moto lacks: agent.py on a machine fetches the commands,
and what it printed is the answer, within the limits of the real one.

    Pending --fetched--> InProgress --ended--> Success, Failed, TimedOut, Cancelled
    Pending --MaxErrors--> Terminated          Pending --TimeoutSeconds--> DeliveryTimedOut
"""

import datetime
import json
import math
import threading
import time
import uuid

from moto.core.exceptions import JsonRESTError
from moto.core.responses import ActionResult, EmptyResult
from moto.ssm.responses import SimpleSystemManagerResponse

# An agent that has not asked for so long is lost. The real one is given minutes.
SILENCE = 3
# How long a request of an agent is held.
HELD = 1
LISTED, OUT, ERR = 2500, 24000, 8000
ENDS = ("Success", "Failed", "TimedOut", "Cancelled")


def now():
    return datetime.datetime.now(datetime.timezone.utc)


class Invocation:
    """A command on one instance."""

    def __init__(self, command, instance):
        self.command, self.instance = command, instance
        self.status = self.details = "Pending"
        self.code, self.out, self.err = -1, "", ""
        self.begun = self.ended = None

    def go(self, status, details=None):
        self.status, self.details = status, details or status

    def expire(self):
        """Notes that nobody has fetched it in time."""
        if self.status == "Pending" and time.monotonic() > self.command.at + self.command.timeout:
            self.go("TimedOut", "DeliveryTimedOut")

    def output(self):
        return self.out + (f"\n----------ERROR-------\n{self.err}" if self.err else "")

    def listed(self, details):
        plugin = {
            "Name": "aws:runShellScript", "Status": self.status, "StatusDetails": self.details,
            "ResponseCode": self.code, "Output": self.output()[:LISTED],
        }
        times = {"ResponseStartDateTime": self.begun, "ResponseFinishDateTime": self.ended}
        plugin |= {name: at for name, at in times.items() if at}
        return {
            "CommandId": self.command.id, "InstanceId": self.instance, "Comment": self.command.comment,
            "DocumentName": self.command.document, "RequestedDateTime": self.command.requested,
            "Status": self.status, "StatusDetails": self.details,
            "CommandPlugins": [plugin] if details else [],
        }


class Command:
    def __init__(self, asked, instances):
        self.id, self.at, self.requested = str(uuid.uuid4()), time.monotonic(), now()
        self.comment, self.document = asked.get("Comment", ""), asked["DocumentName"]
        parameters = asked.get("Parameters", {})
        self.script = "\n".join(parameters["commands"])
        self.execution = float(parameters.get("executionTimeout", ["3600"])[0])
        self.timeout = int(asked.get("TimeoutSeconds", 3600))
        self.most = share(asked.get("MaxConcurrency", "50"), len(instances)) or 1
        self.errors = share(asked.get("MaxErrors", "0"), len(instances))
        self.invocations = {instance: Invocation(self, instance) for instance in instances}
        self.asked = asked

    def may_begin(self):
        """Whether the next one may be begun, by its rate control; ends the rest if not at all."""
        all_of_them = self.invocations.values()
        failed = [one for one in all_of_them if one.status == "Failed" or one.details == "ExecutionTimedOut"]
        if len(failed) > self.errors:
            for one in all_of_them:
                if one.status == "Pending":
                    one.go("Cancelled", "Terminated")
        return sum(one.status == "InProgress" for one in all_of_them) < self.most

    def status(self):
        details = [one.details for one in self.invocations.values()]
        if any(one.status not in ENDS for one in self.invocations.values()):
            return "InProgress"
        return next((word for word in ("Failed", "TimedOut", "Cancelled") if word in details), "Success")

    def listed(self):
        status = self.status()
        return {
            "CommandId": self.id, "DocumentName": self.document, "Comment": self.comment,
            "InstanceIds": list(self.invocations), "RequestedDateTime": self.requested,
            "Status": status, "StatusDetails": status, "TargetCount": len(self.invocations),
        }


def share(text, of):
    return math.floor(of * int(text[:-1]) / 100) if text.endswith("%") else int(text)


class Systems:
    """All commands, and when each agent has asked last."""

    def __init__(self, record, fleet):
        self.record, self.fleet = record, fleet
        self.changed = threading.Condition()
        self.commands, self.seen, self.cancels = {}, {}, {}
        self.visible_after = 0.3
        # By instance: a command whose comment has this text is not delivered to it.
        self.held = {}

    def is_managed(self, instance):
        machine = self.fleet.instance(instance)
        return instance in self.seen and (machine is None or machine.state == "running")

    def ping(self, instance):
        """Whether its agent answers; none of an instance that has never had one."""
        if instance not in self.seen:
            return None
        return "Online" if time.monotonic() - self.seen[instance] < SILENCE else "ConnectionLost"

    def agent(self, instance, word, body):
        """Answers agent.py."""
        with self.changed:
            self.seen[instance] = time.monotonic()
            if word == "ended":
                self.end(self.commands[body["command"]].invocations[instance], body)
                self.changed.notify_all()
                return True
            deadline = time.monotonic() + HELD
            while True:
                work = self.work(instance)
                self.seen[instance] = time.monotonic()
                if work or time.monotonic() > deadline:
                    return work
                self.changed.wait(0.1)

    def work(self, instance):
        if self.cancels.get(instance):
            return {"cancel": self.cancels[instance].pop()}
        for command in self.commands.values():
            one = command.invocations.get(instance)
            if one:
                one.expire()
            held = self.held.get(instance)
            if held and held in command.comment:
                continue
            if one and one.status == "Pending" and command.may_begin() and one.status == "Pending":
                one.go("InProgress")
                one.begun = now()
                self.record.add(kind="run", instance=instance, comment=command.comment)
                return {"command": command.id, "script": command.script, "timeout": command.execution}
        return None

    def end(self, one, body):
        one.code, one.out, one.err, one.ended = body["code"], body["out"][:OUT], body["err"][:ERR], now()
        if one.status == "Cancelled" or one.details == "Cancelling":
            one.go("Cancelled")
        elif body["timed_out"]:
            one.go("TimedOut", "ExecutionTimedOut")
        else:
            one.go("Success" if one.code == 0 else "Failed")

    def command(self, command_id):
        if command_id not in self.commands:
            raise JsonRESTError("InvalidCommandId", "")
        return self.commands[command_id]

    def visible(self, command):
        for one in command.invocations.values():
            one.expire()
        return time.monotonic() > command.at + self.visible_after


def page(items, params, most):
    """A page of a list, and the token of the next one."""
    first, length = int(params.get("NextToken") or 0), int(params.get("MaxResults") or most)
    more = {"NextToken": str(first + length)} if first + length < len(items) else {}
    return items[first : first + length], more


def install(record, fleet):
    """Patches moto in this process."""
    systems = Systems(record, fleet)

    def send_command(self):
        asked = json.loads(self.body)
        with systems.changed:
            instances = asked.get("InstanceIds", [])
            if not instances or not all(systems.is_managed(one) for one in instances):
                raise JsonRESTError("InvalidInstanceId", "Instances not in a valid state for account")
            if asked["DocumentName"] != "AWS-RunShellScript":
                raise JsonRESTError("InvalidDocument", f"Document {asked['DocumentName']} does not exist")
            command = Command(asked, instances)
            systems.commands[command.id] = command
            systems.changed.notify_all()
        listed = command.listed() | {"Status": "Pending", "StatusDetails": "Pending"}
        return ActionResult({"Command": listed})

    def list_commands(self):
        params = json.loads(self.body)
        wanted, instance = params.get("CommandId"), params.get("InstanceId")
        found = [
            command.listed() for command in reversed(systems.commands.values())
            if systems.visible(command) and wanted in (None, command.id)
            and (instance is None or instance in command.invocations)
        ]
        found, more = page(found, params, 50)
        return ActionResult({"Commands": found} | more)

    def list_command_invocations(self):
        params = json.loads(self.body)
        wanted, instance = params.get("CommandId"), params.get("InstanceId")
        found = [
            one.listed(params.get("Details"))
            for command in systems.commands.values()
            if systems.visible(command) and wanted in (None, command.id)
            for one in command.invocations.values()
            if instance in (None, one.instance)
        ]
        found, more = page(found, params, 50)
        return ActionResult({"CommandInvocations": found} | more)

    def get_command_invocation(self):
        params = json.loads(self.body)
        command = systems.command(params["CommandId"])
        one = command.invocations.get(params["InstanceId"])
        if one is None or not systems.visible(command):
            raise JsonRESTError("InvocationDoesNotExist", "")
        return ActionResult({
            "CommandId": command.id, "InstanceId": one.instance, "Comment": command.comment,
            "DocumentName": command.document, "PluginName": "aws:runShellScript",
            "ResponseCode": one.code, "Status": one.status, "StatusDetails": one.details,
            "StandardOutputContent": one.out, "StandardErrorContent": one.err,
        })

    def cancel_command(self):
        params = json.loads(self.body)
        command = systems.command(params["CommandId"])
        with systems.changed:
            for instance in params.get("InstanceIds") or list(command.invocations):
                one = command.invocations[instance]
                if one.status == "Pending":
                    one.go("Cancelled")
                elif one.status == "InProgress":
                    one.details = "Cancelling"
                    systems.cancels.setdefault(instance, []).append(command.id)
            systems.changed.notify_all()
        return EmptyResult()

    def describe_instance_information(self):
        params = json.loads(self.body)
        wanted = [filter["Values"] for filter in params.get("Filters", []) if filter["Key"] == "InstanceIds"]
        found = [
            {
                "InstanceId": instance, "AgentVersion": "3.3.0.0", "PlatformType": "Linux",
                "PingStatus": systems.ping(instance), "ResourceType": "EC2Instance",
            }
            for instance in list(systems.seen)
            if systems.is_managed(instance) and (not wanted or instance in wanted[0])
        ]
        found, more = page(found, params, 50)
        return ActionResult({"InstanceInformationList": found} | more)

    for call in (
        send_command, list_commands, list_command_invocations, get_command_invocation,
        cancel_command, describe_instance_information,
    ):
        setattr(SimpleSystemManagerResponse, call.__name__, call)
    return systems
