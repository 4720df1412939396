#!/usr/bin/env bash
# What the preset neon needs: Debian's cross compiler and qemu, and the libraries for 64-bit Arm, unpacked under build/arm64.
set -euo pipefail
cd "$(dirname "$0")/.."
for tool in aarch64-linux-gnu-g++ qemu-aarch64; do
  command -v $tool >/dev/null && continue
  echo "setup: installing the cross compiler and qemu for the preset neon"
  apt-get install -y -q --no-install-recommends g++-aarch64-linux-gnu qemu-user >/dev/null
done
packages=(libc6 libc6-dev libcrypt1 libcrypt-dev linux-libc-dev libgcc-s1 libstdc++6 libgomp1 libhwy1 libhwy-dev
  libfmt9 libfmt-dev libgtest-dev libgmock-dev)
sysroot=build/arm64
[[ -f $sysroot/complete ]] && exit
echo "setup: the libraries for 64-bit Arm go to $sysroot"
rm -rf $sysroot
mkdir -p $sysroot/packages
dpkg --print-foreign-architectures | grep -q '^arm64$' || { dpkg --add-architecture arm64 && apt-get update -q >/dev/null; }
(cd $sysroot/packages && apt-get download -q "${packages[@]/%/:arm64}" nlohmann-json3-dev googletest >/dev/null)
for package in $sysroot/packages/*.deb; do dpkg -x "$package" $sysroot; done
rm -r $sysroot/packages
touch $sysroot/complete
