"""What stands before moto: it checks signatures and parameters, fails on demand, records every
call, and has the tests' own requests below /_test/.
"""

import io
import json
import re
import threading
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

import alarms
import parameters
from signature import fault_of_signature

CODE = re.compile(rb'<Code>([^<]*)</Code>|"__type": *"([^"]*)"')


class Call:
    """A request to AWS."""

    def __init__(self, environ, body):
        scope = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].partition(",")[0].split("/")
        self.access_key, self.service = scope[0], scope[3] if len(scope) == 5 else ""
        self.params = {}
        target = environ.get("HTTP_X_AMZ_TARGET")
        self.is_json = bool(target)
        if target:
            self.action = target.rpartition(".")[2]
            self.params = json.loads(body or b"{}")
        elif environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
            self.params = dict(parse_qsl(body.decode(), keep_blank_values=True))
            self.action = self.params.pop("Action", "")
            self.version = self.params.pop("Version", None)
        else:
            self.action = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"


class Front:
    """A WSGI application around moto's."""

    def __init__(self, moto, record, fleet, systems, keys):
        self.moto, self.record, self.fleet, self.keys = moto, record, fleet, keys
        self.systems = systems
        self.faults = []
        self.conditional = threading.Lock()

    def __call__(self, environ, start_response):
        length = int(environ.get("CONTENT_LENGTH") or 0)
        if environ["PATH_INFO"].startswith("/_test/"):
            return self.own(environ, environ["wsgi.input"].read(length), start_response)
        if environ["PATH_INFO"].startswith("/_agent/"):
            return self.agent(environ, environ["wsgi.input"].read(length), start_response)
        is_object = "form" not in environ.get("CONTENT_TYPE", "") and "HTTP_X_AMZ_TARGET" not in environ
        if is_object:  # of S3: large, and not looked into
            if "HTTP_IF_MATCH" in environ or "HTTP_IF_NONE_MATCH" in environ:
                # moto looks and writes in two steps, and answers other requests in between.
                with self.conditional:
                    return list(self.moto(environ, start_response))
            return self.moto(environ, start_response)
        body = environ["wsgi.input"].read(length)
        environ["wsgi.input"] = io.BytesIO(body)
        call = Call(environ, body)
        fault = self.fault(call, environ, body)
        if fault:
            self.add(call, environ, fault["status"], fault["code"])
            return respond(start_response, fault["status"], *refusal(fault, call))
        status = []

        def begin(line, headers, *rest):
            status.append(int(line.split()[0]))
            return start_response(line, headers, *rest)

        answer = list(self.moto(environ, begin))
        code = CODE.search(b"".join(answer)) if status[0] >= 400 else None
        self.add(call, environ, status[0], code and (code[1] or code[2]).decode())
        return answer

    def fault(self, call, environ, body):
        """Why the call fails before moto sees it: a mistake in it, or a fault that a test wants."""
        secret = self.keys.get(call.access_key)
        fault = secret and fault_of_signature(environ, body, call.access_key, secret)
        if fault:
            return fault
        fault = parameters.fault(call)
        if fault:
            return {"status": 400, "code": "ValidationError", "message": fault}
        for fault in self.faults:
            if fault["action"] == call.action and fault["times"] > 0:
                fault["times"] -= 1
                return fault
        return None

    def add(self, call, environ, status, code=None):
        self.record.add(
            kind="call", address=environ["REMOTE_ADDR"], service=call.service, action=call.action,
            params=call.params, status=status, code=code,
        )

    def own(self, environ, body, start_response):
        words = environ["PATH_INFO"].split("/")[2:]
        asked = json.loads(body or b"{}")
        answer = self.of_test(words, asked)
        status = 404 if answer is None else 200
        return respond(start_response, status, json.dumps(answer), "application/json")

    def agent(self, environ, body, start_response):
        instance, word = environ["PATH_INFO"].split("/")[2:]
        work = self.systems.agent(instance, word, json.loads(body or b"{}"))
        return respond(start_response, 200, json.dumps(work), "application/json")

    def of_test(self, words, asked):
        fleet = self.fleet
        match words:
            case ["record"]:
                return self.record.since(asked.get("since", 0))
            case ["faults"]:
                self.faults.append({"status": 400, "message": "a fault of the tests", "times": 1, **asked})
                return True
            case ["late"]:
                fleet.lateness = asked["seconds"]
                return True
            case ["commands"]:
                self.systems.visible_after = asked.get("visible_after", self.systems.visible_after)
                self.systems.held.update(asked.get("hold", {}))
                return True
            case ["alarms", name]:
                alarms.set_state(self.fleet.region, name, asked["state"])
                return True
            case ["instances"]:
                return [self.described(one) for one in fleet.instances()]
            case ["instances", instance_id, "attach"]:
                fleet.attach(asked["address"], fleet.instance(instance_id))
                return True
            case ["instances", instance_id, "go"]:
                fleet.go(*fleet.member(instance_id), asked.get("state", "InService"))
                return True
        return None

    def described(self, instance):
        group, state = self.fleet.member(instance.id)
        return {
            "id": instance.id,
            "ping": self.systems.ping(instance.id),
            "address": self.fleet.address_of(instance.id),
            "group": group and group.name,
            "state": state.lifecycle_state if state else instance.state,
            "target": self.fleet.targets.get(instance.id),
            "hooks": sorted(self.fleet.pending.get(instance.id, {})),
        }


def refusal(fault, call):
    """The body of an error, and its type."""
    if call.is_json:
        text = json.dumps({"__type": fault["code"], "message": fault["message"]})
        return text, "application/x-amz-json-1.1"
    return (
        f"<ErrorResponse><Error><Type>Sender</Type><Code>{escape(fault['code'])}</Code>"
        f"<Message>{escape(fault['message'])}</Message></Error><RequestId>test</RequestId></ErrorResponse>"
    ), "text/xml"


def respond(start_response, status, text, kind):
    body = text.encode()
    line = f"{status} {'OK' if status == 200 else 'Refused'}"
    start_response(line, [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]
