#!/bin/sh
# Uses the host name as the instance name unless another one is set. The host name survives a restart
# of the container, differs between replicas, and is the pod's ordinal name in a StatefulSet.
export MAILPULSE__SERVICE__INSTANCE="${MAILPULSE__SERVICE__INSTANCE:-$(hostname)}"
# Without --config, a service starts with its defaults if mailpulse.toml does not exist. In a container that is a
# mount that was forgotten. A file that is named must exist.
case "${1:-}" in
archive | automate | console | dedupe | enrich | forward | ingress | monitor | notify | suppress)
    case " $* " in
    *" --config "* | *" --config="* | *" --help "* | *" -h "* | *" --version "* | *" -V "*) ;;
    *)
        service=$1
        shift
        set -- "$service" --config mailpulse.toml "$@"
        ;;
    esac
    ;;
esac
exec "$@"
