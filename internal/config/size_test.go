package config

import "testing"

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int64{
		"0": 0, "1024": 1024, "32": 32, "32b": 32, "32B": 32, "32k": 32 << 10, "32K": 32 << 10, "32kb": 32 << 10, "32KiB": 32 << 10,
		"32 mb": 32 << 20, "1.5g": 3 << 29, "2t": 2 << 40, "1P": 1 << 50, ".5k": 512,
		"": -1, "k": -1, "-1k": -1, "1e3": -1, "1z": -1, "1kk": -1, "0x10": -1, "9999999p": -1, "1 2": -1, "--": -1, "1.2.3": -1, "inf": -1,
	} {
		got, err := ParseSize(s)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %d, want %d (%v)", s, got, want, err)
		}
	}
}

func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"1k", "1.5g", "-1", "é", "1 kib"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ParseSize(s); err == nil && n < 0 {
			t.Errorf("%q: %d", s, n)
		}
	})
}

// FuzzStrict holds that whatever stands in a file is read or refused.
func FuzzStrict(f *testing.F) {
	for _, s := range []string{"runtime = 'x'", "[log]\nmax-file = 3", "[ulimits]\nnofile = '1'", "log.driver = 3"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c := Default()
		c.origins = map[string]string{}
		if c.read("f", data) == nil {
			c.Settings()
		}
	})
}
