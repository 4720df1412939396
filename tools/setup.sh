#!/usr/bin/env bash
# Installs what the build needs and this machine lacks: Debian packages by apt, oneDNN by pip into build/env.
# When nothing is missing it only looks, without network. Where it may not install, it says what to ask for.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(cmake ninja-build make g++ pkg-config python3 python3-venv
  libhwy-dev nlohmann-json3-dev libcli11-dev libfmt-dev libzip-dev zlib1g-dev libhdf5-dev
  libjpeg62-turbo-dev libpng-dev libsqlite3-dev
  libgtest-dev libgmock-dev libbenchmark-dev)
# Nothing fails without these; they come along where we may install.
conveniences=(ccache clang-format valgrind)

if ! command -v dpkg-query >/dev/null; then
  echo "setup: this is no Debian system; it needs the counterparts of: ${packages[*]}" >&2
  exit 1
fi
installed=" $(dpkg-query -W -f='${db:Status-Status} ${Package} ' "${packages[@]}" "${conveniences[@]}" 2>/dev/null || true)"
lacking() { for package; do [[ $installed == *" installed $package "* ]] || echo "$package"; done; }
mapfile -t missing < <(lacking "${packages[@]}")
mapfile -t welcome < <(lacking "${conveniences[@]}")

if ((${#missing[@]} || (${#welcome[@]} && EUID == 0))); then
  apt=(apt-get -qq -o Acquire::Retries=3 -o Dpkg::Use-Pty=0)
  if ((EUID != 0)); then
    if sudo -n true 2>/dev/null; then
      apt=(sudo -n DEBIAN_FRONTEND=noninteractive "${apt[@]}")
    else
      echo "setup: these Debian packages are missing, and I may not install them. Please ask for:" >&2
      echo "  apt-get install ${missing[*]}" >&2
      exit 1
    fi
  fi
  export DEBIAN_FRONTEND=noninteractive
  missing+=("${welcome[@]}")
  echo "setup: installing ${missing[*]}"
  if ! { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null; }; then
    echo "setup: apt could not install them; it needs Debian's archive, or a mirror of it" >&2
    exit 1
  fi
fi

# The copy of the list that was installed is the stamp.
if ! cmp -s cmake/requirements.txt build/env/requirements.txt; then
  echo "setup: installing oneDNN into build/env"
  python=/usr/bin/python3
  [[ -x $python ]] || python=python3
  rm -rf build/env
  $python -m venv build/env
  if ! build/env/bin/pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes \
      --retries 5 -r cmake/requirements.txt; then
    echo "setup: pip could not install cmake/requirements.txt (oneDNN, 60 MB) into build/env; it needs the Python package" >&2
    echo "  index, or a mirror named by PIP_INDEX_URL. Without oneDNN: cmake --preset own && cmake --build --preset own" >&2
    exit 1
  fi
  # A wheel holds no links, so it brings the library three times.
  for name in libdnnl.so libdnnl.so.3; do
    ln -sf libdnnl.so.3.2 build/env/lib/$name
  done
  cp cmake/requirements.txt build/env/requirements.txt
fi
