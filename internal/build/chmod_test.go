package build

import "testing"

func TestChmod(t *testing.T) {
	for _, c := range []struct {
		text string
		mode uint32
		dir  bool
		want uint32
	}{
		{"0", 0o777, false, 0}, {"0755", 0o600, false, 0o755}, {"4755", 0, true, 0o4755},
		{"u=rwX,go=rX", 0o600, false, 0o644}, {"u=rwX,go=rX", 0o700, false, 0o755}, {"u=rwX,go=rX", 0o600, true, 0o755}, {"u=rwX,go=rX", 0o601, false, 0o755},
		{"u+x", 0o644, false, 0o744}, {"+x", 0o644, false, 0o755}, {"a-w", 0o666, false, 0o444}, {"go=", 0o777, false, 0o700}, {"=r", 0o6777, false, 0o444},
		{"g=u", 0o740, false, 0o770}, {"g=u-w", 0o740, false, 0o750}, {"o+g", 0o751, false, 0o755}, {"u-g", 0o751, false, 0o251}, {"ug+s", 0o755, false, 0o6755},
		{"o+s", 0o755, false, 0o755}, {"+t", 0o755, true, 0o1755}, {"u=rw,g=r,o=", 0o4777, false, 0o640}, {"u+", 0o600, false, 0o600}, {"-X", 0o755, false, 0o644},
		{"u=x+r", 0o777, false, 0o577}, {"u=rg", 0o750, false, 0o550},
	} {
		m, err := parseChmod("COPY", c.text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if got := m.of(c.mode, c.dir); got != c.want {
			t.Errorf("%s of %04o: %04o, want %04o", c.text, c.mode, got, c.want)
		}
	}
	for _, text := range []string{"8", "10000", "u", "u=q", "u+x,", ",u+x", "x", "u=r,,g=r", "0x1", "u=5", "-1", " 755"} {
		if _, err := parseChmod("COPY", text); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
	var none *Chmod
	octal, _ := parseChmod("COPY", "4600")
	words, _ := parseChmod("COPY", "u=rw")
	if none.of(0o7642, true) != 0o7642 || none.newDir() != 0o755 || octal.newDir() != 0o600 || words.newDir() != 0o755 {
		t.Error("modes of nothing and of new directories")
	}
}

func FuzzChmod(f *testing.F) {
	f.Add("u=rwX,go=rX", uint32(0o755))
	f.Add("+t-s=ugo", uint32(0o1755))
	f.Fuzz(func(t *testing.T, text string, mode uint32) {
		m, err := parseChmod("COPY", text)
		if err != nil || m == nil {
			return
		}
		if got := m.of(mode&0o7777, mode&0x8000 != 0); got > 0o7777 {
			t.Fatalf("%q: %o", text, got)
		}
	})
}
