#!/bin/sh
# A job for CI: is the state in this checkpoint what the new code expects, and can the code have
# it? Needs lstmstate and a POSIX shell, and neither TensorFlow nor a GPU.
#
#   sh ci_states.sh CHECKPOINT [STATE]
#
# CHECKPOINT  a prefix (model.ckpt-1000), any of its files, or its folder
# STATE       the output with c and m by name; by default state.npz in this folder
#
# It exits with the code of the step that failed, so that the job can distinguish the cases:
#
#   0    the state is present and sound, and was converted without losing a bit
#   1    the checkpoint was read, and an assertion failed
#   2    the script or lstmstate was called wrongly
#   3    a file could not be used: missing, damaged, without a state, exists already, disk full
#   130  interrupted
#
# Environment variables:
#
#   LSTMSTATE   the command to run  (lstmstate)
#   EXPECT      the assertions, options of lstmstate check  (--finite --max-abs-m 1)
#   LAST_STATE  the state of an earlier run, to compare with  (none)

set -u

if [ "$#" -lt 1 ] || [ "$#" -gt 2 ]; then
    echo "usage: sh ci_states.sh CHECKPOINT [STATE]" >&2
    exit 2
fi
checkpoint=$1
state=${2:-state.npz}
LSTMSTATE=${LSTMSTATE:-lstmstate}
EXPECT=${EXPECT:---finite --max-abs-m 1}

# Temporary files are in a folder that is removed at the end. A signal ends the shell through its
# exit, so that the trap on EXIT removes the folder then, too.
work=$(mktemp -d) || exit 3
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Prints a title, runs a command, and ends the job with its exit code if it fails.
step() {
    echo "== $1" >&2
    shift
    "$@"
    code=$?
    if [ "$code" -ne 0 ]; then
        echo "ci_states.sh: failed with exit code $code: $*" >&2
        exit "$code"
    fi
}

# 1. The content. The table stays in the log of the job; a missing or damaged checkpoint ends it
#    here, with 3. (LSTMSTATE and EXPECT are lists of words, so not in quotes.)
# shellcheck disable=SC2086
step "content of the checkpoint" $LSTMSTATE inspect -q "$checkpoint"

# 2. The assertions. Each failure is a line, and the exit code is 1.
# shellcheck disable=SC2086
step "assertions" $LSTMSTATE check "$checkpoint" $EXPECT

# 3. The state becomes c and m by name, which LSTMStateTuple(c, m) takes; strictly, so that
#    halves that look swapped end the job. An existing STATE is never replaced.
# shellcheck disable=SC2086
step "conversion to c and m" $LSTMSTATE convert -q "$checkpoint" --to-tuple --strict -o "$state"

# 4. The round trip: back into one flat array, and both compared bit for bit. The file records its
#    widths, so that this conversion needs no options.
# shellcheck disable=SC2086
step "conversion back to one array" $LSTMSTATE convert -q "$state" --to-flat -o "$work/flat.npy"
# shellcheck disable=SC2086
step "comparison to the bit" $LSTMSTATE diff --exact "$work/flat.npy" "$state"

# 5. A comparison with the state of the last run, if there is one. Exit code 1, a difference, is
#    not a failure; a higher one is.
if [ -n "${LAST_STATE:-}" ]; then
    # shellcheck disable=SC2086
    $LSTMSTATE diff -q "$LAST_STATE" "$state"
    case $? in
        0) echo "the state has not changed since the last run" >&2 ;;
        1) echo "the state has changed since the last run" >&2 ;;
        *) echo "ci_states.sh: the last state cannot be compared: $LAST_STATE" >&2; exit 3 ;;
    esac
fi

# 6. The output, for the next step of the job.
echo "$state"
