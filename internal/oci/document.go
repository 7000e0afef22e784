package oci

import (
	"encoding/json"
	"fmt"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/errdef"
)

// Document is a manifest or index, byte for byte.
type Document struct {
	// Descriptor has the media type, the digest and the size of Raw.
	Descriptor ocispec.Descriptor
	Raw        []byte
}

// Role is what a document is in a copy of an image.
type Role int

// The roles: what the image's name stands for; what that leads to; what is about one of these.
const (
	Root Role = iota
	Part
	Referrer
)

// Links are what a document of any kind refers to: an image's manifest, an index, an artifact, or a kind that is not known
// here and is built like these.
type Links struct {
	// Blobs are the config and the layers, Manifests other documents.
	Blobs, Manifests []ocispec.Descriptor
	// Subject is what the document is about; its Digest is "" without one.
	Subject ocispec.Descriptor
	// ArtifactType says what an artifact is; "" for an image.
	ArtifactType string
	Annotations  map[string]string
}

// ParseLinks finds what a document refers to. Every descriptor has a digest and a size that can be.
func ParseLinks(raw []byte) (Links, error) {
	var doc struct {
		ArtifactType string               `json:"artifactType"`
		Config       *ocispec.Descriptor  `json:"config"`
		Layers       []ocispec.Descriptor `json:"layers"`
		Blobs        []ocispec.Descriptor `json:"blobs"`
		Manifests    []ocispec.Descriptor `json:"manifests"`
		Subject      *ocispec.Descriptor  `json:"subject"`
		Annotations  map[string]string    `json:"annotations"`
	}
	var l Links
	if len(raw) > MaxManifest {
		return l, fmt.Errorf("manifest of %d bytes (at most %d): %w", len(raw), MaxManifest, errdef.ErrLimit)
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return l, fmt.Errorf("manifest: %w: %w", errdef.ErrInvalid, err)
	}
	if len(doc.Manifests) > maxManifests {
		return l, fmt.Errorf("index: %d manifests (at most %d): %w", len(doc.Manifests), maxManifests, errdef.ErrLimit)
	}
	l = Links{Blobs: append(doc.Layers, doc.Blobs...), Manifests: doc.Manifests, ArtifactType: doc.ArtifactType, Annotations: doc.Annotations}
	if doc.Config != nil {
		l.Blobs = append(l.Blobs, *doc.Config)
		if l.ArtifactType == "" && CheckConfigType(doc.Config.MediaType) != nil {
			l.ArtifactType = doc.Config.MediaType
		}
	}
	all := append(l.Blobs[:len(l.Blobs):len(l.Blobs)], l.Manifests...)
	if doc.Subject != nil {
		l.Subject = *doc.Subject
		all = append(all, l.Subject)
	}
	for _, d := range all {
		if _, err := ParseDigest(string(d.Digest)); err != nil {
			return Links{}, fmt.Errorf("manifest: %w", err)
		}
		if d.Size < 0 {
			return Links{}, fmt.Errorf("manifest: %s has size %d: %w", d.Digest, d.Size, errdef.ErrInvalid)
		}
	}
	return l, nil
}

// Elsewhere reports whether a layer lies somewhere else than in the registry that has its manifest, as those of Windows
// once did.
func Elsewhere(d ocispec.Descriptor) bool {
	return len(d.URLs) > 0 || strings.Contains(d.MediaType, "foreign") || strings.Contains(d.MediaType, "nondistributable")
}

// IsDocument reports whether a descriptor in an index is of a document, and not of a blob: some tools list blobs there.
func IsDocument(d ocispec.Descriptor) bool {
	return d.Size <= MaxManifest && (strings.HasSuffix(d.MediaType, "+json") || strings.HasSuffix(d.MediaType, "/json"))
}
