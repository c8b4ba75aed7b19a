#!/bin/sh
# The conformance agent as a command: what its task says, a line in a file for each thing that happens.
set -eu
task=$(cat)
of() { printf %s "$task" | jq -r "$1 // empty"; }
log=$(of .log)
say() { printf '%s\n' "$1" >> "$log"; }

trap 'say stopped; exit 143' TERM
say began
if jq -e 'has("prompt")' "$AGL_RESOURCES_FILE" > /dev/null; then
    say "prompt $(jq -r .prompt.template "$AGL_RESOURCES_FILE")"
fi

steps=$(of '.steps | if . then [range(.)] | map("step-\(.)") | join(" ") else empty end')
emitting=
if [ -n "$steps" ]; then
    # shellcheck disable=SC2086 # a name each
    agl emit span $steps & # which waits for a store that is away, as this does not before its end
    emitting=$!
fi

wait_for=$(of .wait_for)
while [ -n "$wait_for" ] && [ ! -e "$wait_for" ]; do sleep 0.02; done

message=$(of .fail)
if [ -n "$message" ]; then
    say failed
    [ -z "$emitting" ] || wait "$emitting"
    printf '%s\n' "$message" >&2
    exit 1
fi
say ended
[ -z "$emitting" ] || wait "$emitting"
of .reward
