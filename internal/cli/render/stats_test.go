package render_test

import (
	"strings"
	"testing"

	"strata/internal/cli/render"
)

// What docker 28 prints.
func TestStatsListing(t *testing.T) {
	rows := []render.StatsRow{{
		ID: "aaaaaaaaaaaa", Container: "aaaaaaaaaaaa", Name: "web", CPUPerc: render.Percent(0.07), MemPerc: render.Percent(1.5),
		MemUsage: render.BinarySize(796<<10) + " / " + render.BinarySize(64<<20), NetIO: render.Pair(788, 6), BlockIO: render.Pair(3568000, 512000), PIDs: "2",
	}}
	for format, want := range map[string]string{
		"": `
CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT   MEM %     NET I/O     BLOCK I/O        PIDS
aaaaaaaaaaaa   web       0.07%     796KiB / 64MiB      1.50%     788B / 6B   3.57MB / 512kB   2
`,
		"json": `
{"BlockIO":"3.57MB / 512kB","CPUPerc":"0.07%","Container":"aaaaaaaaaaaa","ID":"aaaaaaaaaaaa","MemPerc":"1.50%","MemUsage":"796KiB / 64MiB","Name":"web","NetIO":"788B / 6B","PIDs":"2"}
`,
		`table {{.Name}}\t{{.CPUPerc}}`: `
NAME      CPU %
web       0.07%
`,
		"{{.Container}}: {{.PIDs}}": "\naaaaaaaaaaaa: 2\n",
	} {
		var b strings.Builder
		if err := render.Rows(&b, render.List{Format: format, Columns: render.StatsColumns()}, rows); err != nil || "\n"+b.String() != want {
			t.Errorf("%s: %v\n%s", format, err, b.String())
		}
	}
}

func TestProcesses(t *testing.T) {
	var b strings.Builder
	err := render.Processes(&b, []string{"PID", "CMD"}, [][]string{{"1", "sh -c \x1b[2J"}})
	if want := "PID                 CMD\n1                   sh -c "; err != nil || !strings.HasPrefix(b.String(), want) || strings.Contains(b.String(), "\x1b") {
		t.Errorf("%q %v", b.String(), err)
	}
}

// TestScreenElsewhere: what is no terminal gets no control sequences.
func TestScreenElsewhere(t *testing.T) {
	var b strings.Builder
	s := render.NewScreen(&b)
	for range 2 {
		if err := s.Show([]byte("a\nb\n")); err != nil {
			t.Fatal(err)
		}
	}
	if b.String() != "a\nb\na\nb\n" {
		t.Errorf("%q", b.String())
	}
}
