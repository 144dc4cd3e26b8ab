"""Target health that really asks: moto finds every target healthy."""

import urllib.error
import urllib.request

from moto.elbv2 import models

PATIENCE = 2


class Straight(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        """A redirect is an answer."""


OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), Straight)


def reason(url):
    """Why a target is not healthy; none if it is."""
    try:
        with OPENER.open(url, timeout=PATIENCE):
            return None
    except urllib.error.HTTPError as error:
        return None if error.code < 400 else "Target.ResponseCodeMismatch"
    except TimeoutError:
        return "Target.Timeout"
    except OSError:
        return "Target.FailedHealthChecks"


def install(fleet):
    """Patches moto in this process."""
    health_for = models.FakeTargetGroup.health_for

    def really(self, target, ec2_backend):
        health = health_for(self, target, ec2_backend)
        address = fleet.address_of(target["Id"])
        if health.status == "healthy" and address:
            path = self.health_check_path or "/"
            health.reason = reason(f"http://{address}:{health.port}{path}")
            health.status = "unhealthy" if health.reason else "healthy"
        return health

    models.FakeTargetGroup.health_for = really
