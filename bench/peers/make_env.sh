#!/usr/bin/env bash
# Make the environment of one contestant: a virtual environment with its package and nothing of ours.
#
#   bench/peers/make_env.sh dask [FOLDER]      FOLDER is runs/peers/env by default
#   bench/peers/make_env.sh all
#
# Then: python bench/peers.py SLIDE --python dask=runs/peers/env/dask/bin/python ...
# TORCH_PIP="--index-url URL" chooses where torch comes from; the index's own wheels for Linux bring CUDA.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
name=${1:?usage: make_env.sh NAME [FOLDER]; names: $(cd "$here/environments" && ls | sed s/.txt//g | xargs) all}
folder=${2:-runs/peers/env}

if [ "$name" = all ]; then
    for file in "$here"/environments/*.txt; do
        "$0" "$(basename "$file" .txt)" "$folder" || echo "$(basename "$file" .txt): not made" >&2
    done
    exit 0
fi

packages="$here/environments/$name.txt"
[ -f "$packages" ] || { echo "error: no $packages" >&2; exit 2; }
"${PYTHON:-python3}" -m venv "$folder/$name"
pip="$folder/$name/bin/python -m pip --disable-pip-version-check install --quiet"
if grep -q '^torch' "$packages"; then
    # shellcheck disable=SC2046,SC2086
    $pip ${TORCH_PIP:-} $(grep '^torch' "$packages")
fi
$pip -r "$packages"
echo "$folder/$name/bin/python"
