package oci

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/errdef"
)

// MaxConfig and MaxManifest bound what is read of a foreign config or manifest, in bytes. The registries' own bound for
// manifests is 4 MiB; no config in the field comes near 8 MiB.
const (
	MaxConfig   = 8 << 20
	MaxManifest = 4 << 20
)

// Image is an image configuration: the OCI config (image-spec, config.md) with the fields that docker adds.
type Image struct {
	Created      *time.Time `json:"created,omitempty"`
	Author       string     `json:"author,omitempty"`
	Architecture string     `json:"architecture"`
	Variant      string     `json:"variant,omitempty"`
	OS           string     `json:"os"`
	OSVersion    string     `json:"os.version,omitempty"`
	OSFeatures   []string   `json:"os.features,omitempty"`
	Config       Config     `json:"config"`
	RootFS       RootFS     `json:"rootfs"`
	History      []History  `json:"history,omitempty"`
}

// RootFS lists the layers of an image, base first.
type RootFS struct {
	Type    string   `json:"type"`
	DiffIDs []DiffID `json:"diff_ids"`
}

// History is one entry of an image's history: one instruction of its Dockerfile.
type History = ocispec.History

// Config is what a container of the image starts with. Field order and omitempty follow docker's.
type Config struct {
	User         string              `json:"User,omitempty"`
	ExposedPorts map[string]struct{} `json:"ExposedPorts,omitempty"`
	Env          []string            `json:"Env,omitempty"`
	Entrypoint   []string            `json:"Entrypoint,omitempty"`
	Cmd          []string            `json:"Cmd,omitempty"`
	Volumes      map[string]struct{} `json:"Volumes,omitempty"`
	WorkingDir   string              `json:"WorkingDir,omitempty"`
	Labels       map[string]string   `json:"Labels,omitempty"`
	StopSignal   string              `json:"StopSignal,omitempty"`
	ArgsEscaped  bool                `json:"ArgsEscaped,omitempty"`
	Healthcheck  *Healthcheck        `json:"Healthcheck,omitempty"`
	OnBuild      []string            `json:"OnBuild,omitempty"`
	Shell        []string            `json:"Shell,omitempty"`
}

// Healthcheck is docker's health check of a container. Durations are nanoseconds in JSON; zero means inherit.
// Test is {"NONE"}, {"CMD", args…} or {"CMD-SHELL", command}.
type Healthcheck struct {
	Test          []string      `json:"Test,omitempty"`
	Interval      time.Duration `json:"Interval,omitempty"`
	Timeout       time.Duration `json:"Timeout,omitempty"`
	StartPeriod   time.Duration `json:"StartPeriod,omitempty"`
	StartInterval time.Duration `json:"StartInterval,omitempty"`
	Retries       int           `json:"Retries,omitempty"`
}

// ParseImage decodes and checks a config: os and architecture are there, every diffID is one.
func ParseImage(raw []byte) (*Image, error) {
	var img Image
	return parseImage(raw, &img, &img)
}

// ParseBrief is [ParseImage] without the history, which is most of a config and nothing to a list of many images.
func ParseBrief(raw []byte) (*Image, error) {
	var brief struct {
		Image
		History json.RawMessage `json:"history"`
	}
	return parseImage(raw, &brief, &brief.Image)
}

// parseImage decodes raw into what, of which img is a part, and checks that.
func parseImage(raw []byte, what any, img *Image) (*Image, error) {
	if len(raw) > MaxConfig {
		return nil, fmt.Errorf("image config of %d bytes (at most %d): %w", len(raw), MaxConfig, errdef.ErrLimit)
	}
	if err := json.Unmarshal(raw, what); err != nil {
		return nil, fmt.Errorf("image config: %w: %w", errdef.ErrInvalid, err)
	}
	if img.RootFS.Type != "" && img.RootFS.Type != "layers" {
		return nil, fmt.Errorf("image config: rootfs of type %.40q: %w", img.RootFS.Type, errdef.ErrUnsupported)
	}
	for _, id := range img.RootFS.DiffIDs {
		if _, err := ParseDiffID(string(id)); err != nil {
			return nil, fmt.Errorf("image config: diff_ids: %w", err)
		}
	}
	return img, nil
}

// Marshal gives the config's one encoding: compact JSON without HTML escapes. Its sha256 is the image's id.
func (img *Image) Marshal() ([]byte, error) { return Marshal(img) }

// Marshal is the encoding of every document that strata gives a digest: compact JSON, keys in struct order, no HTML escapes.
func Marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// Clone is a deep copy.
func (img *Image) Clone() *Image {
	raw, err := json.Marshal(img)
	if err != nil {
		panic(err) // plain data: cannot fail
	}
	var c Image
	if err := json.Unmarshal(raw, &c); err != nil {
		panic(err)
	}
	return &c
}

// ParseManifest decodes and checks an image manifest (OCI or docker schema 2; the two have the same shape).
func ParseManifest(raw []byte) (*ocispec.Manifest, error) {
	if len(raw) > MaxManifest {
		return nil, fmt.Errorf("manifest of %d bytes (at most %d): %w", len(raw), MaxManifest, errdef.ErrLimit)
	}
	var m struct {
		ocispec.Manifest
		Manifests json.RawMessage `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("manifest: %w: %w", errdef.ErrInvalid, err)
	}
	if said(m.Manifests) {
		return nil, errBoth
	}
	for _, d := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
		if _, err := ParseDigest(string(d.Digest)); err != nil {
			return nil, fmt.Errorf("manifest: %w", err)
		}
		if d.Size < 0 {
			return nil, fmt.Errorf("manifest: %s has size %d: %w", d.Digest, d.Size, errdef.ErrInvalid)
		}
	}
	return &m.Manifest, nil
}

// errBoth is a document that some read as a manifest and others as an index, so that its digest stands for two things.
var errBoth = fmt.Errorf("it is a manifest and an index at once: %w", errdef.ErrInvalid)

// said reports whether a document has a field, and not null.
func said(field json.RawMessage) bool { return len(field) > 0 && string(field) != "null" }
