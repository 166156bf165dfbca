#!/usr/bin/env bash
# Bring up a real Slurm of four nodes on this one host; down.sh takes it away again.
#
#   SLURM_BASE=DIR   where everything lives (default: scalable-slurm in the temporary directory)
#   ACCT=dbd|none    with accounts and QOS in a database (default), or without, which is up sooner
#
# Calling it again changes nothing, or mends what has died. The last line on stdout is the path of slurm.conf.
# Ends with 77 and one line on stderr where there can be no Slurm. One Slurm at a time: the ports are fixed.
set -euo pipefail

BASE=$(realpath -m "${SLURM_BASE:-${TMPDIR:-/tmp}/scalable-slurm}")
ACCT=${ACCT:-dbd}
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
NODES=(n1 n2 n3 n4)
CPUS=4
MEMORY=8000
CONTROLLER_PORT=16817
DATABASE_PORT=16819
NODE_PORT=17000
MUNGE_SOCKET=$BASE/run/munge.sock
MYSQL_SOCKET=$BASE/run/mysql.sock
CGROUPS=/sys/fs/cgroup
LINK=/etc/slurm/slurm.conf

export PATH=$PATH:/usr/sbin:/sbin
export SLURM_CONF=$BASE/slurm.conf

# Start a daemon. By the mark in its environment down.sh knows it, and what it starts.
daemon() { SLURM_BACKEND=$BASE "$@"; }

say() { echo "slurm: $*" >&2; }

unavailable() {
  echo "$*" >&2
  exit 77
}

# Whether the process of a pid file is one of ours; a zombie or a stranger with the same number is not.
alive() {
  local pid
  pid=$(cat "$BASE/run/$1.pid" 2>/dev/null) && grep -qsxz "SLURM_BACKEND=$BASE" "/proc/$pid/environ"
}

# Wait up to 20 s for a command to succeed.
await() {
  local attempt
  for attempt in $(seq 400); do
    "$@" >/dev/null 2>&1 && return
    sleep 0.05
  done
  say "waited in vain for: $*"
  return 1
}

check_host() {
  [ "$(id -u)" = 0 ] || unavailable "only root can run several slurmd on one host"
  local tools=(slurmctld=slurmctld slurmd=slurmd sbatch=slurm-client munged=munge)
  [ "$ACCT" = dbd ] && tools+=(slurmdbd=slurmdbd mariadbd=mariadb-server-core my_print_defaults=mariadb-client-core)
  "$HERE/packages.sh" "${tools[@]}"
  HOST=$(hostname -s)
  ADDRESS=$(getent ahostsv4 "$HOST" | awk 'NR == 1 {print $1}') || true
  [ -n "$ADDRESS" ] || unavailable "the host's own name, $HOST, has no address"
}

# The host's own Slurm, or one that was brought up elsewhere, is not to be disturbed.
check_other() {
  local target
  target=$(readlink "$LINK" || true)
  if [ "$target" != "$SLURM_CONF" ] && [ -e "$LINK" ]; then
    say "there is another Slurm: $LINK${target:+ leads to $target}"
    return 1
  fi
}

