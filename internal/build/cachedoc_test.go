package build_test

import (
	"testing"

	"strata/internal/build"
)

func FuzzParseCacheConfig(f *testing.F) {
	f.Add([]byte(`{"version":1,"salt":"strata graph 2","layers":[],"entries":[]}`), 0)
	f.Add([]byte(`{"version":1,"salt":"strata graph 2","layers":["sha256:0"],"entries":[{"key":"x","lines":[{"n":"a","v":"b"}],"result":{"layers":["x"]}}]}`), 1)
	f.Add([]byte(`{"version":2}`), 0)
	f.Fuzz(func(t *testing.T, raw []byte, layers int) {
		c, _, err := build.ParseCacheConfig(raw, layers)
		if err != nil {
			return
		}
		if len(c.Layers) != layers {
			t.Errorf("%d layers, the manifest has %d", len(c.Layers), layers)
		}
		for _, e := range c.Entries {
			for _, id := range build.ResultLayers(e.Result) {
				if len(id.Hex()) != 64 {
					t.Errorf("layer %q", id)
				}
			}
		}
	})
}
