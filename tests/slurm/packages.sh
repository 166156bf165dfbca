#!/usr/bin/env bash
# Make sure that commands exist, installing the Debian packages that bring them.
#
#   packages.sh COMMAND=PACKAGE...
#
# Ends with 77 and one line on stderr where that cannot be done: no root, or no apt-get.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
POLICY=/usr/sbin/policy-rc.d

unavailable() {
  echo "$*" >&2
  exit 77
}

# Packages of services start them; ours are wanted for their programs only.
forbid_services() {
  [ -e "$POLICY" ] && return
  printf '#!/bin/sh\nexit 101\n' >"$POLICY"
  chmod +x "$POLICY"
  trap 'rm -f "$POLICY"' EXIT
}

install() {
  local log
  log=$(mktemp)
  forbid_services
  if ! { apt-get update && apt-get install -y --no-install-recommends "$@"; } >"$log" 2>&1 </dev/null; then
    tail -n 5 "$log" >&2
    rm -f "$log"
    unavailable "apt-get could not install: $*"
  fi
  rm -f "$log"
}

main() {
  local pair absent=() packages=()
  for pair in "$@"; do
    if ! command -v "${pair%%=*}" >/dev/null; then
      absent+=("${pair%%=*}")
      packages+=("${pair#*=}")
    fi
  done
  [ ${#absent[@]} = 0 ] && return
  command -v apt-get >/dev/null || unavailable "missing: ${absent[*]} (and there is no apt-get to install them)"
  [ "$(id -u)" = 0 ] || unavailable "missing: ${absent[*]} (root could apt-get install ${packages[*]})"
  DEBIAN_FRONTEND=noninteractive install "${packages[@]}"
}

main "$@"
