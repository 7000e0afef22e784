package cli

import (
	"fmt"
	"os"
	"strings"

	"strata/internal/errdef"
)

// dockerGlobals takes docker's own flags that stand before the verb out of the command line: where its configuration is
// counts here too, the one context that there is may be named, and what leads to another daemon is refused. Strata's own
// flags stay.
func dockerGlobals(args []string) ([]string, error) {
	var kept []string
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		name, value, width := globalFlag(args)
		switch name {
		case "--root", "--run-dir":
			kept = append(kept, args[:width]...)
		case "-D", "--debug", "-l", "--log-level":
			// How much docker's client tells of its talks with the daemon: there are none.
		case "--config":
			if err := os.Setenv("DOCKER_CONFIG", value); err != nil {
				return nil, usagef("--config %q: %w", value, err)
			}
		case "-c", "--context":
			if value != contextName {
				return nil, noSuchContext(value)
			}
		case "-H", "--host", "--tls", "--tlsverify", "--tlscacert", "--tlscert", "--tlskey":
			err := fmt.Errorf("docker's flag %s names a daemon, and there is none to talk to: %w", name, errdef.ErrUnsupported)
			return nil, usageError{errdef.WithHint(err, "strata works where it is called; another machine's is reached by ssh HOST strata …")}
		default:
			return append(kept, args...), nil
		}
		args = args[width:]
	}
	return append(kept, args...), nil
}

// globalFlag cuts the flag in front into its name and its value, and says how many words both take.
func globalFlag(args []string) (name, value string, width int) {
	name, value, given := strings.Cut(args[0], "=")
	if !strings.HasPrefix(name, "--") && len(args[0]) > 2 { // -cNAME
		name, value, given = args[0][:2], strings.TrimPrefix(args[0][2:], "="), true
	}
	switch {
	case given || name == "-D" || name == "--debug" || strings.HasPrefix(name, "--tls"):
		return name, value, 1
	case len(args) > 1:
		return name, args[1], 2
	}
	return name, "", 1
}
