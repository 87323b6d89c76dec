#!/bin/sh
# The host name names the instance unless something else does: it outlives a restart of the container,
# is another one in every replica, and is the pod's ordinal name in a StatefulSet.
export MAILPULSE__SERVICE__INSTANCE="${MAILPULSE__SERVICE__INSTANCE:-$(hostname)}"
exec "$@"
