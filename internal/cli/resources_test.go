package cli

import (
	"testing"
)

func TestParseCPUs(t *testing.T) {
	for s, want := range map[string]int64{
		"1": 1e9, "1.5": 15e8, ".5": 5e8, "0.000000001": 1, "2.": 2e9, "0": 0,
		"": -1, ".": -1, "1.0000000001": -1, "-1": -1, "x": -1, "1.5x": -1, "1_0": -1, "99999999999999999999": -1,
	} {
		var f cpusFlag
		err := f.Set(s)
		got := int64(f)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %d, want %d (%v)", s, got, want, err)
		}
	}
}

func FuzzParseCPUs(f *testing.F) {
	for _, s := range []string{"1", "1.5", "-1", "é"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var c cpusFlag
		if err := c.Set(s); err == nil && c < 0 {
			t.Errorf("%q: %d", s, c)
		}
	})
}
