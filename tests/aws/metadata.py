"""EC2's instance metadata service, version 2: a token is required, as in the images of packer/."""

import base64
import datetime
import json
import secrets

TOKEN_SECONDS = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
ROLE = "instance"


class Metadata:
    """A WSGI application. A machine is known by its address."""

    def __init__(self, record, fleet, options):
        self.record, self.fleet, self.options = record, fleet, options
        self.tokens = set()

    def __call__(self, environ, start_response):
        method, path, address = environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["REMOTE_ADDR"]
        status, body, headers = self.answer(method, path, address, environ)
        self.record.add(kind="metadata", address=address, path=path, status=status)
        body = body.encode()
        headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), *headers]
        start_response(f"{status} {'OK' if status == 200 else 'Refused'}", headers)
        return [body]

    def answer(self, method, path, address, environ):
        if path == "/latest/api/token":
            seconds = environ.get("HTTP_X_AWS_EC2_METADATA_TOKEN_TTL_SECONDS")
            if method != "PUT" or not seconds or environ.get("HTTP_X_FORWARDED_FOR"):
                return 403, "", []
            token = secrets.token_urlsafe(40)
            self.tokens.add(token)
            return 200, token, [(TOKEN_SECONDS, seconds)]
        if environ.get("HTTP_X_AWS_EC2_METADATA_TOKEN") not in self.tokens:
            return 401, "", []
        instance = self.fleet.at(address)
        # Any version of the service is the latest.
        path = path.strip("/").partition("/")[2]
        found = instance and look_up(self.tree(instance), path)
        return (200, found, []) if found else (404, "", [])

    def tree(self, instance):
        """All texts of an instance, by path."""
        _, state = self.fleet.member(instance.id)
        template = self.template(instance)
        meta = {
            "autoscaling/target-lifecycle-state": state and self.fleet.targets.get(instance.id),
            "hostname": instance.private_dns_name,
            "iam/security-credentials/" + ROLE: self.credentials(),
            "instance-id": instance.id,
            "local-hostname": instance.private_dns_name,
            "local-ipv4": instance.private_ip,
            "placement/availability-zone": instance.placement.zone,
            "placement/region": self.fleet.region,
        }
        if "enabled" in (instance.metadata_options.instance_metadata_tags, tags_option(template)):
            meta |= {"tags/instance/" + tag["key"]: tag["value"] for tag in instance.get_tags()}
        document = {"region": self.fleet.region, "instanceId": instance.id, "privateIp": instance.private_ip}
        tree = {"meta-data/" + path: text for path, text in meta.items() if text}
        tree["dynamic/instance-identity/document"] = json.dumps(document)
        if template.get("UserData"):
            tree["user-data"] = base64.b64decode(str(template["UserData"])).decode()
        return tree

    def template(self, instance):
        """The data of the launch template that the instance's group has."""
        group, _ = self.fleet.member(instance.id)
        template = group and group.ec2_launch_template
        return template.get_version(group.launch_template_version).data if template else {}

    def credentials(self):
        end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=6)
        return json.dumps(
            {
                "Code": "Success",
                "Type": "AWS-HMAC",
                "AccessKeyId": self.options.access_key,
                "SecretAccessKey": self.options.secret_key,
                "Token": "a-session",
                "LastUpdated": "2026-01-01T00:00:00Z",
                "Expiration": end.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        )


def tags_option(template):
    return template.get("MetadataOptions", {}).get("InstanceMetadataTags")


def look_up(tree, path):
    """The text at a path, or the names below it, one a line; none where there is neither."""
    if path in tree:
        return tree[path]
    below = [name.removeprefix(path + "/") for name in tree if name.startswith(path + "/")]
    return "\n".join(sorted({name.partition("/")[0] + ("/" if "/" in name else "") for name in below}))
