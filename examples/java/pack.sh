#!/bin/sh -eu
# Compiles the app to one jar, and packs it.
javac -d classes Hello.java
jar --create --file app/hello.jar --main-class Hello -C classes .
tar czf source.tar.gz -C app .
