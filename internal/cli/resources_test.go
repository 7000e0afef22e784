package cli

import (
	"testing"
)

func TestParseBytes(t *testing.T) {
	for s, want := range map[string]int64{
		"0": 0, "1024": 1024, "32": 32, "32b": 32, "32B": 32, "32k": 32 << 10, "32K": 32 << 10, "32kb": 32 << 10, "32KiB": 32 << 10,
		"32 mb": 32 << 20, "1.5g": 3 << 29, "2t": 2 << 40, "1P": 1 << 50, ".5k": 512,
		"": -1, "k": -1, "-1k": -1, "1e3": -1, "1z": -1, "1kk": -1, "0x10": -1, "9999999p": -1, "1 2": -1, "--": -1, "1.2.3": -1, "inf": -1,
	} {
		got, err := parseBytes(s)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %d, want %d (%v)", s, got, want, err)
		}
	}
}

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

func FuzzParseBytes(f *testing.F) {
	for _, s := range []string{"1k", "1.5g", "-1", "é", "1 kib"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := parseBytes(s); err == nil && n < 0 {
			t.Errorf("%q: %d", s, n)
		}
		var c cpusFlag
		if err := c.Set(s); err == nil && c < 0 {
			t.Errorf("%q: %d", s, c)
		}
	})
}
