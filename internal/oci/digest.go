package oci

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"strata/internal/errdef"
)

// DiffID is the sha256 digest of a layer's uncompressed tar ("sha256:<64 hex>").
// See image-spec, config.md, "Layer DiffID".
type DiffID digest.Digest

// ChainID names a stack of layers: ChainID(L0) = DiffID(L0), ChainID(L0|…|Ln) = digest(ChainID(L0|…|Ln-1) + " " + DiffID(Ln)).
// See image-spec, config.md, "Layer ChainID". The empty stack has the empty ChainID.
type ChainID digest.Digest

// Hex is the digest without its algorithm, fit as a file name.
func (d DiffID) Hex() string { return digest.Digest(d).Encoded() }

// Hex is the digest without its algorithm, fit as a file name.
func (c ChainID) Hex() string { return digest.Digest(c).Encoded() }

func (d DiffID) String() string  { return string(d) }
func (c ChainID) String() string { return string(c) }

// EmptyLayer is the DiffID of a tar of two zero blocks, which docker writes for a layer without entries.
const EmptyLayer DiffID = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"

// Chain gives the ChainID of the stack, base first.
func Chain(layers []DiffID) ChainID {
	var chain ChainID
	for i, l := range layers {
		if i == 0 {
			chain = ChainID(l)
			continue
		}
		chain = ChainID(digest.FromString(string(chain) + " " + string(l)))
	}
	return chain
}

// ParseDigest checks that s is a sha256 digest in canonical form: strata stores no other algorithm.
func ParseDigest(s string) (digest.Digest, error) {
	hex, ok := strings.CutPrefix(s, "sha256:")
	if !ok || !IsHex(hex) || len(hex) != 64 {
		return "", fmt.Errorf("digest %.80q: want sha256: and 64 hex digits: %w", s, errdef.ErrInvalid)
	}
	return digest.Digest(s), nil
}

// ParseDiffID is [ParseDigest] for a DiffID.
func ParseDiffID(s string) (DiffID, error) {
	d, err := ParseDigest(s)
	return DiffID(d), err
}

// IsHex reports whether s is not empty and all lower-case hexadecimal digits.
func IsHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return s != ""
}
