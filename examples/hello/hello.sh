#!/bin/sh
cat "$GREETING"
echo "  made of $(cat /usr/share/hello/id), on $(uname -m), Linux $(uname -r), as $(whoami)"
