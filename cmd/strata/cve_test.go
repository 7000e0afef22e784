//go:build linux

package main_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// failures are known failures of other engines, each of which a test holds impossible here.
const failures = `2018-15664 2019-5736 2019-14271 2019-16884 2020-15257 2021-21285 2021-30465 2021-41089 2021-41091 2021-41190
2022-24769 2022-29162 2022-36109 2023-25173 2024-1753 2024-3727 2024-9407 2024-9675 2024-11218 2024-21626 2024-23651 2024-23652
2024-23653 2024-25621 2024-29018 2024-40635 2025-11395 2025-31133 2025-47290 2025-52565 2025-52881 2026-41567 2026-41579
2026-47766 2026-53488`

// TestCVETable holds that the threat model names a test for each of them, that it is there, and that it names the number.
func TestCVETable(t *testing.T) {
	raw, err := os.ReadFile("../../docs/design/threat-model.md")
	if err != nil {
		t.Skip("no docs beside the tests")
	}
	rows := map[string]string{}
	for line := range strings.Lines(string(raw)) {
		f := strings.Split(line, "|")
		if len(f) > 3 && strings.HasPrefix(strings.TrimSpace(f[1]), "CVE-") {
			rows[strings.TrimPrefix(strings.TrimSpace(f[1]), "CVE-")] = f[3]
		}
	}
	script := regexp.MustCompile("script `([a-z0-9_]+)`")
	for _, number := range strings.Fields(failures) {
		found := false
		for _, m := range script.FindAllStringSubmatch(rows[number], -1) {
			text, err := os.ReadFile(filepath.Join("testdata/script", m[1]+".txt"))
			if err != nil {
				t.Errorf("CVE-%s: %v", number, err)
			}
			found = found || strings.Contains(string(text), number)
		}
		if !found {
			t.Errorf("CVE-%s: no script that names it stands in the threat model: %q", number, rows[number])
		}
	}
}
