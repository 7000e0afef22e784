package build

import (
	"encoding/json"
	"slices"
	"testing"

	"strata/internal/oci"
)

// TestPlainState holds that the quick way of reading a state gives what the general one gives, or nothing.
func TestPlainState(t *testing.T) {
	id := oci.DiffID("sha256:" + "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")
	for _, layers := range [][]oci.DiffID{nil, {id}, {id, id, id}} {
		raw, err := state{layers}.encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeState(raw)
		if err != nil || !slices.Equal(got.Layers, layers) {
			t.Errorf("%s: %v, %v", raw, got, err)
		}
		if _, plain := plainState(raw); plain != (len(layers) > 0) {
			t.Errorf("%s: plain %t", raw, plain)
		}
	}
	for _, raw := range []string{
		`{"layers":["a\u002cb"]}`, `{"layers":["a"],"more":["b"]}`, `{"layers":["a","b]}`, `{"layers":["` + string(id) + `","x"]}`, `{"layers":["` + string(id) + `" ]}`,
	} {
		var want state
		wrong := json.Unmarshal([]byte(raw), &want) != nil || slices.ContainsFunc(want.Layers, func(l oci.DiffID) bool { return l != id })
		got, err := decodeState([]byte(raw))
		if (err != nil) != wrong || !wrong && !slices.Equal(got.Layers, want.Layers) {
			t.Errorf("%s: %v, %v", raw, got, err)
		}
	}
}
