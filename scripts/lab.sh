# Sourced by scripts/demo and scripts/pair: four hosts (network namespaces: client, a, b, and the switch between
# them), a pair on a and b, and a cleanup that leaves nothing behind, also on Ctrl-C. Needs root.
# shellcheck shell=bash

readonly ID=us$$
readonly CLIENT=$ID-client A=$ID-a B=$ID-b SWITCH=$ID-switch
readonly SERVICE=198.18.0.100
readonly SLOWNESS=${UNDERSTUDY_TEST_SLOWNESS:-1}
DIR=$(mktemp -d)
PIDS=()
INODES=()

cleanup() {
  trap '' INT TERM HUP
  set +e
  # By pid, never by name. The namespaces' processes are all ours.
  for pid in "${PIDS[@]}"; do kill -9 "$pid" 2>/dev/null; done
  wait 2>/dev/null
  for ns in "$CLIENT" "$A" "$B" "$SWITCH"; do ip netns del "$ns" 2>/dev/null; done
  # Whoever is killed cannot remove its locks, which have the namespace in their names.
  for inode in "${INODES[@]}"; do
    rm -f /run/understudy/*-"$inode".lock /run/understudy-locks/"$inode"-*
  done
  rm -rf "$DIR"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

# wire NAMESPACE INTERFACE ADDRESS SWITCH_PORT BRIDGE: plugs a host into the switch.
wire() {
  ip -n "$1" link add "$2" type veth peer name "$4" netns "$SWITCH"
  ip -n "$1" addr add "$3" dev "$2"
  ip -n "$1" link set "$2" up
  ip -n "$SWITCH" link set "$4" master "$5" up
}

make_hosts() {
  local ns bridge
  for ns in "$CLIENT" "$A" "$B" "$SWITCH"; do
    ip netns add "$ns"
    INODES+=("$(stat -Lc %i "/run/netns/$ns")")
    ip -n "$ns" link set lo up
  done
  for bridge in clients nodes; do
    ip -n "$SWITCH" link add "$bridge" type bridge
    ip -n "$SWITCH" link set "$bridge" up
  done
  wire "$CLIENT" eth0 198.18.0.2/24 client clients
  wire "$A" svc0 198.18.0.11/24 a-svc clients
  wire "$B" svc0 198.18.0.12/24 b-svc clients
  wire "$A" rep0 198.19.0.1/24 a-rep nodes
  wire "$B" rep0 198.19.0.2/24 b-rep nodes
  (umask 077; head -c 32 /dev/urandom > "$DIR/key")
}

# start NODE FOLDER PROGRAM [FLAGS...]: runs a node of the pair with the flags of FOLDER, and with an arbiter file, a
# key and temporary data of our own. NODE_PID is its process.
start() {
  local node=$1 flags=$2
  shift 2
  TMPDIR=$DIR ip netns exec "$ID-$node" "$1" --flagfile="$flags/$node.flags" --arbiter="file:$DIR/arbiter" \
    --replication_key_file="$DIR/key" \
    ${UNDERSTUDY_TEST_SUSPECT_AFTER_MS:+--suspect_after_ms="$UNDERSTUDY_TEST_SUSPECT_AFTER_MS"} "${@:2}" \
    < /dev/null > "$DIR/$node.log" 2>&1 &
  NODE_PID=$!
  PIDS+=("$NODE_PID")
  disown   # its end is no news to the shell
}

status_url() {   # status_url NODE
  echo "http://198.19.0.$([[ $1 == a ]] && echo 1 || echo 2):7480/status"
}
status() {       # status NODE FIELD
  ip netns exec "$ID-$1" curl -s --max-time "$SLOWNESS" "$(status_url "$1")" |
    sed -n "s/.*\"$2\":\"\{0,1\}\([^\",}]*\).*/\1/p"
}
await() {        # await NODE STATE
  for _ in $(seq $((100 * SLOWNESS))); do
    [[ $(status "$1" state) == "$2" ]] && return
    sleep 0.1
  done
  echo "node $1 did not become $2:" >&2
  cat "$DIR/$1.log" >&2
  exit 1
}

# start_pair FOLDER PROGRAM [FLAGS...]: a as primary, b as its understudy; A_PID and B_PID are their processes.
start_pair() {
  start a "$@"
  A_PID=$NODE_PID
  await a solo
  start b "$@"
  # shellcheck disable=SC2034  # for who sources this
  B_PID=$NODE_PID
  await a protected
  await b protected
}
