package runtime

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"strata/internal/errdef"
)

// profiles holds the profiles made so far by capability list: the steps of a build share one.
var profiles sync.Map //nolint:gochecknoglobals // a memo: what it gives depends on the key only

// defaultSeccomp is moby's default profile for a process with these capabilities, without the x32 ABI: no distribution
// has programs for it, kernels have it switched off, and compiling the filter for it costs the runtime several
// milliseconds at each start. A process that tries it is killed.
func defaultSeccomp(caps []string) (*specs.LinuxSeccomp, error) {
	key := strings.Join(caps, " ")
	if p, ok := profiles.Load(key); ok {
		return p.(*specs.LinuxSeccomp), nil
	}
	spec := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: caps}}}
	p, err := seccomp.GetDefaultProfile(spec)
	if err != nil {
		return nil, fmt.Errorf("seccomp profile: %w", err)
	}
	p.Architectures = slices.DeleteFunc(p.Architectures, func(a specs.Arch) bool { return a == specs.ArchX32 })
	profiles.Store(key, p)
	return p, nil
}

// LoadSeccomp gives a profile in moby's form, or the runtime-spec's, for a process with these capabilities.
func LoadSeccomp(profile string, caps []string) (*specs.LinuxSeccomp, error) {
	p, err := seccomp.LoadProfile(profile, &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: caps}}})
	if err != nil {
		return nil, fmt.Errorf("seccomp profile: %w: %w", err, errdef.ErrInvalid)
	}
	return p, nil
}

// CheckSeccomp says what is wrong with a profile.
func CheckSeccomp(profile string) error {
	_, err := LoadSeccomp(profile, AllCaps())
	return err
}
