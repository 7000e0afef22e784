package cli

import "strings"

// absentFlags says of those flags of docker's run and create that strata does not have, and never will, why not.
var absentFlags = map[string]string{
	"cpu-count":             "it is for Windows; --cpus N",
	"cpu-percent":           "it is for Windows; --cpus N",
	"io-maxbandwidth":       "it is for Windows",
	"io-maxiops":            "it is for Windows",
	"isolation":             "it is for Windows: every container has namespaces of its own",
	"disable-content-trust": "there is no content trust of docker's to switch off",
	"gpus":                  "devices are given by the names of the Container Device Interface: --device nvidia.com/gpu=all, after nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml",
	"kernel-memory":         "the kernel has no such limit any more; --memory counts its memory, too",
	"link":                  "containers find each other by name on a network of their own: strata network create NET, then --network NET for both",
	"storage-opt":           "a container's layer is a directory, which has no size of its own to bound",
	"use-api-socket":        "there is no daemon whose socket could be given",
}

// laterFlags are docker's flags, by verb, that strata does not have yet. Naming one is told apart from a mistyped flag.
var laterFlags = map[string]string{
	"build": "attest squash memory cpu-shares",
	"start": "checkpoint checkpoint-dir",
}

// dockerShorthands are the one-letter forms of those.
var dockerShorthands = map[string]string{"m": "memory", "q": "quiet", "c": "cpu-shares"}

// absentCommands says of docker's commands that strata does not have, and never will, why not.
var absentCommands = map[string]string{
	"swarm":      noCluster,
	"stack":      noCluster,
	"service":    noCluster,
	"node":       noCluster,
	"secret":     noCluster + "; a container's secrets are given by run --secret",
	"config":     noCluster + "; a container's files are given by -v",
	"plugin":     "there is no daemon that could load plugins: drivers are built in, runtimes are programs (run --runtime)",
	"checkpoint": "the runtime is built without CRIU, which freezes processes to disk",
}

const noCluster = "strata runs the containers of one machine, without a cluster"

// laterCommands are docker's commands that strata does not have yet.
const laterCommands = "compose trust"

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