# The longest socket path that the kernel takes is 107 bytes.
make_base() {
  [ ${#MUNGE_SOCKET} -le 100 ] || { say "SLURM_BASE is too long: $BASE"; return 1; }
  if [ -d "$BASE" ] && [ ! -e "$BASE/.scalable" ] && [ -n "$(ls -A "$BASE")" ]; then
    say "$BASE has other things in it"
    return 1
  fi
  mkdir -p "$BASE"/{run,log,spool,state}
  chmod 755 "$BASE" "$BASE"/{run,log,spool,state}
  touch "$BASE/.scalable"
}

# With version 1 cgroups Slurm enforces memory for real (OUT_OF_MEMORY), and knows every process of a job.
# Elsewhere it polls: too much memory then ends in FAILED.
has_cgroups() { [ -w "$CGROUPS/memory/cgroup.procs" ] && [ -w "$CGROUPS/freezer/cgroup.procs" ]; }

write_limits() {
  if has_cgroups; then
    cat <<CONF
ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup
JobAcctGatherType=jobacct_gather/cgroup
CONF
  else
    cat <<CONF
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherParams=OverMemoryKill
CONF
  fi
}

write_accounting() {
  if [ "$ACCT" = dbd ]; then
    cat <<CONF
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=$ADDRESS
AccountingStoragePort=$DATABASE_PORT
AccountingStoragePass=$MUNGE_SOCKET
AccountingStorageEnforce=associations,limits,qos
AccountingStorageTRES=gres/gpu
CONF
  else
    echo "AccountingStorageType=accounting_storage/none"
  fi
}

write_nodes() {
  local index gres
  for index in "${!NODES[@]}"; do
    gres=""
    [ "${NODES[$index]}" = n4 ] && gres="Gres=gpu:2"
    echo "NodeName=${NODES[$index]} NodeHostname=$HOST NodeAddr=$ADDRESS Port=$((NODE_PORT + index + 1))" \
      "CPUs=$CPUS RealMemory=$MEMORY State=UNKNOWN $gres"
  done
  cat <<CONF
PartitionName=main  Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=60 PriorityTier=10 PreemptMode=OFF
PartitionName=spot  Nodes=ALL MaxTime=INFINITE DefaultTime=60 PriorityTier=1 PreemptMode=REQUEUE
PartitionName=short Nodes=ALL MaxTime=2 DefaultTime=1 PriorityTier=10 PreemptMode=OFF
CONF
}

# cred_expire: a requeued job waits that long, by default two minutes.
# NoInAddrAny: listen where the host's name points, usually at loopback, rather than everywhere.
# config_overrides: let the nodes have more CPUs and memory than the host.
# ReturnToService: only a node that did not answer comes back by itself, never one that was set down.
write_slurm_conf() {
  cat <<CONF
ClusterName=tests
SlurmctldHost=$HOST($ADDRESS)
SlurmctldPort=$CONTROLLER_PORT
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$MUNGE_SOCKET,cred_expire=5
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation=$BASE/state
SlurmdSpoolDir=$BASE/spool/%n
SlurmctldPidFile=$BASE/run/slurmctld.pid
SlurmdPidFile=$BASE/run/slurmd-%n.pid
SlurmctldLogFile=$BASE/log/slurmctld.log
SlurmdLogFile=$BASE/log/slurmd-%n.log
MailProg=/bin/true
MpiDefault=none
GresTypes=gpu
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=500
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_min_interval=100000,batch_sched_delay=0
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
JobAcctGatherFrequency=task=1
KillWait=2
MinJobAge=300
ReturnToService=1
SlurmctldTimeout=30
SlurmdTimeout=15
MessageTimeout=10
CONF
  write_limits
  write_accounting
  write_nodes
}

# Where nothing uses cgroups, naming the plugin keeps slurmd from looking which one there is.
write_cgroup_conf() {
  cat <<CONF
CgroupPlugin=cgroup/v1
CgroupMountpoint=$CGROUPS
ConstrainRAMSpace=yes
ConstrainSwapSpace=yes
AllowedSwapSpace=0
CONF
}

write_database_conf() {
  cat <<CONF
AuthType=auth/munge
AuthInfo=socket=$MUNGE_SOCKET,cred_expire=5
DbdHost=$HOST
DbdAddr=$ADDRESS
DbdPort=$DATABASE_PORT
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=root
LogFile=$BASE/log/slurmdbd.log
PidFile=$BASE/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm
CONF
}

# A Slurm that runs with other settings makes way: its daemons must all agree on them.
write_configuration() {
  if [ -e "$SLURM_CONF" ] && [ "$(write_slurm_conf)" != "$(cat "$SLURM_CONF")" ]; then
    say "other settings than before: starting anew"
    "$HERE/down.sh"
    make_base
  fi
  write_slurm_conf >"$SLURM_CONF"
  printf 'NodeName=n4 Name=gpu File=/dev/%s\n' null zero >"$BASE/gres.conf"
  write_cgroup_conf >"$BASE/cgroup.conf"
  write_database_conf >"$BASE/slurmdbd.conf"
  chmod 600 "$BASE/slurmdbd.conf"
}

# Programs that drop SLURM_* from the environment of a job look here.
link_configuration() {
  mkdir -p "$(dirname "$LINK")"
  ln -sfn "$SLURM_CONF" "$LINK"
}

# A key and a socket of its own, so that the host's munge is left alone.
start_munge() {
  alive munged && return
  [ -s "$BASE/munge.key" ] || (umask 077 && head -c 1024 /dev/urandom >"$BASE/munge.key")
  rm -f "$MUNGE_SOCKET"*
  daemon munged --force --key-file="$BASE/munge.key" --seed-file="$BASE/state/munge.seed" --socket="$MUNGE_SOCKET" \
    --pid-file="$BASE/run/munged.pid" --log-file="$BASE/log/munged.log"
}

# On a unix socket only, which lets root in without a password.
start_mariadb() {
  alive mariadbd && return
  local data=$BASE/mysql
  if [ ! -e "$BASE/mysql.ready" ]; then
    rm -rf "$data"
    mariadb-install-db --no-defaults --user=root --datadir="$data" --skip-test-db --skip-name-resolve \
      --auth-root-authentication-method=socket --auth-root-socket-user=root >"$BASE/log/mariadb-install.log" 2>&1
    touch "$BASE/mysql.ready"
  fi
  rm -f "$MYSQL_SOCKET"
  daemon setsid mariadbd --no-defaults --user=root --datadir="$data" --skip-networking --socket="$MYSQL_SOCKET" \
    --pid-file="$BASE/run/mariadbd.pid" --innodb-buffer-pool-size=64M --innodb-log-file-size=32M \
    --innodb-lock-wait-timeout=900 --innodb-flush-log-at-trx-commit=0 \
    </dev/null >"$BASE/log/mariadb.log" 2>&1 &
  await test -S "$MYSQL_SOCKET"
}

start_slurmdbd() {
  alive slurmdbd && return
  MYSQL_UNIX_PORT=$MYSQL_SOCKET daemon slurmdbd
  await sacctmgr --noheader show cluster
}

# root may use `science` and both QOS; of `other` it is no member, and nobody has heard of any else.
add_accounts() {
  [ -e "$BASE/accounts.ready" ] && return
  local sacctmgr=(sacctmgr --immediate --quiet)
  "${sacctmgr[@]}" add cluster tests
  "${sacctmgr[@]}" add qos one MaxJobsPerUser=1
  "${sacctmgr[@]}" add account science,other Cluster=tests Description=tests Organization=tests
  "${sacctmgr[@]}" add user root Account=science DefaultAccount=science
  "${sacctmgr[@]}" modify user root where Account=science set QOS=normal,one DefaultQOS=normal
  touch "$BASE/accounts.ready"
}

start_database() {
  [ "$ACCT" = dbd ] || return 0
  start_mariadb
  start_slurmdbd
  add_accounts >"$BASE/log/accounts.log" 2>&1
}

start_slurm() {
  local node
  alive slurmctld || daemon slurmctld -f "$SLURM_CONF"
  for node in "${NODES[@]}"; do
    alive "slurmd-$node" || daemon slurmd -f "$SLURM_CONF" -N "$node"
  done
}

# Up is whoever has registered, even if set down; a star means silence.
nodes_are_up() {
  [ "$(sinfo --noheader --Node --partition=main --format=%T | grep -cvE 'unk|[*]')" = ${#NODES[@]} ]
}

# What they all say about PMIx means nothing.
show_logs() {
  local status=$? log
  [ $status = 0 ] || [ $status = 77 ] && return
  say "failed"
  for log in "$BASE"/log/*.log; do
    [ -s "$log" ] && { echo "== $log"; grep -viE 'pmix|mpi:' "$log" | tail -n 8 || true; } >&2
  done
}

main() {
  trap show_logs EXIT
  check_host
  check_other
  make_base
  write_configuration
  link_configuration
  start_munge
  start_database
  start_slurm
  await nodes_are_up
  echo "$SLURM_CONF"
}

main
