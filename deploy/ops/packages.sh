#!/bin/sh
# Installs Debian packages, as root, without the services that some of them bring: Debian would start a broker,
# enable it for every boot, and RabbitMQ would listen on every interface. Tests and benches start their own.
set -eu
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
if command -v systemctl >/dev/null; then
  for package in "$@"; do
    if systemctl cat "$package.service" >/dev/null 2>&1; then systemctl disable "$package.service"; fi
  done
fi
echo "installed, nothing started: $*"
