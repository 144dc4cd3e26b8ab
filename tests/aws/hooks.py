"""Auto Scaling's lifecycle of an instance, which moto lacks: an instance of a group with a
launching hook waits until the hook is completed or its time is over.

    Pending:Wait --CONTINUE--> InService          Warmed:Pending:Wait --CONTINUE--> Warmed:Stopped
    Pending:Wait --ABANDON--> Terminated, and the group launches another one
"""

import threading
import time

from moto.autoscaling import models
from moto.autoscaling.exceptions import ValidationError
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import EmptyResult
from moto.ec2.models import ec2_backends

ACCOUNT = "123456789012"
DEFAULT_TIMEOUT = 3600
LAUNCHING = "autoscaling:EC2_INSTANCE_LAUNCHING"


class Fleet:
    """The instances, beside moto's own state: address, pending hooks, the state they are to reach."""

    def __init__(self, record, region):
        self.record, self.region = record, region
        self.lock = threading.RLock()
        self.addresses = {}  # of booted machines: instance id by address
        self.pending = {}  # by instance id: {hook name: time at which it times out}
        self.targets = {}  # by instance id
        self.late = {}  # by instance id: until when "no active action" is answered
        self.lateness = 0

    @property
    def ec2(self):
        return ec2_backends[ACCOUNT][self.region]

    @property
    def groups(self):
        return models.autoscaling_backends[ACCOUNT][self.region].autoscaling_groups.values()

    def instances(self):
        reservations = self.ec2.all_reservations()
        return [instance for reservation in reservations for instance in reservation.instances]

    def instance(self, instance_id):
        return next((one for one in self.instances() if one.id == instance_id), None)

    def member(self, instance_id):
        """The instance's group and moto's state of it."""
        for group in self.groups:
            for state in group.instance_states:
                if state.instance.id == instance_id:
                    return group, state
        return None, None

    def address_of(self, instance_id):
        return next((address for address, other in self.addresses.items() if other == instance_id), None)

    def at(self, address):
        """The instance that a machine is: the first one launched that no machine is yet."""
        with self.lock:
            if address not in self.addresses:
                free = (one for one in self.instances() if one.state == "running")
                free = [one for one in free if one.id not in self.addresses.values()]
                if not free:
                    return None
                self.attach(address, free[0])
            return self.instance(self.addresses[address])

    def attach(self, address, instance):
        with self.lock:
            self.addresses[address] = instance.id
            instance.nics[0].private_ip_address = address
        self.record.add(kind="boot", instance=instance.id, address=address)

    def change(self, state, name):
        state.lifecycle_state = name
        self.record.changed(state.instance.id, self.address_of(state.instance.id), name)

    def launch(self, group, state):
        """Begins the way into the group, or into its warm pool."""
        warm = getattr(group, "warm_pool", None)
        reached = f"Warmed:{warm.pool_state or 'Stopped'}" if warm else "InService"
        self.go(group, state, reached)

    def go(self, group, state, reached):
        instance_id = state.instance.id
        hooks = group.autoscaling_backend.describe_lifecycle_hooks(group.name)
        hooks = [hook for hook in hooks if hook.lifecycle_transition == LAUNCHING]
        with self.lock:
            self.targets[instance_id] = reached
            if not hooks:
                self.change(state, reached)
                return
            now = time.monotonic()
            self.pending[instance_id] = {hook.name: now + timeout(hook) for hook in hooks}
            self.late[instance_id] = now + self.lateness
            self.change(state, "Warmed:Pending:Wait" if reached.startswith("Warmed") else "Pending:Wait")

    def action(self, params):
        """The group, state and hook that a call is about; fails as Auto Scaling does."""
        instance_id, name = params.get("InstanceId"), params["LifecycleHookName"]
        group, state = self.member(instance_id)
        if params["AutoScalingGroupName"] not in {one.name for one in self.groups}:
            raise ValidationError(f"AutoScalingGroup name not found - AutoScalingGroup '{params['AutoScalingGroupName']}' not found")
        is_late = time.monotonic() < self.late.get(instance_id, 0)
        if is_late or group is None or name not in self.pending.get(instance_id, {}):
            raise ValidationError(f"No active Lifecycle Action found with instance ID {instance_id}")
        return group, state, name

    def complete(self, group, state, name, result):
        instance_id = state.instance.id
        if result == "ABANDON":
            self.pending.pop(instance_id, None)
            self.terminate(group, state)
            return
        self.pending[instance_id].pop(name)
        if not self.pending[instance_id]:
            del self.pending[instance_id]
            self.change(state, self.targets[instance_id])

    def terminate(self, group, state):
        self.targets[state.instance.id] = "Terminated"
        self.change(state, "Terminating")
        group.autoscaling_backend.terminate_instance(state.instance.id, False)

    def expire(self):
        """Lets hooks time out, with their default result."""
        while True:
            time.sleep(0.1)
            with self.lock:
                for instance_id, hooks in list(self.pending.items()):
                    for name in [name for name, end in hooks.items() if end < time.monotonic()]:
                        group, state = self.member(instance_id)
                        if group is None:
                            self.pending.pop(instance_id, None)
                            break
                        hook = group.autoscaling_backend.describe_lifecycle_hooks(group.name, [name])[0]
                        self.record.add(kind="timeout", instance=instance_id, hook=name)
                        self.complete(group, state, name, hook.default_result or "ABANDON")
                        if instance_id not in self.pending:
                            break


