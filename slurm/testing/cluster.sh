#!/usr/bin/env bash
# A real Slurm on one machine, for tests: munged, slurmctld and four slurmd, each of which is a node of its own.
#
# Usage: cluster.sh up|down|status|env [--dir DIR] [--nodes N]
#   up      starts it, or says that it runs already; what is left of a cluster that died is cleared away first
#   down    cancels the jobs and ends every process; files remain only in DIR, as logs
#   status  prints the nodes; exit status 0 when all of them are up
#   env     prints the variables a shell needs: eval "$(cluster.sh env)"
#
# DIR is build/slurm by default. Everything is in it, munge's key and socket too, so a munge or Slurm of the machine is
# neither used nor disturbed. All sockets are on loopback. Needs no root: the cluster then belongs to, and runs jobs of,
# the user who started it.
set -euo pipefail

dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/build/slurm
nodes=4
start_timeout_s=60
stop_timeout_s=20
PATH=$PATH:/usr/sbin:/sbin

fail() {
  echo "cluster.sh: $*" >&2
  exit 1
}

command=${1:-}
shift || true
while (($#)); do
  case $1 in
    --dir) dir=$(realpath -m "${2:?--dir needs a folder}"); shift 2 ;;
    --nodes) nodes=${2:?--nodes needs a number}; shift 2 ;;
    *) fail "unknown argument $1; see the top of $0" ;;
  esac
done
export SLURM_CONF=$dir/slurm.conf
socket=$dir/munge/munged.socket

