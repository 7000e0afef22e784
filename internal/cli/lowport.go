package cli

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"strata/internal/container"
	"strata/internal/userns"
)

// lowPortHint explains to a plain user, whose container on the host's network has failed, that it could not listen on a port
// that the image exposes. "" where that cannot have been the reason.
func lowPortHint(rec container.Record, first int) string {
	if rec.Host.Network != "host" {
		return ""
	}
	var low []string
	for port := range rec.Config.ExposedPorts {
		number, _, _ := strings.Cut(port, "/")
		if n, err := strconv.Atoi(number); err == nil && n > 0 && n < first {
			low = append(low, number)
		}
	}
	if len(low) == 0 {
		return ""
	}
	slices.Sort(low)
	lowest := low[0]
	return fmt.Sprintf("the image exposes port %s, and only root may listen below %d on the host's network: let the program listen higher, or sudo sysctl net.ipv4.ip_unprivileged_port_start=%s",
		strings.Join(low, " and "), first, lowest)
}

// firstFreePort is the first port that a plain user may listen on.
func firstFreePort() int {
	raw, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil {
		return 1024
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		return 1024
	}
	return n
}

// sayLowPort prints the hint about low ports where it may be the reason why a container failed.
func (a *app) sayLowPort(rec container.Record, res container.Result) {
	if !userns.Active() || res.Detached || res.Code == 0 || res.Code > 125 || res.Problem != nil {
		return
	}
	if hint := lowPortHint(rec, firstFreePort()); hint != "" {
		fmt.Fprintln(a.err, "hint:", hint)
	}
}
