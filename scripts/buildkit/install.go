package buildkit

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Version is what strata is compared with: the version whose parser strata has.
const Version = "v0.33.1"

// Programs is the directory of buildkitd and buildctl below cache, where "" is strata-conformance in the user's cache. They
// are built if they are not there yet, which takes the network and some minutes.
//
// "go install" refuses a module that excludes versions, so they are built where the module lies.
func Programs(ctx context.Context, cache string) (string, error) {
	if cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		cache = filepath.Join(dir, "strata-conformance")
	}
	bin := filepath.Join(cache, "buildkit-"+Version)
	if _, err := os.Stat(filepath.Join(bin, "buildctl")); err == nil {
		return bin, nil
	}
	fmt.Fprintf(os.Stderr, "building BuildKit %s into %s\n", Version, bin)
	out, err := command(ctx, "go", "mod", "download", "-json", "github.com/moby/buildkit@"+Version).Output()
	if err != nil {
		return "", fmt.Errorf("go mod download: %w", err)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		return "", err
	}
	for _, program := range []string{"buildkitd", "buildctl"} { // the one looked for comes last
		cmd := command(ctx, "go", "build", "-o", filepath.Join(bin, program), "./cmd/"+program)
		cmd.Dir = module.Dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s: %w: %s", program, err, out)
		}
	}
	return bin, nil
}

func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	return cmd
}
