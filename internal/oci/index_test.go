package oci_test

import (
	"errors"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/errdef"
	"strata/internal/oci"
)

func platformed(name string, p *oci.Platform) ocispec.Descriptor {
	return ocispec.Descriptor{Digest: "sha256:0", URLs: []string{name}, Platform: p}
}

func TestChoose(t *testing.T) {
	amd := platformed("amd64", &oci.Platform{OS: "linux", Architecture: "amd64"})
	v6 := platformed("v6", &oci.Platform{OS: "linux", Architecture: "arm", Variant: "v6"})
	v7 := platformed("v7", &oci.Platform{OS: "linux", Architecture: "arm", Variant: "v7"})
	unknown := platformed("unknown", &oci.Platform{OS: "unknown", Architecture: "unknown"})
	attestation := platformed("attestation", &oci.Platform{OS: "linux", Architecture: "amd64"})
	attestation.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	silent := platformed("silent", nil)
	for _, c := range []struct {
		name string
		all  []ocispec.Descriptor
		want oci.Platform
		got  string // "" is an error
	}{
		{"the one", []ocispec.Descriptor{attestation, unknown, amd, v7}, oci.Platform{OS: "linux", Architecture: "amd64"}, "amd64"},
		{"the best", []ocispec.Descriptor{v6, v7}, oci.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}, "v7"},
		{"one that runs too", []ocispec.Descriptor{v6}, oci.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}, "v6"},
		{"none", []ocispec.Descriptor{v7}, oci.Platform{OS: "linux", Architecture: "amd64"}, ""},
		{"the only one says nothing", []ocispec.Descriptor{silent, unknown}, oci.Platform{OS: "linux", Architecture: "amd64"}, "silent"},
		{"two say nothing", []ocispec.Descriptor{silent, silent}, oci.Platform{OS: "linux", Architecture: "amd64"}, ""},
	} {
		d, err := oci.Choose(c.all, c.want)
		if c.got == "" {
			if !errors.Is(err, errdef.ErrUnsupported) {
				t.Errorf("%s: got %v, %v", c.name, d, err)
			}
			continue
		}
		if err != nil || d.URLs[0] != c.got {
			t.Errorf("%s: got %v, %v; want %s", c.name, d.URLs, err, c.got)
		}
	}
}

func FuzzParseIndex(f *testing.F) {
	f.Add([]byte(`{"manifests":[{"digest":"sha256:` + strings.Repeat("a", 64) + `","platform":{"os":"linux","architecture":"arm"}}]}`))
	f.Add([]byte(`{"manifests":[{"digest":"md5:1"}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		x, err := oci.ParseIndex(raw)
		if err != nil {
			return
		}
		if d, err := oci.Choose(x.Manifests, oci.Host()); err == nil {
			if _, err := oci.ParseDigest(string(d.Digest)); err != nil {
				t.Errorf("chose %v", d)
			}
		}
	})
}
