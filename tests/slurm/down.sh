#!/usr/bin/env bash
# Take down what up.sh brought up, with its jobs and its files; nothing happens where nothing runs.
#
#   SLURM_BASE=DIR   as for up.sh
set -euo pipefail

BASE=$(realpath -m "${SLURM_BASE:-${TMPDIR:-/tmp}/scalable-slurm}")
CONF=$BASE/slurm.conf
CGROUPS=/sys/fs/cgroup
LINK=/etc/slurm/slurm.conf

# Processes whose environment at their start had a line.
with_environment() { grep -lsxz -- "$1" /proc/[0-9]*/environ | cut -d/ -f3 || true; }

with_name() { grep -lsx -- "$1" /proc/[0-9]*/comm | cut -d/ -f3 || true; }

# Daemons and what they have started directly: the mark is up.sh's.
daemons() { with_environment "SLURM_BACKEND=$BASE"; }

# A job knows its Slurm, but so does whoever has SLURM_CONF set: this script's caller, for one.
# The daemon that looks after a job knows no more, and may outlive the job and its node.
jobs_by_environment() {
  comm -12 <(with_environment "SLURM_CONF=$CONF" | sort) \
    <({ with_environment 'SLURM_JOB_ID=.*'; with_name slurmstepd; } | sort)
}

# Whether the Slurm that was brought up last is the one to take down: the cgroups do not tell whose they are.
is_linked() { [ "$(readlink "$LINK")" = "$CONF" ]; }

# Where Slurm uses cgroups, they have the processes that left their job's session, or dropped its environment.
# Elsewhere one that did both is lost, to Slurm as well.
jobs_by_cgroup() {
  local directory
  is_linked || return 0
  for directory in "$CGROUPS"/freezer/slurm_n[1-4]; do
    [ -d "$directory" ] && find "$directory" -name cgroup.procs -exec cat {} +
  done
  return 0
}

# The given processes and all they have started, however deep.
with_descendants() {
  grep -s '^PPid:' /proc/[0-9]*/status | tr -s '/:\t' ' ' | awk -v given="$*" '
    BEGIN { split(given, list); for (i in list) wanted[list[i]] = 1 }
    { parent[$2] = $5 }
    END {
      for (pid in parent)
        for (above = pid; above in parent; above = parent[above])
          if (above in wanted) { print pid; break }
    }'
}

running() {
  local pids
  pids=$({ daemons; jobs_by_environment; jobs_by_cgroup; } | sort -u | tr '\n' ' ')
  [ -z "$pids" ] || with_descendants "$pids"
}

# Nothing of it is kept, so nothing needs time to say goodbye. Again and again: what dies may just have forked.
kill_all() {
  local attempt pids
  for attempt in $(seq 50); do
    pids=$(running)
    [ -z "$pids" ] && return
    # shellcheck disable=SC2086
    kill -KILL $pids 2>/dev/null || true
    sleep 0.1
  done
  echo "slurm: cannot end processes" $pids >&2
  return 1
}

remove_cgroups() {
  local directory
  for directory in "$CGROUPS"/*/slurm_n[1-4]; do
    [ -d "$directory" ] && find "$directory" -depth -type d -exec rmdir {} + 2>/dev/null
  done
  return 0
}

remove_files() {
  is_linked && rm -f "$LINK"
  [ -e "$BASE/.scalable" ] && rm -rf "$BASE"
  return 0
}

main() {
  kill_all
  remove_cgroups
  remove_files
}

main
