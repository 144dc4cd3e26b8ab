javac -d classes Main.java
jar --create --file app.jar --main-class Main -C classes .
rm -r classes
