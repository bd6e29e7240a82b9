#!/usr/bin/env bash
# Make the environment of one contestant: a virtual environment with its package and nothing else.
#
#   bench/peers/make_env.sh dask [FOLDER]      FOLDER is runs/peers/env by default
#   bench/peers/make_env.sh all
#
# Then: python bench/peers.py SLIDE --envs runs/peers/env ...
# An environment that is there is kept; remove its folder to make it anew.
# An environment that is not made within LIMIT_S seconds (900) is removed; the reason is left in
# FOLDER/NAME.not-made, from where the table takes it.
# TORCH_PIP="--index-url URL" chooses where torch comes from; the index's own wheels for Linux bring CUDA.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
name=${1:?usage: make_env.sh NAME [FOLDER]; names: $(cd "$here/environments" && ls | sed s/.txt//g | xargs) all}
folder=${2:-runs/peers/env}
limit_s=${LIMIT_S:-900}

if [ "$name" = all ]; then
    for file in "$here"/environments/*.txt; do
        "$0" "$(basename "$file" .txt)" "$folder" || true
    done
    exit 0
fi

if [ -f "$folder/$name/made" ]; then
    echo "$folder/$name/bin/python"
    exit 0
fi
packages="$here/environments/$name.txt"
[ -f "$packages" ] || { echo "error: no $packages" >&2; exit 2; }
mkdir -p "$folder"
rm -rf "${folder:?}/$name" # what an interrupted run left
log="$folder/$name.log"

make_it() {
    "${PYTHON:-python3}" -m venv "$folder/$name"
    pip="$folder/$name/bin/python -m pip --disable-pip-version-check install --quiet"
    if grep -q '^torch' "$packages"; then
        # shellcheck disable=SC2046,SC2086
        $pip ${TORCH_PIP:-} $(grep '^torch' "$packages")
    fi
    # A line "#alone NAME" is installed last and without what it asks for: the lines above have that.
    $pip -r "$packages"
    # shellcheck disable=SC2046
    ! grep -q '^#alone ' "$packages" || $pip --no-deps $(sed -n 's/^#alone //p' "$packages")
}
export -f make_it
export PYTHON="${PYTHON:-python3}" TORCH_PIP="${TORCH_PIP:-}" name folder packages

status=0
limit=$(command -v timeout || true) # macOS has none
${limit:+"$limit" "$limit_s"} bash -euo pipefail -c make_it >"$log" 2>&1 || status=$?
if [ "$status" = 0 ]; then
    rm -f "$log" "$folder/$name.not-made"
    touch "$folder/$name/made"
    echo "$folder/$name/bin/python"
    exit 0
fi
rm -rf "${folder:?}/$name"
reason=$(grep -i '^error' "$log" | tail -1 || true)
[ "$status" != 124 ] || reason="not installed within $((limit_s / 60)) minutes"
echo "${reason:-pip ended with exit code $status}" >"$folder/$name.not-made"
echo "$name: not made: $(cat "$folder/$name.not-made") (see $log)" >&2
exit 1
