# Measures S10 and S11 of docs/security.md in the containers that docker.sh has started. docker.sh
# sources this file.

say 'S11: what the containers may do …'
for container in eudai-server-1 eudai-ollama-1; do
	status=$(docker exec "$container" cat /proc/1/status | tr '\t' ' ' |
		grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs|Seccomp):')
	echo "$container" $status
	require "$container has capabilities" "$status" 'CapEff: 0000000000000000'
	require "$container can get capabilities" "$status" 'CapBnd: 0000000000000000'
	require "$container may gain privileges" "$status" 'NoNewPrivs: 1'
	written=$(docker exec "$container" touch /opt/x 2>&1 || true)
	require "$container can write its file system" "$written" 'Read-only file system'
	# A daemon without seccomp says so, and then there is nothing to measure.
	if docker info --format '{{.SecurityOptions}}' | grep -q seccomp; then
		require "$container has no seccomp filter" "$status" 'Seccomp: 2'
	else
		say "NOT MEASURED: this daemon has no seccomp"
	fi
done
status=$(docker exec eudai-server-1 cat /proc/1/status | tr '\t' ' ')
require 'the server runs as another user' "$status" 'Uid: 65532 65532 65532 65532'
for program in sh bash dash apt-get dpkg perl pip su mount; do
	found=$(docker exec eudai-server-1 "$program" --version 2>&1 || true)
	require "the server's image has $program" "$found" 'executable file not found'
done
echo 'eudai-server-1: no sh, bash, dash, apt-get, dpkg, perl, pip, su or mount'

say 'S10: who reaches Ollama, and what Ollama reaches …'
# Prints, for each address:port, `open` if something answers, or how the attempt ends. Some gateways
# accept connections to every address, and answer HTTP with an error. That is not an open port.
connect='
import errno, socket, sys
for target in sys.argv[1:]:
    host, _, port = target.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=2) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = connection.recv(16)
            refused = not answer or answer.startswith(b"HTTP/") and b" 200" not in answer
            print(target, "refused" if refused else "open")
    except OSError as error:
        print(target, errno.errorcode.get(error.errno, type(error).__name__))
'
address() { docker inspect --format "{{(index .NetworkSettings.Networks \"$2\").IPAddress}}" "$1"; }
ollama=$(address eudai-ollama-1 eudai_backend)
server=$(address eudai-server-1 eudai_front)
require_closed() { echo "$1:" $2; [[ $2 != *' open'* ]] || { say "$1: $2"; exit 1; }; }

# The same probe finds an open port where there is one.
opened=$(docker exec eudai-server-1 python -c "$connect" "$ollama:11434")
require 'the server cannot reach ollama' "$opened" ' open$'
for network in eudai_front eudai_registry bridge; do
	require_closed "from the network $network" "$(docker run --rm --network "$network" \
		python:3.13-slim python3 -c "$connect" "$ollama:11434" "$ollama:22")"
done
require_closed 'from the host' "$(python3 -c "$connect" "$ollama:11434")"

# A listener on all addresses of the host, which a container of the default network can reach.
port=$((EUDAI_PORT + 1))
python3 -m http.server "$port" --bind 0.0.0.0 > "$work/listener.log" 2>&1 &
listener=$!
targets="$server:50051 198.51.100.1:443"
for host in $(ip -o -4 addr show scope global | awk '{sub("/.*", "", $4); print $4}'); do
	targets="$targets $host:$port"
done
own=$(ip -o -4 addr show docker0 | awk '{sub("/.*", "", $4); print $4}')
for _ in $(seq 20); do
	opened=$(docker run --rm --network bridge python:3.13-slim python3 -c "$connect" "$own:$port")
	[[ $opened == *' open' ]] && break
done
require 'the listener of the host cannot be reached by any container' "$opened" ' open$'
# Rules without a target count the packets that leave the network.
iptables -I INPUT -i "$bridge"
iptables -I FORWARD -i "$bridge" ! -o "$bridge"
reached=$(docker exec eudai-ollama-1 /opt/runner/bin/python -c "$connect" $targets)
packets=$(iptables -nvxL INPUT 1 | awk '{print $1}')
packets=$((packets + $(iptables -nvxL FORWARD 1 | awk '{print $1}')))
iptables -D INPUT 1
iptables -D FORWARD 1
kill "$listener"
require_closed 'from ollama' "$reached"
echo "packets that left the network of ollama: $packets"
require 'packets left the network of ollama' "$packets" '^0$'
require 'the host has an address on the network of ollama' \
	"[$(ip -o -4 addr show "$bridge")]" '^\[\]$'
