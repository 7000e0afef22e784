package oci_test

import (
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/oci"
)

// Whatever a document says, what comes out of it are digests and sizes that can be.
func FuzzParseLinks(f *testing.F) {
	d := `{"digest":"sha256:` + strings.Repeat("a", 64) + `","size":3,"mediaType":"x/y"}`
	f.Add([]byte(`{"config":` + d + `,"layers":[` + d + `],"subject":` + d + `}`))
	f.Add([]byte(`{"manifests":[` + d + `],"blobs":[` + d + `],"artifactType":"a/b"}`))
	f.Add([]byte(`{"layers":[{"digest":"sha256:1","size":-1}]}`))
	f.Add([]byte(`{"config":null,"subject":null,"manifests":null}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		links, err := oci.ParseLinks(raw)
		if err != nil {
			return
		}
		all := append(append([]ocispec.Descriptor{}, links.Blobs...), links.Manifests...)
		if links.Subject.Digest != "" {
			all = append(all, links.Subject)
		}
		for _, l := range all {
			if _, err := oci.ParseDigest(string(l.Digest)); err != nil || l.Size < 0 {
				t.Errorf("%q leads to %+v", raw, l)
			}
		}
	})
}

func TestParseLinks(t *testing.T) {
	d := func(c string) string {
		return `{"digest":"sha256:` + strings.Repeat(c, 64) + `","size":3,"mediaType":"x/y"}`
	}
	links, err := oci.ParseLinks([]byte(`{"config":` + d("a") + `,"layers":[` + d("b") + `],"manifests":[` + d("c") + `],"subject":` + d("d") + `}`))
	if err != nil || len(links.Blobs) != 2 || len(links.Manifests) != 1 || links.Subject.Size != 3 || links.ArtifactType != "x/y" {
		t.Errorf("%+v, %v", links, err)
	}
	for _, raw := range []string{`[]`, `{"layers":[{}]}`, `{"config":{}}`, `{"subject":{"digest":"md5:1"}}`, `{"manifests":[{"digest":"sha256:` + strings.Repeat("a", 64) + `","size":-1}]}`} {
		if links, err := oci.ParseLinks([]byte(raw)); err == nil {
			t.Errorf("%s: %+v", raw, links)
		}
	}
}
