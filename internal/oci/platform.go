package oci

import (
	"fmt"
	"runtime"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/errdef"
)

// Platform is the operating system and processor that an image is for.
type Platform = ocispec.Platform

// Host is the platform of this machine.
func Host() Platform {
	p := Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH}
	if p.Architecture == "arm64" {
		p.Variant = "v8"
	}
	return p
}

// Format writes p as "os/architecture[/variant]".
func Format(p Platform) string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// ParsePlatform reads "os/architecture[/variant]", or an architecture alone, with the field's other names for
// architectures (x86_64, aarch64, armhf …). The empty text is the zero Platform: whatever the host is.
func ParsePlatform(s string) (Platform, error) {
	if s == "" {
		return Platform{}, nil
	}
	parts := strings.Split(strings.ToLower(s), "/")
	if len(parts) == 1 {
		parts = []string{"linux", parts[0]}
	}
	if len(parts) > 3 || parts[0] == "" || parts[1] == "" || parts[len(parts)-1] == "" {
		return Platform{}, fmt.Errorf("platform %.80q: want OS/ARCH[/VARIANT]: %w", s, errdef.ErrInvalid)
	}
	p := Platform{OS: parts[0]}
	p.Architecture, p.Variant = architecture(parts[1])
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	if p.Architecture == "arm64" && p.Variant == "" {
		p.Variant = "v8"
	}
	return p, nil
}

// architecture gives Go's name, and the variant that some other names imply.
func architecture(name string) (arch, variant string) {
	switch name {
	case "x86_64", "x86-64":
		return "amd64", ""
	case "aarch64":
		return "arm64", "v8"
	case "armhf":
		return "arm", "v7"
	case "armel":
		return "arm", "v6"
	case "i386", "i686":
		return "386", ""
	}
	return name, ""
}
