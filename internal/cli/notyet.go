package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"strata/internal/errdef"
)

// dockerFlags are docker's flags, by verb, that strata does not have yet. Naming one is told apart from a mistyped flag.
var dockerFlags = map[string]string{
	"run": createOnly + " attach annotation", "create": createOnly + " attach annotation",
	"exec":  "detach-keys",
	"build": "add-host annotation allow attest build-context cache-from cache-to call check cgroup-parent load metadata-file no-cache-filter output platform provenance push sbom secret shm-size ssh ulimit rm force-rm compress squash memory cpu-shares isolation",
	"logs":  "details",
	"start": "checkpoint",
}

const createOnly = "add-host blkio-weight cap-add cap-drop cgroup-parent cgroupns cpu-period cpu-quota cpu-shares cpus cpuset-cpus cpuset-mems " +
	"device dns dns-option dns-search domainname expose gpus group-add health-cmd health-interval health-retries health-timeout ip ipc label-file link " +
	"log-driver log-opt mac-address memory memory-reservation memory-swap mount network-alias no-healthcheck oom-kill-disable oom-score-adj pid " +
	"pids-limit platform privileged publish publish-all restart runtime secret security-opt shm-size stop-signal stop-timeout sysctl ulimit userns uts " +
	"volume-driver volumes-from"

// dockerShorthands are the one-letter forms of those.
var dockerShorthands = map[string]string{"p": "publish", "P": "publish-all", "m": "memory", "a": "attach", "q": "quiet", "c": "cpu-shares", "o": "output"}

// dockerCommands are docker's commands that strata does not have yet.
const dockerCommands = "search manifest cp diff rename restart pause unpause port stats top update events info volume network buildx compose context plugin swarm stack service node secret config trust"

// flagError is what a flag that is not there gets: docker's that is still to come, or one that nobody knows.
func flagError(c *cobra.Command, err error) error {
	name := flagName(err.Error())
	if long, ok := dockerShorthands[name]; ok && len(name) == 1 {
		name = long
	}
	if name != "" && word(dockerFlags[c.Name()], name) {
		return usageError{errdef.WithHint(fmt.Errorf("flag --%s of docker's %s: %w yet", name, c.Name(), errdef.ErrUnsupported), fmt.Sprintf("'%s --help' lists what there is", c.CommandPath()))}
	}
	return usageError{errdef.WithHint(err, fmt.Sprintf("see '%s --help'", c.CommandPath()))}
}

// flagName takes the flag's name out of pflag's message: "unknown flag: --x", "unknown shorthand flag: 'x' in -xy".
func flagName(msg string) string {
	if name, ok := strings.CutPrefix(msg, "unknown flag: --"); ok {
		name, _, _ = strings.Cut(name, "=")
		return name
	}
	if rest, ok := strings.CutPrefix(msg, "unknown shorthand flag: '"); ok && rest != "" {
		return rest[:1]
	}
	return ""
}

// word reports whether name is one of the words of list.
func word(list, name string) bool {
	for w := range strings.FieldsSeq(list) {
		if w == name {
			return true
		}
	}
	return false
}
