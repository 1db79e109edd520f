#!/bin/sh
# A job for CI: is the state in this checkpoint what the new code expects, and can the code have
# it? Needs lstmstate and a POSIX shell, and neither TensorFlow nor a GPU.
#
#   sh ci_states.sh CHECKPOINT [STATE]
#
# CHECKPOINT  a prefix (model.ckpt-1000), any of its files, or the folder that it lies in
# STATE       where to leave c and m by name; by default state.npz in this folder
#
# It ends with the exit code of the step that failed, so that the job tells the cases apart:
#
#   0    the state is there, sound, and was converted without losing a bit
#   1    the checkpoint was read, and is not what was expected of it
#   2    the script or lstmstate was called wrongly
#   3    a file could not be used: missing, damaged, without a state, exists already, disk full
#   130  interrupted
#
# What is expected can be set from outside:
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

# What is made on the way goes into a folder of its own, and away with it at the end. A signal
# ends the shell through its exit, so that the trap on EXIT cleans up after that, too.
work=$(mktemp -d) || exit 3
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Prints what is being done, does it, and ends the job with its exit code if it fails.
step() {
    echo "== $1" >&2
    shift
    "$@"
    code=$?
    if [ "$code" -ne 0 ]; then
        echo "ci_states.sh: this ended with $code: $*" >&2
        exit "$code"
    fi
}

# 1. What is in it? The table stays in the log of the job; a checkpoint that is missing or
#    damaged ends it here, with 3. (LSTMSTATE and EXPECT are lists of words, so not in quotes.)
# shellcheck disable=SC2086
step "what is in the checkpoint" $LSTMSTATE inspect -q "$checkpoint"

# 2. Is it what the code expects? Each assertion that does not hold is a line, and the end is 1.
# shellcheck disable=SC2086
step "what is expected of it" $LSTMSTATE check "$checkpoint" $EXPECT

# 3. The state becomes c and m by name, which LSTMStateTuple(c, m) takes; strictly, so that
#    halves that look swapped end the job. An old STATE is never replaced without being told to.
# shellcheck disable=SC2086
step "into c and m" $LSTMSTATE convert -q "$checkpoint" --to-tuple --strict -o "$state"

# 4. Nothing was lost: back into one flat array, and both against one another, bit for bit. The
#    file says what its widths are, so that the way back needs no options.
# shellcheck disable=SC2086
step "and back into one array" $LSTMSTATE convert -q "$state" --to-flat -o "$work/flat.npy"
# shellcheck disable=SC2086
step "the same to the bit" $LSTMSTATE diff --exact "$work/flat.npy" "$state"

# 5. An exit code as an answer: what is compared here is the state of the last run, where there
#    is one. 1 is no failure then, and anything above is.
if [ -n "${LAST_STATE:-}" ]; then
    # shellcheck disable=SC2086
    $LSTMSTATE diff -q "$LAST_STATE" "$state"
    case $? in
        0) echo "the state has not changed since the last run" >&2 ;;
        1) echo "the state has changed since the last run" >&2 ;;
        *) echo "ci_states.sh: the last state cannot be compared: $LAST_STATE" >&2; exit 3 ;;
    esac
fi

# 6. The answer for the next step of the job.
echo "$state"
