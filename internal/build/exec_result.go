package build

import (
	"encoding/json"

	"strata/internal/oci"
)

// ResultLayers are the layers that a cached result of a build step relies on; none for a result that cannot be read.
// Whoever sweeps the store keeps them as long as the cache entry.
func ResultLayers(result json.RawMessage) []oci.DiffID {
	s, err := decodeState(result)
	if err != nil {
		return nil
	}
	return s.Layers
}
