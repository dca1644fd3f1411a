#!/usr/bin/env bash
# Does what Spaces does with this repository, and prints what came of it as one JSON object, last:
# a fresh virtual environment of the stated Python with the stated gradio, then `python app.py` as a user without rights on a
# read-only checkout, 16 GB of memory, no Hub. Exit code 1 if it was not ready in 25 s or took more than 3 GB.
#
#   bash tests/space/rehearse.sh            RECON_BUNDLE=… bash tests/space/rehearse.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=${PATH//"${VIRTUAL_ENV:-/none}/bin:"/} # an environment that is active stays out of it

stated() { sed -n "s/^$1: *\"\{0,1\}\([0-9.]*\)\"\{0,1\}$/\1/p" README.md; }

without_rights=()
user=$(id -un)
if [ "$(id -u)" = 0 ]; then
  without_rights=(setpriv --reuid=65534 --regid=65534 --clear-groups)
  user="65534, without groups"
fi
for python in "python$(stated python_version)" python3 /usr/bin/python3; do # what ran is in the output
  if "${without_rights[@]}" "$python" -c "import venv" 2>/dev/null; then break; fi
done

work=$(mktemp -d)
app=
end() {
  [ -z "$app" ] || { kill "$app" 2>/dev/null || true; wait "$app" 2>/dev/null || true; }
  [ -z "${cgroup:-}" ] || rmdir "$cgroup" 2>/dev/null || true
  chmod -R u+w "$work" && rm -rf "$work"
}
trap end EXIT
chmod 755 "$work"
mkdir -p "$work/checkout" "$work/home/tmp"
git ls-files -z | xargs -0 cp --parents -t "$work/checkout"
chmod -R a+rX,a-w "$work/checkout"
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install -q "gradio==$(stated sdk_version)" -r requirements.txt

[ "$(id -u)" != 0 ] || chown -R 65534:65534 "$work/home"
cgroup=
limit="none: this machine lets nobody set one; the peak was measured"
for control in /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes; do # version 2, version 1
  group=$(dirname "$control")/rehearsal.$$
  if mkdir "$group" 2>/dev/null && [ -w "$group/$(basename "$control")" ] && echo 16G >"$group/$(basename "$control")"; then
    cgroup=$group
    limit="cgroup, 16 GB"
    break
  fi
  rmdir "$group" 2>/dev/null || true
done

port=$("$work/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
started=$(date +%s.%N)
(
  cd "$work/checkout"
  [ -z "$cgroup" ] || echo "$BASHPID" >"$cgroup/cgroup.procs"
  exec "${without_rights[@]}" env -i PATH="$work/venv/bin:/usr/bin:/bin" HOME="$work/home" TMPDIR="$work/home/tmp" LANG=C.UTF-8 \
    HF_HUB_OFFLINE=1 GRADIO_SERVER_PORT="$port" RECON_BUNDLE="${RECON_BUNDLE:-}" python app.py
) >"$work/log" 2>&1 &
app=$!
"$work/venv/bin/python" tests/space/visit.py "http://127.0.0.1:$port/" "$app" "$started" \
  "{\"stated_python\": \"$(stated python_version)\", \"user\": \"$user\", \"memory_limit\": \"$limit\"}" ||
  { tail -n 40 "$work/log" >&2; exit 1; }
