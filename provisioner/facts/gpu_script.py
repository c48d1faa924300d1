"""What a host is asked about its GPUs: the bus, the modules, nvidia-smi, who computes."""

from __future__ import annotations

SMI_LIMIT_S = 60
"""Without persistence mode every query initialises all GPUs first, 1 to 3 s each (NVIDIA, driver
persistence): a board of 8 or 16 may need longer than any other answer."""

SCRIPT = r"""
for device in /sys/bus/pci/devices/*; do
  [ -r "$device/vendor" ] && read -r vendor < "$device/vendor" && [ "$vendor" = 0x10de ] || continue
  read -r class < "$device/class"
  read -r id < "$device/device"
  [ -e "$device/physfn" ] && continue  # a part of another one, for a virtual machine
  driver=none left_out=
  [ -e "$device/driver" ] && driver=$(readlink -f "$device/driver")
  [ -r "$device/driver_override" ] && case $(cat "$device/driver_override") in
    ''|'(null)'|nvidia) ;;
    *) left_out='|override' ;;
  esac
  grep -q '^GPU Excluded:[[:space:]]*Yes' \
    "/proc/driver/nvidia/gpus/${device##*/}/information" 2>/dev/null && left_out='|excluded'
  printf 'pci|%s|%s|%s|%s%s\n' "${device##*/}" "$class" "$id" "${driver##*/}" "$left_out"
done
[ -r /sys/module/nvidia/version ] && echo "module=$(cat /sys/module/nvidia/version)"
if [ -r /proc/driver/nvidia/version ]; then
  told=$(head -n1 /proc/driver/nvidia/version)
  [ -r /sys/module/nvidia/version ] ||
    echo "module=$(echo "$told" | grep -Eo '[0-9]{3}\.[0-9]+(\.[0-9]+)?' | head -n1)"
  case $told in *"Open Kernel Module"*) echo flavour=open ;; *) echo flavour=proprietary ;; esac
fi
[ -d /sys/module/nouveau ] && echo nouveau=1
for name in nvidia nvidia-current nvidia-current-open; do
  disk=$(modinfo "$name" 2>/dev/null) || continue
  echo "$disk" | sed -n 's/^version: */disk=/p; s/^license: */license=/p'
  break
done
library=$(ldconfig -p 2>/dev/null | sed -n '/libnvidia-ml\.so\.1 /{s/.*=> //p;q;}')
[ -n "$library" ] && echo "library=$(readlink -f "$library")"
command -v nvidia-uninstall >/dev/null && echo runfile=1
LIMIT_S=@SMI_LIMIT_S@
ask() { limited nvidia-smi --format=csv,noheader,nounits "$@" 2>&1; }
list() {
  ask "--query-gpu=index,uuid,driver_version,memory.total,$1persistence_mode,pci.bus_id,name"
}
without_capability() { list '' | sed 's/^\([^,]*,[^,]*,[^,]*,[^,]*,\)/\1 [N\/A],/'; }
asked=1 pids=
if command -v nvidia-smi >/dev/null; then
  echo smi=1
  {
    told=$(list compute_cap,)
    status=$?
    case $told in
      *'"compute_cap" is not a valid field'*) without_capability ;;  # before 510
      *) echo "$told"; [ $status = 0 ] || echo "nvidia-smi ended with status $status" ;;
    esac
  } | sed 's/^/gpu|/' &
  apps=$(ask --query-compute-apps=gpu_uuid,pid)
  asked=$?
  wait
  echo "$apps" | grep '^GPU-' | head -n 256 | sed 's/^/app|/'
  pids=$(echo "$apps" | sed -n 's/^GPU-.*, *//p')
fi
if [ $asked != 0 ] && [ -e /dev/nvidia-uvm ]; then
  root=
  as_root true 2>/dev/null && root=as_root
  pids=$($root find /proc/[0-9]*/fd -lname /dev/nvidia-uvm 2>/dev/null |
    sed 's|.*/proc/\([0-9]*\)/fd/.*|\1|')
  [ -z "$pids" ] || echo "$pids" | sort -u | head -n 256 | sed 's/^/holds|/'
fi
if [ -n "$pids" ]; then
  ps -o pid=,user:32=,comm= -p "$(echo "$pids" | sort -u | head -n 256 | paste -sd, -)" |
    sed 's/^ */ps|/'
fi
exit 0
""".replace("@SMI_LIMIT_S@", str(SMI_LIMIT_S))
