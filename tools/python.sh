#!/bin/sh
# Prints the path of a Python that tunctl runs on (3.11 or newer): $PYTHON if it is one, else the first that is found.
for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python3.14 /usr/bin/python3; do
    path=$("$candidate" -c 'import sys; sys.version_info >= (3, 11) and print(sys.executable)' 2>/dev/null) || continue
    [ -z "$path" ] || { echo "$path"; exit 0; }
done
echo "no Python 3.11 or newer is here; set PYTHON=/path/to/python3" >&2
exit 1
