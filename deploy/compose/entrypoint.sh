#!/bin/sh
# Uses the host name as the instance name unless another one is set. The host name survives a restart
# of the container, differs between replicas, and is the pod's ordinal name in a StatefulSet.
export MAILPULSE__SERVICE__INSTANCE="${MAILPULSE__SERVICE__INSTANCE:-$(hostname)}"
exec "$@"
