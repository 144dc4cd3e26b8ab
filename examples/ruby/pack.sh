#!/bin/sh -eu
# Packs the app with a Gemfile.lock of the installed gems.
(cd app && bundle lock --local)
tar czf source.tar.gz -C app .
