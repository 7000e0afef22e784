package atomicfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"strata/internal/errdef"
)

// TestStamp holds that any one flipped bit of a stamped object is noticed, and that it stays JSON.
func TestStamp(t *testing.T) {
	object := []byte(`{"name":"x","n":17}` + "\n")
	raw := Stamp(object)
	var v map[string]any
	if err := json.Unmarshal(raw, &v); err != nil || v["name"] != "x" {
		t.Fatalf("%s: %v", raw, err)
	}
	got, err := Unstamp(bytes.Clone(raw))
	if err != nil || !bytes.Equal(got, object) {
		t.Fatalf("%q, %v", got, err)
	}
	for i := range raw {
		for bit := range 8 {
			bad := bytes.Clone(raw)
			bad[i] ^= 1 << bit
			if _, err := Unstamp(bytes.Clone(bad)); !errors.Is(err, errdef.ErrCorrupt) {
				t.Fatalf("%q passed: %v", bad, err)
			}
			if got, ok := Correct(bad); !ok || !bytes.Equal(got, object) {
				t.Fatalf("byte %d, bit %d: %q was corrected to %q, %v", i, bit, bad, got, ok)
			}
			bad[(i+3)%len(bad)] ^= 2
			if got, ok := Correct(bad); ok && !bytes.Equal(got, object) {
				t.Fatalf("two bits: %q was taken for %q", bad, got)
			}
		}
	}
	if _, err := Unstamp(bytes.Clone(object)); !errors.Is(err, errdef.ErrCorrupt) {
		t.Errorf("without a stamp: %v", err)
	}
	for _, other := range []string{"", "{}", "[1]", `"x"`} {
		if got := Stamp([]byte(other)); string(got) != other {
			t.Errorf("%q became %q", other, got)
		}
	}
}