def timeout(hook):
    return int(hook.heartbeat_timeout or DEFAULT_TIMEOUT)


def install(record, region):
    """Patches moto in this process."""
    fleet = Fleet(record, region)

    def active_instances(group):
        away = ("Warmed", "Terminat", "Standby")
        return [state for state in group.instance_states if not state.lifecycle_state.startswith(away)]

    launch = models.FakeAutoScalingGroup.replace_autoscaling_group_instances

    def replace_autoscaling_group_instances(group, count_needed, propagated_tags):
        before = set(group.instance_states)
        launch(group, count_needed, propagated_tags)
        for state in group.instance_states:
            if state not in before:
                fleet.launch(group, state)

    def complete_lifecycle_action(self):
        params = self._get_params()
        with fleet.lock:
            if params["LifecycleActionResult"] not in ("CONTINUE", "ABANDON"):
                raise ValidationError("The lifecycle action result is neither CONTINUE nor ABANDON")
            fleet.complete(*fleet.action(params), params["LifecycleActionResult"])
        return EmptyResult()

    def record_lifecycle_action_heartbeat(self):
        with fleet.lock:
            group, state, name = fleet.action(self._get_params())
            hook = group.autoscaling_backend.describe_lifecycle_hooks(group.name, [name])[0]
            fleet.pending[state.instance.id][name] = time.monotonic() + timeout(hook)
        return EmptyResult()

    create = AutoScalingResponse.create_auto_scaling_group

    def create_auto_scaling_group(self):
        """With the hooks of the same request, which moto drops."""
        for hook in self._get_params().get("LifecycleHookSpecificationList") or []:
            self.autoscaling_backend.create_lifecycle_hook(
                name=hook["LifecycleHookName"],
                as_name=self._get_param("AutoScalingGroupName"),
                transition=hook["LifecycleTransition"],
                timeout=hook.get("HeartbeatTimeout"),
                result=hook.get("DefaultResult"),
            )
        return create(self)

    models.FakeAutoScalingGroup.active_instances = active_instances
    models.FakeAutoScalingGroup.replace_autoscaling_group_instances = replace_autoscaling_group_instances
    for call in (complete_lifecycle_action, record_lifecycle_action_heartbeat, create_auto_scaling_group):
        setattr(AutoScalingResponse, call.__name__, call)
    threading.Thread(target=fleet.expire, daemon=True).start()
    return fleet