check_programs() {
  local program package missing=()
  while read -r program package; do
    command -v "$program" >/dev/null || missing+=("$program (Debian: $package)")
  done <<'LIST'
munged munge
mungekey munge
slurmctld slurmctld
slurmd slurmd
srun slurm-client
LIST
  ((${#missing[@]} == 0)) || fail "missing: $(printf '%s, ' "${missing[@]}" | sed 's/, $//')"
  # sun_path holds 108 bytes; munged adds a suffix for its lock file, which is an ordinary file.
  ((${#socket} < 108)) || fail "$dir is too long for a socket in it (at most 107 bytes with /munge/munged.socket)"
}

# The pids that belong to this cluster and still run. A pid file may be stale and its number taken by a stranger, so
# it is the process itself that tells: daemons carry TRIREME_SLURM_DIR; tasks have a node's name beside this cluster's
# configuration; a slurmstepd, which overwrites its environment with its title, works in a node's folder; an srun that
# lost its cluster would wait for ever.
own_pids() {
  local file
  {
    grep -lzxF "TRIREME_SLURM_DIR=$dir" /proc/[0-9]*/environ || true
    for file in $(grep -lzxF "SLURM_CONF=$SLURM_CONF" /proc/[0-9]*/environ); do
      if grep -qz '^SLURMD_NODENAME=' "$file" || [[ $(readlink "${file%environ}exe") == */srun* ]]; then
        echo "$file"
      fi
    done
    for file in $(find /proc/[0-9]*/exe -lname '*/slurmstepd*'); do
      [[ $(readlink "${file%exe}cwd") == "$dir"/* ]] && echo "$file"
    done
  } 2>/dev/null | cut -d / -f 3 | sort -un
}

# wait_for <seconds> <command ...>: polls until the command succeeds.
wait_for() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || return 1
    sleep 0.1
  done
}

all_idle() {
  local states
  states=$(timeout 5 sinfo -h -N -o %T 2>/dev/null) || return 1
  [[ -n $states ]] && ! grep -qvxE 'idle|mixed|allocated|completing' <<<"$states"
}

# A port above those of common services and below the kernel's ephemeral ones, with a free block of `count`.
free_ports() {
  local count=$1 base port try
  for try in {1..50}; do
    base=$((20000 + (RANDOM % 1000) * 10))
    for ((port = base; port < base + count; port++)); do
      if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
        continue 2
      fi
    done
    echo "$base"
    return
  done
  fail "no block of $count free ports on loopback between 20000 and 30000"
}

write_config() {
  local host user port cpus i
  host=$(hostname -s)
  user=$(id -un)
  port=$(free_ports $((nodes + 1)))
  cpus=$(nproc)
  {
    cat <<CONF
ClusterName=trireme
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$socket
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation=$dir/ctld/state
SlurmctldPidFile=$dir/ctld/pid
SlurmctldLogFile=$dir/ctld/log
SlurmdPidFile=$dir/%n/pid
SlurmdLogFile=$dir/%n/log
SlurmdSpoolDir=$dir/%n/spool
# One per node: with a shared one the PMIx plugin fails with "File exists".
TmpFS=$dir/%n/tmp
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
SwitchType=switch/none
TopologyPlugin=topology/tree
MpiDefault=none
ReturnToService=2
SlurmdTimeout=300
SlurmctldTimeout=300
KillWait=5
MaxNodeCount=64
PropagateResourceLimits=NONE
CONF
    for ((i = 1; i <= nodes; i++)); do
      echo "NodeName=n$i NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + i)) CPUs=$cpus State=UNKNOWN"
    done
    echo "PartitionName=test Nodes=n[1-$nodes] Default=YES MaxTime=INFINITE State=UP"
  } >"$SLURM_CONF"
  # Two switches, so that there is a distance to see.
  {
    if ((nodes > 1)); then
      echo "SwitchName=s1 Nodes=n[1-$((nodes / 2))]"
      echo "SwitchName=s2 Nodes=n[$((nodes / 2 + 1))-$nodes]"
      echo "SwitchName=top Switches=s[1-2]"
    else
      echo "SwitchName=top Nodes=n1"
    fi
  } >"$dir/topology.conf"
}

# Daemons must not hold the caller's pipes: who reads them would wait for the cluster to end.
daemon() {
  TRIREME_SLURM_DIR=$dir "$@" </dev/null >>"$dir/daemons.log" 2>&1 9>&-
}

give_up() {
  echo "cluster.sh: $1; the end of the logs in $dir:" >&2
  tail -n 15 "$dir"/daemons.log "$dir"/munge/log "$dir"/ctld/log "$dir"/n*/log >&2 2>/dev/null || true
  down
  exit 1
}

up() {
  check_programs
  mkdir -p "$dir"
  # Two callers at once: the second finds the cluster of the first.
  exec 9>"$dir/lock"
  flock 9
  if [[ -n $(own_pids) ]]; then
    if has_controller && all_idle; then
      echo "cluster.sh: already up in $dir"
      return
    fi
    echo "cluster.sh: clearing away a cluster that does not answer"
    down
  fi
  rm -rf "$dir"/munge "$dir"/ctld "$dir"/n[0-9]* "$dir"/daemons.log
  mkdir -p "$dir"/munge "$dir"/ctld/state
  chmod 755 "$dir" "$dir"/munge  # munged refuses a socket that others cannot reach
  local i
  for ((i = 1; i <= nodes; i++)); do
    mkdir -p "$dir/n$i/spool" "$dir/n$i/tmp"
  done
  write_config

  mungekey --create --keyfile="$dir/munge/key"
  # --force: a checkout may lie in a folder that munged finds too open; the key is for tests.
  daemon munged --force --key-file="$dir/munge/key" --socket="$socket" --pid-file="$dir/munge/pid" \
    --seed-file="$dir/munge/seed" --log-file="$dir/munge/log" || give_up "munged did not start"
  wait_for 10 munge --no-input --socket="$socket" || give_up "munged does not answer"
  daemon slurmctld -f "$SLURM_CONF" || give_up "slurmctld did not start"
  for ((i = 1; i <= nodes; i++)); do
    daemon slurmd -N "n$i" -f "$SLURM_CONF" || give_up "slurmd n$i did not start"
  done
  wait_for "$start_timeout_s" all_idle || give_up "not all nodes came up within $start_timeout_s s"
  echo "cluster.sh: $nodes nodes up in $dir"
}

has_controller() { grep -qz "$SLURM_CONF" "/proc/$(cat "$dir/ctld/pid")/cmdline" 2>/dev/null; }
no_jobs() { [[ -z $(timeout 10 squeue -h -o %A) ]]; }
no_pids() { [[ -z $(own_pids) ]]; }

down() {
  local jobs
  if ! no_pids; then
    if has_controller && jobs=$(timeout 5 squeue -h -o %A 2>/dev/null) && [[ -n $jobs ]]; then
      # shellcheck disable=SC2086  # one argument per job
      timeout 10 scancel $jobs 2>/dev/null || true
      wait_for "$stop_timeout_s" no_jobs || true
    fi
    # shellcheck disable=SC2046
    kill $(own_pids) 2>/dev/null || true
    if ! wait_for 5 no_pids; then  # a slurmstepd whose slurmd died blocks SIGTERM
      # shellcheck disable=SC2046
      kill -9 $(own_pids) 2>/dev/null || true
      wait_for "$stop_timeout_s" no_pids || fail "these processes do not end: $(own_pids | tr '\n' ' ')"
    fi
  fi
  rm -f "$socket" "$socket.lock"
}

case $command in
  up) up ;;
  down)
    down
    echo "cluster.sh: down"
    ;;
  status)
    if ! no_pids && sinfo -N -o '%N %T'; then
      all_idle || exit 1
    else
      echo "cluster.sh: down"
      exit 1
    fi
    ;;
  env) echo "export SLURM_CONF=$SLURM_CONF" ;;
  *) fail "the first argument is up, down, status or env; see the top of $0" ;;
esac
