package cli

import "strings"

// dockerFlags are docker's flags, by verb, that strata does not have yet. Naming one is told apart from a mistyped flag.
var dockerFlags = map[string]string{
	"run": createOnly + " attach annotation", "create": createOnly + " attach annotation",
	"build": "attest squash memory cpu-shares",
	"logs":  "details",
	"start": "checkpoint",

	"update": "restart cpu-rt-period cpu-rt-runtime kernel-memory",
}

const createOnly = "add-host cap-add cap-drop cgroup-parent cgroupns " +
	"device gpus group-add health-cmd health-interval health-retries health-timeout ipc label-file link " +
	"log-driver log-opt mount no-healthcheck oom-kill-disable oom-score-adj pid " +
	"privileged restart runtime secret security-opt shm-size stop-signal stop-timeout sysctl ulimit userns uts " +
	"volume-driver volumes-from"

// dockerShorthands are the one-letter forms of those.
var dockerShorthands = map[string]string{"m": "memory", "a": "attach", "q": "quiet", "c": "cpu-shares"}

// dockerCommands are docker's commands that strata does not have yet.
const dockerCommands = "manifest volume compose context plugin swarm stack service node secret config trust"

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
