#!/bin/sh
# User-data for the instances of an Auto Scaling group. `deploy boot` finds out from the
# instance's tags what to run, deploys it, and completes the group's launching hook: an
# instance comes into service when its release is healthy, and is replaced when it is not.
# A release that is staged in the image is not downloaded again. User-data runs at the first
# boot; for a warm pool, see cloud-init.yaml.
set -eu

deploy boot
