package oci

import (
	"fmt"
	"runtime"

	"github.com/containerd/platforms"
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
	p, err := platforms.Parse(s)
	if err != nil {
		return Platform{}, fmt.Errorf("platform %.80q: want OS/ARCH[/VARIANT]: %w", s, errdef.ErrInvalid)
	}
	return platforms.Normalize(p), nil
}

// Runs reports whether an image with this config is one for the platform, or runs on it.
func Runs(on Platform, img *Image) bool {
	return platforms.Only(on).Match(Platform{OS: img.OS, Architecture: img.Architecture, Variant: img.Variant})
}
