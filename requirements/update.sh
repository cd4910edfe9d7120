#!/usr/bin/env bash
# Writes the exact versions of both environments as pip constraint files: versions only, no addresses.
set -euo pipefail
cd "$(dirname "$0")/.."
freeze() { "$1/bin/python" -m pip freeze --all --exclude-editable | sed -E 's/ @ .*//; s/\+cpu$//' | grep '=='; }
freeze .venv > requirements/development.txt
freeze .venv-serving > requirements/serving.txt
