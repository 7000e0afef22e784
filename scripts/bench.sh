#!/bin/bash
# Compares strata with docker, podman and buildah, where they are installed, and with the bare runtime. Prints medians and
# ratios: on a shared machine only these say anything. Uses a store of its own; the peers use theirs and are cleaned up.
#
#   scripts/bench.sh [runs]
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PWD/bin:$PATH"
runs=${1:-11}

work=$(mktemp -d)
image=strata-bench
export STRATA_ROOT=$work/store STRATA_RUN=$work/run
peers=()
cleanup() {
	for peer in "${peers[@]}"; do $peer rmi -f $image $image-50 >/dev/null 2>&1 || true; done
	chmod -R u+rwX "$work" 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT

median() { # COMMAND...: milliseconds of the median run
	local i start end
	for ((i = 0; i < runs; i++)); do
		start=$(date +%s%N)
		"$@" >/dev/null 2>"$work/err" </dev/null || { echo "failed: $*" >&2; tail -n 3 "$work/err" >&2; echo nan; return; }
		end=$(date +%s%N)
		echo $(((end - start) / 10000))
	done | sort -n | awk '{ v[NR] = $1 } END { printf "%.2f", v[int((NR + 1) / 2)] / 100 }'
}

row() { # NAME REFERENCE VALUE
	awk -v name="$1" -v ref="$2" -v v="$3" 'BEGIN { printf "  %-34s %10.2f ms  x %.2f\n", name, v, ref > 0 ? v / ref : 0 }'
}

for peer in docker podman buildah; do
	case $peer in
	buildah) command -v buildah >/dev/null && peers+=(buildah) ;;
	*) command -v $peer >/dev/null && $peer info >/dev/null 2>&1 && peers+=($peer) ;;
	esac
done
[ "$(id -u)" = 0 ] || echo "as a plain user: the bare runtime is not measured"

mkdir "$work/rootfs"
for layer in static toolbox; do strata-toolbox --base $layer | tar -C "$work/rootfs" -x --no-same-owner; done
tar -C "$work/rootfs" -cf "$work/rootfs.tar" .
strata import "$work/rootfs.tar" $image >/dev/null
for peer in "${peers[@]}"; do [ $peer = buildah ] || $peer import "$work/rootfs.tar" $image >/dev/null 2>&1; done

{
	echo "FROM $image"
	for i in $(seq 50); do echo "RUN echo $i > /file$i"; done
} >"$work/Dockerfile"
mkdir "$work/context"
ctx=(-f "$work/Dockerfile" "$work/context")

bare=0
if [ "$(id -u)" = 0 ]; then
	mkdir "$work/bundle" && mv "$work/rootfs" "$work/bundle/rootfs"
	(cd "$work/bundle" && strata-runc spec && sed -i 's/"terminal": true/"terminal": false/; s/"sh"/"true"/' config.json)
	bare=$(median strata-runc --root "$work/runc" run -b "$work/bundle" bench)
fi

echo "start of the program (x: of strata version)"
ref=$(median strata version); row "strata version" "$ref" "$ref"

echo "run --rm IMAGE true, no network (x: of the bare runtime)"
[ "$bare" = 0 ] || row "bare strata-runc" "$bare" "$bare"
row strata "$bare" "$(median strata run --rm --network none $image true)"
for peer in "${peers[@]}"; do [ $peer = buildah ] || row $peer "$bare" "$(median $peer run --rm --network none $image true)"; done

runs=3
fifty=$(awk -v b="$bare" 'BEGIN { print 50 * b }')
echo "build of 50 x RUN echo > file, no cache (x: of 50 bare runtimes)"
row strata "$fifty" "$(median strata build --no-cache -t $image-50 "${ctx[@]}")"
for peer in "${peers[@]}"; do row $peer "$fifty" "$(median $peer build --no-cache -t $image-50 "${ctx[@]}")"; done

runs=7
echo "the same, all cached (x: of strata)"
median strata build -t $image-50 "${ctx[@]}" >/dev/null
ref=$(median strata build -t $image-50 "${ctx[@]}"); row strata "$ref" "$ref"
for peer in "${peers[@]}"; do row $peer "$ref" "$(median $peer build -t $image-50 "${ctx[@]}")"; done
