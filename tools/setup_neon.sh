#!/usr/bin/env bash
# What the preset neon needs: Debian's cross compiler and qemu, and the libraries for 64-bit Arm, unpacked under build/arm64.
# apt fetches those with a state of its own there: this system's packages stay as they are.
set -euo pipefail
cd "$(dirname "$0")/.."
for tool in aarch64-linux-gnu-g++ qemu-aarch64; do
  command -v $tool >/dev/null && continue
  echo "setup: installing the cross compiler and qemu for the preset neon"
  sudo=()
  ((EUID == 0)) || sudo=(sudo -n)
  "${sudo[@]}" apt-get install -y -qq --no-install-recommends g++-aarch64-linux-gnu qemu-user >/dev/null
done
sysroot=$PWD/build/arm64
[[ -f $sysroot/complete ]] && exit
echo "setup: the libraries for 64-bit Arm go to build/arm64"
rm -rf "$sysroot"
mkdir -p "$sysroot"/apt/{state/lists/partial,cache/archives/partial}
apt=(apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Acquire::Retries=3 -o APT::Sandbox::User=root
  -o Dir::State="$sysroot/apt/state" -o Dir::State::status=/dev/null -o Dir::Cache="$sysroot/apt/cache")
"${apt[@]}" update >/dev/null
"${apt[@]}" install -y --download-only --no-install-recommends \
  libc6-dev libstdc++6 libgomp1 libhwy-dev libfmt-dev libgtest-dev libgmock-dev nlohmann-json3-dev >/dev/null
for package in "$sysroot"/apt/cache/archives/*.deb; do dpkg -x "$package" "$sysroot"; done
rm -r "$sysroot/apt"
touch "$sysroot/complete"
