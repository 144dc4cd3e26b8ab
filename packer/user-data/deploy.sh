#!/bin/sh
# User-data for the instances of an Auto Scaling group: each deploys what the
# pointer `current` names when it first boots. A release that is staged in the
# image is not downloaded again; at later boots the app starts by itself.
set -eu

deploy --timeout 10m s3://releases/my-app/production/current
