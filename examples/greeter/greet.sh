#!/bin/sh
# Every second: writes the key of this node, reads the key that all share, prints a line.
set -u

kv=http://app/v1/kv
newline='
'

# The reply's body goes to $body, its status to $status; 000 when there is no reply.
call() {
    reply=$(curl --silent --max-time 8 --unix-socket "$LONGSHORE_SOCKET" --write-out '\n%{http_code}' "$@")
    status=${reply##*"$newline"}
    # On one line, whatever was stored.
    body=$(printf '%s' "${reply%"$newline"*}" | tr '\n' ' ')
}

# Arguments are JSON; a text without quotes and backslashes inside needs no JSON parser.
greeting=$(printf '%s\n' "$LONGSHORE_ARGS" | sed -n 's/.*"greeting" *: *"\([^"\\]*\)".*/\1/p')
greeting=${greeting:-hello}

stopped() {
    echo "goodbye from $LONGSHORE_NODE"
    exit 0
}
trap stopped TERM INT

while true; do
    call --request PUT --data-raw "$greeting at $(date -u '+%Y-%m-%dT%H:%M:%SZ')" "$kv/greetings/$LONGSHORE_NODE"
    written=$status
    call "$kv/shared"
    case "$written $status" in
        "200 200") echo "$greeting from $LONGSHORE_NODE: shared is '$body'" ;;
        "200 404") echo "$greeting from $LONGSHORE_NODE: nothing is shared yet" ;;
        # Cut off from the cluster, the task goes on and says so.
        *) echo "$greeting from $LONGSHORE_NODE: the cluster does not answer (write $written, read $status)" ;;
    esac
    # In the background, so that a signal does not wait for the end of the pause.
    sleep 1 &
    wait $!
done
